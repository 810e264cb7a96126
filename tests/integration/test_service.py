"""The service as `ffrs serve` starts it: real HTTP, real Ray Serve, three keys, two tenants."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import quote

import httpx
import pytest
from service_process import ATTACK, ODD_ID, SECRET, record

SEARCH = "/v1/search"
BOATS = {"query": "sailing boat"}


@pytest.fixture(scope="module")
def a(service):
    with service.client("a") as http:
        yield http


@pytest.fixture(scope="module")
def b(service):
    with service.client("b") as http:
        yield http


def path_of(dialogue_id):
    return f"/v1/dialogues/{quote(dialogue_id, safe='')}"


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def found(http, query, **options):
    answer = http.post(SEARCH, json={"query": query, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer):
    return [dialogue["dialogue_id"] for dialogue in answer["dialogues"]]


def events(http, body):
    """(event, data) of a stream, in order."""
    with http.stream("POST", "/v1/search/stream", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(lines[0][len("event: ") :], json.loads(lines[1][len("data: ") :])) for lines in blocks]


# ---- health, documentation, page


def test_health_needs_no_key(service):
    with service.client(None) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").json() == {"status": "ready"}


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
    assert set(answer) == {"query", "filters", "partial", "took_ms", "dialogues"}
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
    assert len(seen) == len(set(seen)) > 3
    done = told[-1][1]
    assert done["partial"] is False
    answer = found(a, **body)
    assert done["order"] == ids(answer)
    by_id = {data["dialogue_id"]: data for _, data in told[:-1]}
    for dialogue in answer["dialogues"]:
        assert by_id[dialogue["dialogue_id"]]["spans"] == dialogue["spans"]


def test_the_ends_of_time_are_times(a):
    filters = {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-12:00"}
    assert "boats" in ids(found(a, "sailing boat", filters=filters))


# ---- bad requests


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", SEARCH, {}, (422, "invalid")),
        ("POST", SEARCH, {"query": "   "}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x" * 4001}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "num_candidates": 101}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "num_candidates": 0}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "limit": 51}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "tenant": "tenant-b"}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "filters": {"since": 1e300}}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "num_candidates": 1e300}, (422, "invalid")),
        ("POST", SEARCH, {"query": "x", "filters": {"participants": ["\x00"]}}, (422, "invalid")),
        (
            "POST",
            SEARCH,
            {
                "query": "x",
                "filters": {"since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"},
            },
            (422, "invalid"),
        ),
        ("POST", "/v1/search/stream", {"query": ""}, (422, "invalid")),
        ("POST", "/v1/dialogues", {"dialogue_id": "x", "turns": []}, (422, "invalid")),
        (
            "POST",
            "/v1/dialogues",
            {"dialogue_id": "x", "turns": [{"turn_id": 5, "speaker": "A", "text": "b"}]},
            (422, "invalid"),
        ),
        ("GET", "/v1/dialogues/unknown", None, (404, "not_found")),
        ("GET", "/v1/dialogues/boats?around=99", None, (422, "invalid")),
        ("GET", "/v1/dialogues/boats?limit=0", None, (422, "invalid")),
        ("GET", "/v1/dialogues/boats?limit=201", None, (422, "invalid")),
        ("GET", "/v1/dialogues/boats?around=x", None, (422, "invalid")),
        ("GET", "/v1/dialogues/boats/images/7", None, (404, "not_found")),
        ("DELETE", "/v1/dialogues/unknown", None, (404, "not_found")),
        ("GET", f"/v1/dialogues/boats/images/{'9' * 5000}", None, (404, "not_found")),
        ("GET", f"/v1/dialogues/boats?around={'9' * 5000}", None, (422, "invalid")),
        ("GET", "/v1/dialogues/", None, (404, "not_found")),
        ("GET", "/v1/dialogues/%00%FF", None, (404, "not_found")),
        ("GET", "/v1/nothing", None, (404, "not_found")),
        ("GET", SEARCH, None, (405, "method_not_allowed")),
    ],
)
def test_a_bad_request_is_one_sentence(a, method, path, body, expected):
    answer = a.request(method, path, json=body)
    assert code(answer) == expected
    message = answer.json()["error"]["message"]
    assert 10 < len(message) < 400
    assert "Traceback" not in message


def test_only_json_that_parses_is_read(a):
    answer = a.post(SEARCH, content=b"query=x", headers={"content-type": "text/plain"})
    assert code(answer) == (415, "not_json")
    deep = b'{"query": ' + b"[" * 50_000 + b"}"
    huge = b'{"query": "x", "limit": ' + b"9" * 5000 + b"}"
    for broken in (b'{"query": ', b"\xff\xfe", b"", b"[]", b"null", deep, huge):
        answer = a.post(SEARCH, content=broken, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]["message"]


def test_a_query_of_two_megabytes_is_refused(a):
    assert code(a.post(SEARCH, json={"query": "x" * 2_000_000})) == (413, "too_large")

    def parts():
        for _ in range(200):
            yield b"x" * 10_000

    answer = a.post(SEARCH, content=parts(), headers={"content-type": "application/json"})
    assert code(answer) == (413, "too_large")


# ---- keys and tenants


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", SEARCH, BOATS),
        ("POST", "/v1/search/stream", BOATS),
        ("POST", "/v1/dialogues", record("x", ["y"])),
        ("GET", "/v1/dialogues/boats", None),
        ("GET", "/v1/dialogues/boats/images/0", None),
        ("DELETE", "/v1/dialogues/boats", None),
        ("GET", "/v1/stats", None),
    ],
)
def test_nothing_answers_without_a_valid_key(service, method, path, body):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic YTpi"}):
        answer = httpx.request(method, service.url + path, json=body, headers=headers)
        assert code(answer) == (401, "unauthorized")


def test_a_reading_key_cannot_write(service):
    with service.client("a_reader") as http:
        assert http.get("/v1/stats").status_code == 200
        assert code(http.post("/v1/dialogues", json=record("x", ["y"]))) == (403, "forbidden")
        assert code(http.delete("/v1/dialogues/boats")) == (403, "forbidden")
        assert http.get("/v1/dialogues/boats").status_code == 200


def test_a_key_may_come_in_its_own_header(service):
    headers = {"x-api-key": service.keys["b"]}
    assert httpx.get(f"{service.url}/v1/stats", headers=headers).json()["dialogues"] == 2


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"participants": ["Zoe"]},
        {"has_image": True},
        {"dialogue_ids": ["hidden", "boats"]},
        {"since": "2020-01-01T00:00:00Z"},
        {"until": "2030-01-01T00:00:00Z"},
        {"participants": ['Zoe" or tenant != "x']},
        {"dialogue_ids": ['hidden" or tenant != "x']},
    ],
)
def test_no_search_crosses_tenants(a, b, filters):
    body = {"query": SECRET, "filters": filters}
    answer = found(a, **body)
    assert SECRET not in json.dumps(answer["dialogues"])
    streamed = events(a, body)
    assert SECRET not in json.dumps([data for name, data in streamed if name == "dialogue"])
    assert "hidden" not in ids(answer)
    if filters in ({}, {"participants": ["Zoe"]}, {"dialogue_ids": ["hidden", "boats"]}):
        assert SECRET in json.dumps(found(b, **body)["dialogues"])


def test_no_read_image_count_or_delete_crosses_tenants(a, b):
    assert a.get("/v1/dialogues/hidden").status_code == 404
    assert a.get("/v1/dialogues/hidden/images/0").status_code == 404
    assert a.delete("/v1/dialogues/hidden").status_code == 404
    assert b.get("/v1/dialogues/hidden").status_code == 200
    assert b.get("/v1/stats").json()["dialogues"] == 2
    assert SECRET in b.get("/v1/dialogues/boats").text
    assert SECRET not in a.get("/v1/dialogues/boats").text


def test_replacing_and_deleting_touch_only_the_own_tenant(a, b):
    assert a.post("/v1/dialogues", json=record("shared", ["mine"])).status_code == 201
    assert b.post("/v1/dialogues", json=record("shared", ["theirs"])).status_code == 201
    assert a.post("/v1/dialogues", json=record("shared", ["changed"])).status_code == 200
    assert b.get("/v1/dialogues/shared").json()["turns"][0]["text"] == "theirs"
    assert a.delete("/v1/dialogues/shared").status_code == 200
    assert b.get("/v1/dialogues/shared").status_code == 200
    assert b.delete("/v1/dialogues/shared").status_code == 200


# ---- adding, reading, deleting


def test_a_dialogue_lives_through_all_its_states(a):
    first = record("life", ["a quiet beginning"])
    answer = a.post("/v1/dialogues", json=first)
    assert (answer.status_code, answer.json()["change"]) == (201, "indexed")
    assert answer.json()["fragments"] == 1
    assert a.post("/v1/dialogues", json=first).json()["change"] == "unchanged"
    answer = a.post("/v1/dialogues", json=record("life", ["a loud pelican", "indeed"]))
    assert (answer.status_code, answer.json()["change"]) == (200, "updated")
    assert a.get("/v1/dialogues/life").json()["num_turns"] == 2
    assert "life" in ids(found(a, "loud pelican"))
    assert a.delete("/v1/dialogues/life").json() == {"dialogue_id": "life", "deleted": True}
    assert a.get("/v1/dialogues/life").status_code == 404
    assert "life" not in ids(found(a, "loud pelican"))
    assert code(a.post("/v1/dialogues", json=first)) == (409, "conflict")
    answer = a.post("/v1/dialogues?restore=true", json=first)
    assert (answer.status_code, answer.json()["change"]) == (201, "indexed")
    assert a.delete("/v1/dialogues/life").status_code == 200


@pytest.mark.parametrize("name", [ODD_ID, "a/images/0", "50%", "\U0001f642 emoji", "a b+c&d=e"])
def test_odd_ids_work_everywhere(a, name):
    if name != ODD_ID:
        assert a.post("/v1/dialogues", json=record(name, ["an odd name"])).status_code == 201
    page = a.get(path_of(name))
    assert page.status_code == 200
    assert page.json()["dialogue_id"] == name
    assert a.get(path_of(name) + "?around=0&limit=1").json()["start"] == 0
    assert set(ids(found(a, "name lighthouse", filters={"dialogue_ids": [name]}))) <= {name}
    if name != ODD_ID:
        assert a.delete(path_of(name)).json()["dialogue_id"] == name
        assert a.get(path_of(name)).status_code == 404


def test_literal_slashes_work_too(a):
    assert a.get(f"/v1/dialogues/{quote(ODD_ID)}").json()["dialogue_id"] == ODD_ID


@pytest.mark.parametrize(
    ("query", "start", "length"),
    [
        ("", 0, 50),
        ("?limit=10", 0, 10),
        ("?around=70&limit=20", 60, 20),
        ("?around=3&limit=20", 0, 20),
        ("?around=149&limit=20", 130, 20),
        ("?start=140&limit=20", 140, 10),
    ],
)
def test_a_long_dialogue_is_read_in_pages(a, query, start, length):
    page = a.get(f"/v1/dialogues/long-road{query}").json()
    assert page["num_turns"] == 150
    assert page["participants"] == ["Ann", "Ben", "Cleo"]
    assert page["start"] == start
    assert [turn["turn_id"] for turn in page["turns"]] == list(range(start, start + length))


def test_markup_comes_back_as_text(a):
    page = a.get("/v1/dialogues/attack").json()
    assert page["turns"][0]["text"] == ATTACK
    assert page["title"] == ATTACK
    answer = found(a, "what does pwned mean", filters={"dialogue_ids": ["attack"]})
    assert {t["text"] for d in answer["dialogues"] for t in d["turns"]} <= {
        ATTACK,
        "what does pwned mean?",
    }


# ---- images


def test_an_image_has_an_address_that_needs_no_key(service, a):
    url = a.get("/v1/dialogues/boats").json()["turns"][0]["images"][0]["url"]
    answer = httpx.get(service.url + url)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize(
    ("old", "new"),
    [("boats", "hidden"), ("images/0", "images/1"), ("t=tenant-a", "t=tenant-b"), ("e=", "e=9")],
)
def test_a_changed_address_is_refused(service, a, old, new):
    url = a.get("/v1/dialogues/boats").json()["turns"][0]["images"][0]["url"]
    assert old in url
    assert code(httpx.get(service.url + url.replace(old, new))) == (403, "forbidden")


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("{folder}/outside.png", 403),
        ("{folder}/images/a/../../outside.png", 403),
        ("{folder}/images/a/link.png", 403),
        ("{folder}/images/b/photo.png", 403),
        ("file:///etc/passwd", 403),
        ("/etc/passwd", 403),
        ("s3://elsewhere/x.png", 403),
        ("gopher://x/y", 403),
        ("{folder}/images/a/bomb.png", 413),
        ("{folder}/images/a/text.png", 422),
        ("{folder}/images/a/none.png", 422),
    ],
)
def test_images_that_may_not_be_opened_are_refused(service, a, uri, status):
    uri = uri.format(folder=service.folder)
    answer = a.post("/v1/dialogues", json=record("sneaky", ["look"], images={0: uri}))
    assert answer.status_code == status, answer.text
    assert a.get("/v1/dialogues/sneaky").status_code == 404


def test_a_web_reference_is_kept_and_never_fetched(a):
    item = record("linked", ["look"], images={0: "https://example.invalid/x.png"})
    assert a.post("/v1/dialogues", json=item).status_code == 201
    assert a.get("/v1/dialogues/linked").json()["turns"][0]["images"][0]["url"] is None
    assert a.get("/v1/dialogues/linked/images/0").status_code == 404
    a.delete("/v1/dialogues/linked")


# ---- load, failures


def test_overload_is_a_429_with_advice(service):
    async def crowd():
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        limits = httpx.Limits(max_connections=80)
        async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits) as http:
            body = {"query": "harbor lantern", "num_candidates": 50}
            url = service.url + SEARCH
            return await asyncio.gather(*(http.post(url, json=body) for _ in range(60)))

    answers = asyncio.run(crowd())
    by_status = {answer.status_code: answer for answer in answers}
    assert set(by_status) == {200, 429}
    assert code(by_status[429]) == (429, "overloaded")
    assert int(by_status[429].headers["retry-after"]) >= 1


def test_a_client_that_leaves_ends_its_search(service, a):
    broken = 'ffrs_searches_total{outcome="broken_off"}'
    before = service.metric(broken)
    replicas = service.replicas("Localizer")
    for replica in replicas:
        replica.suspend()
    try:
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{service.url}/v1/search/stream", json=BOATS, headers=headers, timeout=0.5)
        deadline = time.monotonic() + 5
        while service.metric(broken) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert service.metric(broken) == before + 1
    finally:
        for replica in replicas:
            replica.resume()
    assert found(a, "sailing boat")["dialogues"]


def test_localizers_that_do_not_answer_make_the_answer_partial(service, a):
    replicas = service.replicas("Localizer")
    assert len(replicas) == 2
    for replica in replicas:
        replica.suspend()
    try:
        answer = found(a, "sailing boat", num_candidates=1)
    finally:
        for replica in replicas:
            replica.resume()
    assert answer["partial"] is True
    assert answer["dialogues"] == []
    again = found(a, "sailing boat", num_candidates=1)
    assert again["partial"] is False
    assert "boats" in ids(again)


def test_a_localizer_that_dies_is_replaced_within_the_search(service, a):
    expected = ids(found(a, "harbor lantern"))
    first, _ = service.replicas("Localizer")
    first.suspend()

    async def search_while_it_dies():
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            body = {"query": "harbor lantern"}
            searches = [
                asyncio.create_task(http.post(service.url + SEARCH, json=body)) for _ in range(4)
            ]
            await asyncio.sleep(0.3)
            os.kill(first.pid, signal.SIGKILL)
            return [answer.json() for answer in await asyncio.gather(*searches)]

    answers = asyncio.run(search_while_it_dies())
    assert [ids(answer) for answer in answers] == [expected] * 4
    assert not any(answer["partial"] for answer in answers)


# ---- what is kept to itself


def test_metrics_count_and_name_nobody(service, a):
    found(a, "sailing boat")
    text = httpx.get(service.metrics).text
    assert 'ffrs_searches_total{outcome="complete"}' in text
    assert 'route="/v1/search"' in text
    assert "boats" not in text
    assert "tenant-a" not in text


def test_logs_hold_no_text_and_no_key(service):
    words = [SECRET, "sailing boat", "pwned", *service.keys.values()]
    files = [path for path in service.folder.rglob("*") if path.suffix in (".log", ".err", ".out")]
    assert len(files) > 5
    for path in [*files, service.folder / "log"]:
        text = path.read_text(errors="replace")
        assert not [word for word in words if word in text], path


def test_an_open_address_needs_keys(tmp_path):
    command = [sys.executable, "-m", "jobs.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "FFRS_KEYS"}
    ended = subprocess.run(
        [*command, "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "without API keys" in ended.stderr
