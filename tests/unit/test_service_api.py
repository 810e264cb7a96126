"""The API of the whole service in one process: streams, dates, people, methods, its document."""

import json
from datetime import datetime

import pytest
from service_parts import keys_in, profile_in, run_service

from ffr_core.parts import build_system
from ffr_core.records import dialogue_from_record
from ffr_core.types import Filters

COURSE = {
    "dialogue_id": "course",
    "turns": [
        {
            "turn_id": i,
            "speaker": "Tobi",
            "text": f"the sailing course in Croatia {i}",
            "timestamp": f"2025-03-{day}T10:00:00Z",
        }
        for i, day in enumerate(("01", "20"))
    ],
}
CROATIA = "sailing course in Croatia"


def kayaks(number):
    """Dialogues of one turn that answer the same query."""
    return [
        {
            "dialogue_id": f"kayak {i}",
            "turns": [{"turn_id": 0, "speaker": "Ann", "text": "rent a kayak " + "now " * i}],
        }
        for i in range(number)
    ]


@pytest.fixture
def call(tmp_path):
    """`call(records, work)` adds dialogues and awaits `work(ask)`."""

    def run(records, work, **serve):
        async def everything(ask):
            for record in records:
                answer = await ask(None, "POST", "/v1/dialogues", json=record)
                assert answer.status_code == 201, answer.text
            return await work(ask)

        return run_service(profile_in(tmp_path, **serve), None, everything, {})

    return run


def search(call, records, body, path="/v1/search"):
    return call(records, lambda ask: ask(None, "POST", path, json=body))


def ids(answer):
    return [dialogue["dialogue_id"] for dialogue in answer.json()["dialogues"]]


# ---- limit


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_the_stream_sends_what_was_among_the_best_and_says_how_many_matched(call, limit):
    async def all_forms(ask):
        body = {"query": "rent a kayak", "limit": limit}
        told = await ask(None, "POST", "/v1/search/stream", json=body)
        answer = await ask(None, "POST", "/v1/search", json=body)
        return told.text, answer, await ask(None, "POST", "/v1/search", json=body | {"limit": 50})

    text, answer, whole = call(kayaks(12), all_forms)
    events = [block.split("\n") for block in text.strip().split("\n\n")]
    sent = [json.loads(data[6:])["dialogue_id"] for name, data in events[:-1]]
    assert {name for name, _ in events[:-1]} == {"event: dialogue"}
    done = json.loads(events[-1][1][6:])
    assert done["order"] == ids(answer)
    assert done["total"] == answer.json()["total"] == 12
    assert len(sent) == len(set(sent))
    assert set(done["order"]) <= set(sent)
    assert len(done["order"]) == min(limit, 12)
    place = {name: i for i, name in enumerate(ids(whole))}
    for number, name in enumerate(sent):
        better = [other for other in sent[:number] if place[other] < place[name]]
        assert len(better) < limit, f"{name} was not among the best {limit} when it was sent"


# ---- dates and people


@pytest.mark.parametrize(
    ("since", "until", "matched"),
    [("01", "31", [0, 1]), ("10", "31", [1]), ("01", "20", [0]), ("10", "11", None)],
)
def test_what_matches_lies_inside_the_dates(call, tmp_path, since, until, matched):
    dates = {"since": f"2025-03-{since}T00:00:00Z", "until": f"2025-03-{until}T00:00:00Z"}
    answer = search(call, [COURSE], {"query": CROATIA, "filters": dates}).json()
    found = [
        [turn["turn_id"] for turn in dialogue["turns"] if turn["matched"]]
        for dialogue in answer["dialogues"]
    ]
    assert found == ([] if matched is None else [matched])
    filters = Filters(**{name: datetime.fromisoformat(at) for name, at in dates.items()})
    with build_system(profile_in(tmp_path)) as system:
        system.add(dialogue_from_record(COURSE))
        answers = system.search(CROATIA, filters=filters)
    assert [list(each.localization.utterances) for each in answers] == found


@pytest.mark.parametrize("name", ["tobi", "TOBI"])
def test_a_person_is_found_in_any_case(call, name):
    body = {"query": CROATIA, "filters": {"participants": [name]}}
    assert ids(search(call, [COURSE], body)) == ["course"]


# ---- methods


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/web/app.js", "/openapi.json"])
def test_what_can_be_got_can_be_asked_for(call, path):
    async def both(ask):
        return [await ask(None, method, path) for method in ("HEAD", "GET")]

    head, got = call([], both)
    assert head.status_code == got.status_code == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"]


def test_a_picture_can_be_asked_for(call):
    answer = call([COURSE], lambda ask: ask(None, "HEAD", "/v1/dialogues/course/images/0"))
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/search", "POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("PATCH", "/v1/dialogues/x", "DELETE, GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(call, method, path, allowed):
    answer = call([], lambda ask: ask(None, method, path, json={}))
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


# ---- documentation


@pytest.fixture
def document(call):
    numbers = {"max_dialogues": 21, "max_candidates": 22, "max_page": 83}
    return call([], lambda ask: ask(None, "GET", "/openapi.json"), **numbers).json()


def test_the_document_names_the_limits_of_this_service(document):
    search = document["components"]["schemas"]["SearchRequest"]["properties"]
    assert search["limit"]["maximum"] == 21
    assert search["num_candidates"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 22,
    }
    page = document["paths"]["/v1/dialogues/{dialogue_id}"]["get"]["parameters"]
    assert {p["name"]: p["schema"].get("maximum") for p in page}["limit"] == 83


def test_the_document_names_every_kind_of_answer(document):
    added = document["paths"]["/v1/dialogues"]["post"]["responses"]
    assert {"200", "201", "4XX", "5XX", "503", "504"} <= set(added)
    assert added["200"]["content"] == added["201"]["content"]
    ready = document["paths"]["/readyz"]["get"]["responses"]["503"]
    assert ready["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")


def test_the_document_says_where_keys_go(document):
    schemes = document["components"]["securitySchemes"]
    assert {(s["type"], s.get("scheme") or s["name"]) for s in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "X-API-Key"),
    }
    operations = [
        (path, operation) for path, item in document["paths"].items() for operation in item.values()
    ]
    pictures = "/v1/dialogues/{dialogue_id}/images/{image_id}"
    assert {} in document["paths"][pictures]["get"]["security"]
    for path, operation in operations:
        assert bool(operation.get("security")) == path.startswith("/v1/"), path


def test_both_ways_to_send_a_key_work(tmp_path):
    keys, ring = keys_in(tmp_path, ("k", "t", "search"))

    async def work(ask):
        other = await ask(None, "GET", "/v1/stats", headers={"x-api-key": keys["k"]})
        return [(await ask(k, "GET", "/v1/stats")).status_code for k in (None, "k")], other

    codes, other = run_service(profile_in(tmp_path), ring, work, keys)
    assert codes == [401, 200]
    assert other.status_code == 200
