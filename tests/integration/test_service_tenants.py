"""Keys and tenants of the running service."""

import json

import httpx
import pytest
from service_calls import BOATS, SEARCH, code, events, found, ids
from service_process import SECRET, record


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
