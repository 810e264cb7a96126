import json

import pytest
from dataset_parts import short
from typer.testing import CliRunner

from ffr_core.dataset.annotation_page import adopt, build_page, read_annotations
from ffr_core.dataset.steps import write_records
from ffr_core.errors import InputError
from ffr_core.records import read_jsonl, record_from_dialogue
from ffr_core.types import QueryKind, Selection
from jobs.prepare_chatlog import ChatlogConfig, collect, run

NASTY = "</script><script>alert(1)</script> <!-- <b>hi</b>"
CHAT = short(
    "ann-and-bo",
    ["Bo, call 13800138000", NASTY, "see the picture", "and this one 😀", "ok"],
    {2: ["Ann at home"], 3: [None]},
    speakers=("Ann", "Bo"),
)


@pytest.fixture
def chats(tmp_path, monkeypatch):
    monkeypatch.setenv("FFRS_ANONYMISE_KEY", "a very secret key")
    one = short("one-image", ["hello there", "good day"], {0: ["x"]})
    write_records(tmp_path / "chats.jsonl", map(record_from_dialogue, (CHAT, one)))
    with (tmp_path / "chats.jsonl").open("a") as stream:
        stream.write("{broken\n")
    return tmp_path


def test_chats_are_prepared_and_counted(chats):
    out = chats / "out"
    summary = run(ChatlogConfig(input=(str(chats / "chats.jsonl"),), out=str(out)))
    assert summary["reasons"] == {"bad_json": 1, "too_few_images": 1}
    assert summary["dialogues_in"] == 3 and summary["dialogues_kept"] == 1
    assert summary["messages_in_kept_dialogues"] == 5 == summary["turns"] + summary["turn_void"]
    text = (out / "dialogues.jsonl").read_text() + (out / "annotate.html").read_text()
    for private in ("13800138000", "Ann at", '"Ann"', "😀"):
        assert private not in text
    assert len(list(read_jsonl(out / "dialogues.jsonl"))) == 1


def test_without_a_key_nothing_is_written(chats, monkeypatch):
    monkeypatch.delenv("FFRS_ANONYMISE_KEY")
    from typer import Typer

    from jobs.prepare_chatlog import main

    app = Typer()
    app.command()(main)
    result = CliRunner().invoke(
        app, ["--in", str(chats / "chats.jsonl"), "--out", str(chats / "o")]
    )
    assert result.exit_code == 2 and "FFRS_ANONYMISE_KEY is not set" in result.output
    assert not (chats / "o").exists()


def test_nothing_typed_can_leave_the_pages_data():
    page = build_page([CHAT], {"ann-and-bo": ["where is </script>"]})
    assert page.count("<script") == 2 and page.count("</script>") == 2
    start = page.index('application/json">') + len('application/json">')
    data = json.loads(page[start : page.index("</script>", start)])
    assert data["dialogues"][0]["turns"][1]["text"] == NASTY
    assert data["queries"]["ann-and-bo"] == ["where is </script>"]


def saved(folder, name, *entries):
    annotations = [
        {"dialogue_id": d, "query": q, "utt_ids": u, "img_ids": i} for d, q, u, i in entries
    ]
    (folder / f"{name}.json").write_text(
        json.dumps({"set": "s", "annotator": name, "annotations": annotations})
    )


def test_annotations_become_queries_with_agreement(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    filled = tmp_path / "filled"
    filled.mkdir()
    picture = ("ann-and-bo", "the picture of home", [2], [0])
    saved(filled, "p", picture, ("ann-and-bo", "nothing", [], []), ("gone", "q", [0], []))
    saved(filled, "r", picture, ("ann-and-bo", "nothing", [], []), ("ann-and-bo", "q", [9], []))
    saved(filled, "s", ("ann-and-bo", "the picture  of home", [2, 3], [0, 1]))
    summary = collect(tmp_path, [filled])
    assert summary["left_out"] == {"unknown_dialogue": 1, "unknown_id": 1}
    assert summary["agreement"]["annotators"] == ("p", "r", "s")
    # Pairs: p/r 1 on both queries; p/s and r/s share 2 of 2 and 4: 2 * 2 / 6.
    assert summary["agreement"]["pairwise_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3 + 1) / 4)
    (dialogue,) = read_jsonl(tmp_path / "annotated.jsonl")
    found = {q.query: q for q in dialogue.queries}
    assert found["nothing"].kind is QueryKind.NEGATIVE
    assert found["the picture of home"].relevance == Selection(
        utterance_ids=frozenset({2}), image_ids=frozenset({0})
    )


def test_one_person_alone_gives_no_agreement(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    saved(tmp_path, "p", ("ann-and-bo", "q", [0], []))
    summary = collect(tmp_path, [tmp_path / "p.json"])
    assert summary["agreement"] is None and summary["queries"] == 1


def test_a_strange_file_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"annotator": "p"}')
    with pytest.raises(InputError, match="not a file that the page saved"):
        read_annotations([tmp_path / "x.json"], {})
    assert adopt([CHAT], read_annotations([], {}))[0].queries == ()
