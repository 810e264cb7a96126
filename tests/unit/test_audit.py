"""The audit log: a line for each call, with ids and counts, and no word of anybody."""

import json
import os

import pytest
from PIL import Image
from service_parts import keys_in, profile_in, run_service

from serve.audit import AuditLog

WORDS = ("xylophone", "zeppelin", "Annabel", "quagmire", "kumquat")
"""In a text, a query, a speaker's name, a title and a caption."""


def record(name, picture):
    image = {"image_id": 0, "uri": str(picture), "caption": WORDS[4]}
    turn = {"speaker": WORDS[2], "text": f"harbor {WORDS[0]}", "images": [image]}
    return {"dialogue_id": name, "title": WORDS[3], "turns": [{"turn_id": 0, **turn}]}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The log of one session of calls."""
    folder = tmp_path_factory.mktemp("audit")
    picture = folder / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    keys, ring = keys_in(
        folder, ("shop", "acme", "search", "write"), ("reader", "acme", "search"),
        ("rival", "other", "search", "write"),
    )  # fmt: skip

    async def work(ask):
        query = {"query": f"harbor {WORDS[1]}", "filters": {"participants": [WORDS[2]]}}
        for name in ("d/1", "d2"):
            answer = await ask("shop", "POST", "/v1/dialogues", json=record(name, picture))
            assert answer.status_code == 201
        found = (await ask("shop", "POST", "/v1/search", json=query)).json()
        await ask("reader", "POST", "/v1/search/stream", json=query)
        await ask("rival", "POST", "/v1/search", json=query)
        await ask("reader", "GET", "/v1/dialogues/d%2F1")
        address = found["dialogues"][0]["turns"][0]["images"][0]["url"]
        assert (await ask(None, "GET", address)).status_code == 200
        await ask("reader", "DELETE", "/v1/dialogues/d2")
        await ask("shop", "DELETE", "/v1/dialogues/d2")
        await ask("rival", "GET", "/v1/dialogues/d2")
        await ask(None, "POST", "/v1/search", json=query)
        await ask("shop", "GET", "/v1/stats")
        await ask(None, "GET", "/healthz")

    profile = profile_in(folder, audit=str(folder / "logs" / "audit.jsonl"))
    run_service(profile, ring, work, keys)
    text = (folder / "logs" / "audit.jsonl").read_text()
    assert [key for key in keys.values() if key in text] == []
    return [json.loads(line) for line in text.splitlines()]


def test_each_call_of_the_api_is_one_line_about_who_and_what(lines):
    said = [
        (x["tenant"], x["key"], x["method"], x["status"], x.get("dialogue_ids", [])) for x in lines
    ]
    both = ["d/1", "d2"]
    assert [(*x[:4], sorted(x[4])) for x in said] == [
        ("acme", "shop", "POST", 201, ["d/1"]),
        ("acme", "shop", "POST", 201, ["d2"]),
        ("acme", "shop", "POST", 200, both),
        ("acme", "reader", "POST", 200, both),
        ("other", "rival", "POST", 200, []),
        ("acme", "reader", "GET", 200, ["d/1"]),
        ("acme", None, "GET", 200, [said[6][4][0]]),
        ("acme", "reader", "DELETE", 403, []),
        ("acme", "shop", "DELETE", 200, ["d2"]),
        ("other", "rival", "GET", 404, []),
        (None, None, "POST", 401, []),
        ("acme", "shop", "GET", 200, []),
    ]
    assert lines[6]["image_id"] == 0
    assert lines[2]["candidates"] == 2
    assert lines[8]["route"] == "/v1/dialogues/{dialogue_id:path}"
    assert len({x["request_id"] for x in lines}) == len(lines)


def test_no_text_query_name_title_or_caption_enters(lines):
    text = json.dumps(lines, ensure_ascii=False)
    assert [word for word in WORDS if word.lower() in text.lower()] == []
    assert {key for line in lines for key in line} == {
        *("time", "request_id", "tenant", "key", "method", "route", "status"),
        *("dialogue_ids", "image_id", "candidates", "change"),
    }


def test_a_rotated_file_is_opened_anew(tmp_path):
    log = AuditLog(str(tmp_path / "a.jsonl"))
    log.write({"n": 1})
    os.rename(tmp_path / "a.jsonl", tmp_path / "a.jsonl.1")
    log.write({"n": 2})
    log.close()
    assert json.loads((tmp_path / "a.jsonl.1").read_text())["n"] == 1
    assert json.loads((tmp_path / "a.jsonl").read_text())["n"] == 2


def test_the_target_may_be_the_standard_output_or_nothing(capsys):
    AuditLog("").write({"n": 1})
    assert not AuditLog("").on
    assert capsys.readouterr().out == ""
    AuditLog("stdout").write({"n": 2})
    assert json.loads(capsys.readouterr().out)["n"] == 2


def test_profiles_of_servers_log_and_the_laptop_does_not():
    from ffr_core.profile import load_profile

    logged = {name: load_profile(name).serve.audit for name in ("laptop", "server", "paper")}
    assert logged == {"laptop": "", "server": "stdout", "paper": "stdout"}
