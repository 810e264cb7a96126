"""The service as `ffrs serve` starts it: real HTTP, real Ray Serve, three keys, two tenants."""

from service_calls import events, found, ids
from service_process import ODD_ID

# ---- health, documentation, page


def test_health_needs_no_key(service):
    with service.client(None) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").json() == {"status": "ready"}
        for path in ("/", "/healthz", "/readyz"):
            assert (http.head(path).status_code, http.head(path).content) == (200, b"")


def test_every_route_is_documented(service):
    with service.client(None) as http:
        document = http.get("/openapi.json").json()
    routes = {(method, path) for path, item in document["paths"].items() for method in item}
    assert {
        ("post", "/v1/search"),
        ("post", "/v1/search/stream"),
        ("post", "/v1/dialogues"),
        ("get", "/v1/dialogues/{dialogue_id}"),
        ("delete", "/v1/dialogues/{dialogue_id}"),
        ("get", "/v1/dialogues/{dialogue_id}/images/{image_id}"),
        ("get", "/v1/stats"),
        ("get", "/healthz"),
        ("get", "/readyz"),
    } <= routes
    for item in document["paths"].values():
        assert all(operation.get("description") for operation in item.values())
    assert document["components"]["schemas"]["DialogueIn"]["examples"]


# ---- search


def test_the_answer_has_the_documented_form(a):
    answer = found(a, "sailing boat", limit=2)
    assert set(answer) == {"query", "filters", "partial", "took_ms", "total", "dialogues"}
    assert answer["partial"] is False
    assert answer["took_ms"] > 0
    best = answer["dialogues"][0]
    assert best["dialogue_id"] == "boats"
    assert set(best) == {"dialogue_id", "title", "score", "spans", "turns"}
    assert 0 < best["score"] <= 1
    lit = {t["turn_id"] for t in best["turns"] if t["matched"]}
    assert lit
    assert lit <= {i for start, end in best["spans"] for i in range(start, end)}
    turn = best["turns"][0]
    assert turn["speaker"] == "Ann"
    assert turn["timestamp"] == "2025-03-01T08:00:00+00:00"
    assert turn["images"][0]["url"].startswith("/v1/dialogues/boats/images/0?")
    assert len(answer["dialogues"]) <= 2


def test_filters_narrow_the_answer(a):
    assert set(ids(found(a, "harbor", filters={"dialogue_ids": [ODD_ID]}))) == {ODD_ID}
    assert set(ids(found(a, "the boat", filters={"has_image": True}))) == {"boats"}
    late = {"since": "2025-03-02T00:00:00Z", "until": "2025-03-03T00:00:00Z"}
    answer = found(a, "milestone on the road", filters={**late, "participants": ["Cleo"]})
    assert ids(answer) == ["long-road"]
    assert answer["filters"]["participants"] == ["Cleo"]
    assert found(a, "boat", filters={"participants": ["Nobody"]})["dialogues"] == []


def test_the_stream_tells_each_dialogue_once_and_ends_with_the_order(a):
    body = {"query": "harbor lantern in the fog", "limit": 3}
    told = events(a, body)
    names = [name for name, _ in told]
    assert names == ["dialogue"] * (len(told) - 1) + ["done"]
    seen = [data["dialogue_id"] for name, data in told if name == "dialogue"]
    assert len(seen) == len(set(seen)) >= 3
    done = told[-1][1]
    assert done["total"] > 3
    assert done["partial"] is False
    answer = found(a, **body)
    assert done["order"] == ids(answer)
    by_id = {data["dialogue_id"]: data for _, data in told[:-1]}
    for dialogue in answer["dialogues"]:
        assert by_id[dialogue["dialogue_id"]]["spans"] == dialogue["spans"]


def test_the_ends_of_time_are_times(a):
    filters = {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-12:00"}
    assert "boats" in ids(found(a, "sailing boat", filters=filters))
