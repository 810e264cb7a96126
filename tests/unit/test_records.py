import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core import records
from ffr_core.errors import NotFoundError, RecordError
from ffr_core.pipeline import check_query
from ffr_core.types import Dialogue, Image, Query, QueryKind, Selection, Turn

GOOD = {
    "dialogue_id": "a/1",
    "turns": [
        {"turn_id": 0, "speaker": "Ana", "text": "hi", "timestamp": "2025-03-02T18:04:00+01:00"},
        {
            "turn_id": 1,
            "speaker": "Bo",
            "text": "",
            "images": [{"image_id": 0, "uri": "images/x.png", "caption": None}],
        },
    ],
    "fragments": [[0], [1]],
    "queries": [
        {"query": "who?", "utt_ids": [0], "img_ids": [], "kind": "utterance-only", "fragment": 0}
    ],
}


@st.composite
def dialogues(draw):
    texts = draw(st.lists(st.text(max_size=20), min_size=1, max_size=5))
    turns, images = [], 0
    for i, text in enumerate(texts):
        number = draw(st.integers(0, 2))
        turns.append(
            Turn(
                turn_id=i,
                speaker=draw(st.text(min_size=1, max_size=5)),
                text=text,
                timestamp=draw(st.none() | st.datetimes(timezones=st.just(UTC))),
                reply_to=draw(st.none() | st.integers(0, len(texts) - 1)),
                images=tuple(
                    Image(image_id=images + k, uri=draw(st.none() | st.just("/a/b.png")))
                    for k in range(number)
                ),
            )
        )
        images += number
    query = Query(
        query="q",
        relevance=Selection(utterance_ids=frozenset({0})),
        kind=draw(st.none() | st.sampled_from(QueryKind)),
    )
    return Dialogue(dialogue_id="d", turns=tuple(turns), queries=(query,))


@given(dialogues())
def test_a_record_comes_back_unchanged(dialogue):
    record = json.loads(json.dumps(records.record_from_dialogue(dialogue)))
    assert records.dialogue_from_record(record) == dialogue


def test_relative_images_refer_to_the_folder_of_the_file(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(GOOD) + "\n\n")
    (dialogue,) = records.read_jsonl(path)
    assert dialogue.images[0].uri == str(tmp_path / "images" / "x.png")
    assert records.dialogue_from_record(GOOD, base="s3://b/c").images[0].uri == (
        "s3://b/c/images/x.png"
    )


def test_the_form_of_research_conversions():
    image = {"image_id": 0, "path": None, "caption": "a dog", "ref": "http://h/x.jpg"}
    record = {**GOOD, "turns": [{"turn_id": 0, "speaker": "A", "text": "", "images": [image]}]}
    record |= {"fragments": None, "queries": [{"query": "q", "utt_ids": [0], "kind": "qa"}]}
    dialogue = records.dialogue_from_record(record, base="/data")
    assert dialogue.images == (Image(image_id=0, uri="http://h/x.jpg", caption="a dog"),)
    assert (dialogue.queries[0].kind, dialogue.queries[0].source_kind) == (None, "qa")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dialogue_id": None}, "no_dialogue_id"),
        ({"dialogue_id": ""}, "no_dialogue_id"),
        ({"dialogue_id": " \t"}, "no_dialogue_id"),
        ({"dialogue_id": "."}, "bad_dialogue_id"),
        ({"dialogue_id": ".."}, "bad_dialogue_id"),
        ({"dialogue_id": "a\nb"}, "bad_dialogue_id"),
        ({"dialogue_id": "a\x7f"}, "bad_dialogue_id"),
        ({"turns": None}, "no_turns"),
        ({"turns": []}, "no_turns"),
        ({"turns": [{"turn_id": 1, "speaker": "A", "text": "x"}]}, "bad_turn_id"),
        ({"turns": [{"turn_id": "?", "speaker": "A", "text": "x"}]}, "malformed"),
        ({"turns": ["x"]}, "malformed"),
        ({"turns": [{"turn_id": 0, "speaker": "A", "text": 5}]}, "malformed"),
        ({"title": 5}, "malformed"),
        ({"fragments": [[0, 7]]}, "bad_fragments"),
        ({"queries": [{"query": "q", "utt_ids": [5]}]}, "bad_gold"),
        (
            {"fragments": [[0]], "queries": [{"query": "q", "utt_ids": [0], "fragment": 1}]},
            "bad_gold",
        ),
        (
            {"fragments": [[0], []], "queries": [{"query": "q", "utt_ids": [0], "fragment": 1}]},
            "bad_gold",
        ),
        ({"queries": [{"utt_ids": [0]}]}, "malformed"),
    ],
)
def test_bad_records_have_a_reason(change, reason):
    with pytest.raises(RecordError) as caught:
        records.dialogue_from_record({**GOOD, **change})
    assert caught.value.reason == reason


def test_an_image_id_out_of_order():
    turn = {**GOOD["turns"][1], "turn_id": 0, "images": [{"image_id": 3, "uri": None}]}
    with pytest.raises(RecordError, match="expected 0"):
        records.dialogue_from_record({**GOOD, "turns": [turn]})


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"no corpus file .*gone\.jsonl"):
        next(records.read_jsonl(tmp_path / "gone.jsonl"))


