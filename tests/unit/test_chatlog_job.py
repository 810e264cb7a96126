import json

import PIL.Image
import pytest
from dataset_parts import short
from typer import Typer
from typer.testing import CliRunner

from ffr_core.dataset.annotation_page import adopt, build_page, read_annotations
from ffr_core.dataset.chat_text import ChatRules
from ffr_core.dataset.steps import write_records
from ffr_core.errors import InputError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import read_jsonl, record_from_dialogue
from ffr_core.types import QueryKind, Selection
from jobs.prepare_chatlog import ChatlogConfig, collect, main, run

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


def exported(folder, name="whatsapp-chat-with-anna-smith-49-170-1234567"):
    """A chat as `ffrs import` writes it: the id and the folder of its pictures name people."""
    place = folder / "images" / name
    place.mkdir(parents=True)
    for number, color in enumerate(("red", "blue", "red")):
        PIL.Image.new("RGB", (32, 24), color).save(place / f"Anna Smith {number}.png")
    images = [f"images/{name}/Anna Smith {i}.png" for i in range(3)]
    images.append(f"images/{name}/gone.png")
    turns = [
        {
            "turn_id": i,
            "speaker": ("Anna Smith", "Bo")[i % 2],
            "text": f"picture number {i}",
            "images": [{"image_id": i, "uri": uri, "caption": None}],
        }
        for i, uri in enumerate(images)
    ]
    title = "WhatsApp Chat with Anna Smith +49 170 1234567"
    chat = {"dialogue_id": name, "title": title, "turns": turns}
    broken = {**chat, "turns": turns[1:]}
    write_records(folder / "chats.jsonl", [chat, broken])


@pytest.mark.parametrize("embed", [True, False])
def test_no_id_title_or_picture_names_a_person(tmp_path, monkeypatch, embed):
    monkeypatch.setenv("FFRS_ANONYMISE_KEY", "a very secret key")
    (tmp_path / "in").mkdir()
    exported(tmp_path / "in")
    out = tmp_path / "out"
    config = ChatlogConfig(input=(str(tmp_path / "in"),), out=str(out), embed_images=embed)
    summary = run(config)
    assert summary["images"] == 4
    assert summary["images_copied"] == 3 and summary["images_unavailable"] == 1
    (dialogue,) = read_jsonl(out / "dialogues.jsonl")
    saved(out, "p", (dialogue.dialogue_id, "red", [], [0, 2]))
    collect(out, [out / "p.json"])
    written = [out.name, *(str(p.relative_to(out)) for p in out.rglob("*"))]
    names = ("dialogues.jsonl", "annotate.html", "annotated.jsonl", "dead_letter.jsonl")
    written += [(out / name).read_text() for name in names]
    for private in ("anna", "smith", "1234567", "gone"):
        assert not any(private in text.lower() for text in written), private
    assert sum(summary["reasons"].values()) == 1
    # The same picture has one name; each stands where the record says, seen from the folder.
    (annotated,) = read_jsonl(out / "annotated.jsonl")
    uris = [image.uri for image in annotated.images]
    assert uris == [image.uri for image in dialogue.images]
    assert uris[0] == uris[2] != uris[1] and uris[3] is None
    assert ImageReader(limits=ImageLimits(roots=(str(out),))).open(uris[1]).size == (32, 24)
    assert ("data:image/jpeg" in (out / "annotate.html").read_text()) is embed
    files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert run(config) == summary
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == files


def test_only_what_is_kept_is_counted(chats):
    """Two dialogues of 6 turns, each with a merged and a void one; the second has no images."""
    texts = ["good morning", "see this", "and this 😀", "ok", "nice one", "bye now"]
    speakers = ("Ann", "Bo", "Bo", "Ann", "Ann", "Bo")
    kept = short("kept", texts, {1: [None], 2: [None]}, speakers)
    write_records(
        chats / "chats.jsonl",
        map(record_from_dialogue, (kept, short("dropped", texts, {}, speakers))),
    )
    summary = run(ChatlogConfig(input=(str(chats / "chats.jsonl"),), out=str(chats / "out")))
    assert summary["reasons"] == {"too_few_images": 1}
    assert summary["merged"] == summary["turn_void"] == summary["emoji"] == 1
    assert summary["messages_in_kept_dialogues"] == 6 == summary["turns"] + 2


