"""Bad requests to the running service."""

import pytest
from service_calls import SEARCH, code


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
        assert code(answer) in ((400, "bad_json"), (422, "invalid"))
        assert answer.json()["error"]["message"]


def test_a_query_of_two_megabytes_is_refused(a):
    assert code(a.post(SEARCH, json={"query": "x" * 2_000_000})) == (413, "too_large")

    def parts():
        for _ in range(200):
            yield b"x" * 10_000

    answer = a.post(SEARCH, content=parts(), headers={"content-type": "application/json"})
    assert code(answer) == (413, "too_large")