def test_the_error_of_a_file_names_file_and_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{")
    with pytest.raises(RecordError, match=r"c\.jsonl line 2"):
        list(records.read_jsonl(path))


@pytest.mark.parametrize("name", ["...", "a/../b", "日本 #1?", " a ", "a\u2028b"])
def test_other_ids_stay_as_they_are(name):
    assert records.dialogue_from_record({**GOOD, "dialogue_id": name}).dialogue_id == name


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n")
    (dialogue,) = records.read_jsonl(path)
    assert dialogue.dialogue_id == "a/1"


@pytest.mark.parametrize(
    ("name", "data", "reason", "where"),
    [
        ("c.jsonl", b"\n\xff\xfe", "bad_encoding", "line 2 is not UTF-8"),
        ("c.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "bad_json", "line 1 is not JSON"),
        ("c.jsonl", b"[" * 100_000, "bad_json", "line 1 is not JSON"),
        ("c.jsonl.gz", b"not gzip", "unreadable_file", "breaks off at line 1"),
        (
            "c.jsonl.gz",
            gzip.compress(b"{}\n" * 9, mtime=0)[:-9],
            "unreadable_file",
            "breaks off at line",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, data, reason, where):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RecordError, match=rf"{name} {where}") as caught:
        list(records.read_json_lines(path))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-02T18:04:00Z", datetime(2025, 3, 2, 18, 4, tzinfo=UTC)),
        ("2025-03-02 18:04", datetime(2025, 3, 2, 18, 4, tzinfo=UTC)),
        ("2025-03-02 18:04:05.25+05", datetime(2025, 3, 2, 13, 4, 5, 250_000, tzinfo=UTC)),
        ("1:47 pm on 18 May, 2023", datetime(2023, 5, 18, 13, 47, tzinfo=UTC)),
    ],
)
def test_unambiguous_times_are_read(text, expected):
    assert records.parse_timestamp(text) == (expected, None)


@pytest.mark.parametrize("text", ["02/03/25 18:04", "yesterday", "2025-13-45T00:00:00"])
def test_other_times_stay_text(text):
    assert records.parse_timestamp(text) == (None, text)


def test_gold_labels_do_not_change_the_content_hash():
    plain = records.dialogue_from_record({**GOOD, "fragments": None, "queries": None})
    assert records.content_hash(records.dialogue_from_record(GOOD)) == records.content_hash(plain)
    other = records.dialogue_from_record({**GOOD, "title": "x"})
    assert records.content_hash(other) != records.content_hash(plain)


def test_lone_surrogates_become_question_marks():
    turns = [{"turn_id": 0, "speaker": "A", "text": "a\ud800b"}]
    record = {**GOOD, "turns": turns, "fragments": None, "queries": None}
    assert records.dialogue_from_record(record).turns[0].text == "a?b"


def test_a_time_or_a_folder_with_lone_surrogates_can_be_hashed():
    turn = {"turn_id": 0, "speaker": "a", "text": "x", "timestamp": "soon \ud800"}
    turn["images"] = [{"image_id": 0, "uri": "a.png"}]
    found = records.dialogue_from_record({"dialogue_id": "d", "turns": [turn]}, base="/b\udcff")
    assert found.turns[0].timestamp_text == "soon ?"
    assert found.images[0].uri == "/b?/a.png"
    assert len(records.content_hash(found)) == 64


def test_a_query_is_cleaned_as_records_are():
    assert check_query(" bus \udcff ") == "bus ?"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"uri": "a.png", "path": None, "ref": None}, "/data/a.png"),
        ({"uri": None, "path": "b.png", "ref": "s3://x/c.png"}, "/data/b.png"),
        ({"uri": None, "path": None, "ref": "s3://x/c.png"}, "s3://x/c.png"),
        ({"uri": None, "path": None, "ref": None}, None),
    ],
)
def test_a_place_may_stand_beside_empty_keys_of_the_other_form(keys, expected):
    turn = {**GOOD["turns"][0], "images": [{"image_id": 0, **keys}]}
    found = records.dialogue_from_record({"dialogue_id": "d", "turns": [turn]}, base="/data")
    assert found.images[0].uri == expected


def test_a_number_for_an_id_is_named():
    with pytest.raises(RecordError, match="must be text, found int"):
        records.dialogue_from_record({**GOOD, "dialogue_id": 7})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("photo-10:30.png", "/data/photo-10:30.png"),
        ("a #1?.png", "/data/a #1?.png"),
        ("/x/a:b.png", "/x/a:b.png"),
        ("file:/x/a.png", "file:/x/a.png"),
        ("S3://b/a.png", "S3://b/a.png"),
        ("http://[x", "http://[x"),
        ("data:image/png;base64,AA", "data:image/png;base64,AA"),
    ],
)
def test_only_names_are_joined_to_the_folder(uri, expected):
    assert records.resolve_uri(uri, "/data") == expected