@pytest.mark.parametrize("masked", [True, False])
def test_a_second_dialogue_of_one_id_is_left_out(chats, masked):
    bare = short("ann-and-bo", ["hello there", "good day"])
    other = short("ann-and-bo", ["quite another", "chat of two"], {0: ["x"], 1: ["y"]})
    write_records(chats / "chats.jsonl", map(record_from_dialogue, (bare, CHAT, other, CHAT)))
    out = chats / "out"
    rules = ChatRules(anonymise=masked, mask_identifiers=masked)
    summary = run(ChatlogConfig(input=(str(chats / "chats.jsonl"),), out=str(out), rules=rules))
    # The first is dropped for another reason, so the second is the first of its id.
    assert summary["reasons"] == {"duplicate_id": 2, "too_few_images": 1}
    assert summary["dialogues_in"] == 4 and summary["dialogues_kept"] == 1
    (dialogue,) = read_jsonl(out / "dialogues.jsonl")
    assert dialogue.turns[-1].text == "and this one"  # of CHAT
    letters = [json.loads(line) for line in (out / "dead_letter.jsonl").read_text().splitlines()]
    assert [letter["reason"] for letter in letters].count("duplicate_id") == 2


def test_without_a_key_nothing_is_written(chats, monkeypatch):
    monkeypatch.delenv("FFRS_ANONYMISE_KEY")
    app = Typer()
    app.command()(main)
    result = CliRunner().invoke(
        app, ["--in", str(chats / "chats.jsonl"), "--out", str(chats / "o")]
    )
    assert result.exit_code == 2 and "FFRS_ANONYMISE_KEY is not set" in result.output
    assert not (chats / "o").exists()


def page_data(path):
    page = path.read_text()
    start = page.index('application/json">') + len('application/json">')
    return json.loads(page[start : page.index("</script>", start)])


def test_pages_and_copies_of_an_earlier_run_do_not_survive(tmp_path, monkeypatch):
    """Pages with names, then masked ones, then copies under another key; the rest stays."""
    monkeypatch.setenv("FFRS_ANONYMISE_KEY", "a very secret key")
    (tmp_path / "in").mkdir()
    exported(tmp_path / "in")
    more = [short(f"d{i}", ["Ann here", "see"], {1: [None, None]}) for i in range(2)]
    write_records(tmp_path / "in" / "more.jsonl", map(record_from_dialogue, more))
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    foreign = [out / "annotate-notes.html", out / "my.html", out / "images" / "holiday.jpg"]
    for path in foreign:
        path.write_text("mine")
    plain = ChatlogConfig(input=(str(tmp_path / "in"),), out=str(out), embed_images=False)
    rules = ChatRules(anonymise=False, mask_identifiers=False)
    pages = run(plain.model_copy(update={"page_dialogues": 2, "rules": rules}))["pages"]
    assert pages == ["annotate-001.html", "annotate-002.html"]
    assert "Anna Smith" in (out / "annotate-002.html").read_text() + (out / pages[0]).read_text()
    assert run(plain)["pages"] == ["annotate.html"]
    assert not any((out / page).exists() for page in pages)
    first = set((out / "images").iterdir())
    assert len(first) == 1 + 2
    # What people annotated keeps its pictures.
    (out / "dialogues.jsonl").rename(out / "annotated.jsonl")
    monkeypatch.setenv("FFRS_ANONYMISE_KEY", "another secret key")
    run(plain)
    assert len(set((out / "images").iterdir())) == 1 + 2 + 2
    (out / "annotated.jsonl").unlink()
    run(plain)
    left = set((out / "images").iterdir())
    assert left & first == {foreign[2]} and len(left) == 1 + 2
    assert all(path.read_text() == "mine" for path in foreign)


def test_people_can_be_given_the_same_queries(chats):
    out, queries = chats / "out", chats / "queries.jsonl"
    app = Typer()
    app.command()(main)
    call = ["--in", str(chats / "chats.jsonl"), "--out", str(out)]
    assert CliRunner().invoke(app, call).exit_code == 0
    (dialogue,) = read_jsonl(out / "dialogues.jsonl")
    name = dialogue.dialogue_id
    texts = ("the  home", "the home", "a call")
    write_records(queries, [{"dialogue_id": name, "query": text} for text in texts])
    result = CliRunner().invoke(app, [*call, "--queries", str(queries)])
    assert result.exit_code == 0, result.output
    assert page_data(out / "annotate.html")["queries"] == {name: ["the home", "a call"]}
    write_records(queries, [{"dialogue_id": "ann-and-bo", "query": "q"}])
    result = CliRunner().invoke(app, [*call, "--queries", str(queries)])
    assert result.exit_code == 2 and "asks about 'ann-and-bo', which" in result.output
    for broken in ({"dialogue_id": name}, [name, "q"], {"dialogue_id": name, "query": 3}):
        write_records(queries, [broken])
        result = CliRunner().invoke(app, [*call, "--queries", str(queries)])
        assert result.exit_code == 2 and "line 1 is no query" in result.output


