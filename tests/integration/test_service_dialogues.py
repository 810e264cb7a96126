"""Adding, reading and deleting dialogues of the running service."""

from urllib.parse import quote

import pytest
from service_calls import code, found, ids, path_of
from service_process import ATTACK, ODD_ID, record


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