def test_nothing_typed_can_leave_the_pages_data():
    page = build_page([CHAT], {"ann-and-bo": ["where is </script>"]})
    assert page.count("<script") == 2 and page.count("</script>") == 2
    start = page.index('application/json">') + len('application/json">')
    data = json.loads(page[start : page.index("</script>", start)])
    assert data["dialogues"][0]["turns"][1]["text"] == NASTY
    assert data["queries"]["ann-and-bo"] == ["where is </script>"]


def saved(folder, name, *entries, annotator=None):
    annotations = [
        {"dialogue_id": d, "query": q, "utt_ids": u, "img_ids": i} for d, q, u, i in entries
    ]
    (folder / f"{name}.json").write_text(
        json.dumps({"set": "s", "annotator": annotator or name, "annotations": annotations})
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


def test_where_people_disagree_there_is_no_negative(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    saved(tmp_path, "p", ("ann-and-bo", "q", [1], []), ("ann-and-bo", "nothing", [], []))
    saved(tmp_path, "r", ("ann-and-bo", "q", [2], []), ("ann-and-bo", "nothing", [], []))
    summary = collect(tmp_path, [tmp_path / "p.json", tmp_path / "r.json"])
    assert summary["queries"] == 2 and summary["no_agreement"] == 1
    (dialogue,) = read_jsonl(tmp_path / "annotated.jsonl")
    assert [(q.query, q.kind) for q in dialogue.queries] == [("nothing", QueryKind.NEGATIVE)]


def test_one_name_has_one_answer(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    one = ("ann-and-bo", "q", [1], [])
    saved(tmp_path, "first", one, annotator="p")
    # Continued and saved again: the answer is there twice, and one is new.
    saved(tmp_path, "second", one, ("ann-and-bo", "more", [2], []), annotator="p")
    summary = collect(tmp_path, [tmp_path / "first.json", tmp_path / "second.json"])
    assert summary["left_out"] == {"repeated": 1} and summary["queries"] == 2
    saved(tmp_path, "third", ("ann-and-bo", "q", [2], []), annotator="p")
    with pytest.raises(InputError, match=r"third\.json: 'p' answers the query 'q'.* differently"):
        collect(tmp_path, [tmp_path / "first.json", tmp_path / "third.json"])


def test_a_majority_that_found_nothing_makes_a_negative(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    filled = tmp_path / "filled"
    filled.mkdir()
    for name, ids in (("p", []), ("r", []), ("s", [1])):
        saved(filled, name, ("ann-and-bo", "q", ids, []))
    summary = collect(tmp_path, [filled])
    assert (summary["queries"], summary["no_agreement"]) == (1, 0)
    (dialogue,) = read_jsonl(tmp_path / "annotated.jsonl")
    assert dialogue.queries[0].kind is QueryKind.NEGATIVE


def test_one_person_alone_gives_no_agreement(tmp_path):
    write_records(tmp_path / "dialogues.jsonl", [record_from_dialogue(CHAT)])
    saved(tmp_path, "p", ("ann-and-bo", "q", [0], []))
    summary = collect(tmp_path, [tmp_path / "p.json"])
    assert summary["agreement"] is None and summary["queries"] == 1


def test_a_strange_file_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"annotator": "p"}')
    with pytest.raises(InputError, match="not a file that the page saved"):
        read_annotations([tmp_path / "x.json"], {})
    saved(tmp_path, "y", ("ann-and-bo", "q", [0], []), annotator=["p"])
    with pytest.raises(InputError, match=r"y\.json is not .* not a name"):
        read_annotations([tmp_path / "y.json"], {"ann-and-bo": CHAT})
    with pytest.raises(InputError, match="not a file that the page saved"):
        read_annotations([tmp_path / "nowhere.json"], {})
    assert adopt([CHAT], read_annotations([], {})).dialogues[0].queries == ()
