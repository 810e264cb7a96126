"""Request and response models."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ffr_core.records import dialogue_from_record, record_from_dialogue
from ffr_core.types import Dialogue, Filters, Image, Query, Selection, Turn
from serve.problems import describe_validation
from serve.schemas import DialogueIn, SearchFilters, SearchRequest, filters_record


def test_a_query_alone_is_a_search():
    request = SearchRequest.model_validate_json('{"query": "where?"}')
    assert request.query == "where?"
    assert request.filters.to_filters() == Filters()
    assert request.num_candidates is None
    assert request.limit == 10


def test_filters_become_what_the_index_takes():
    filters = SearchFilters.model_validate_json(
        '{"participants": ["Ann"], "since": "2025-01-01T00:00:00+01:00", "has_image": true,'
        ' "dialogue_ids": ["a/b"]}'
    ).to_filters()
    assert filters.participants == ("Ann",)
    assert filters.since == datetime(2024, 12, 31, 23, tzinfo=UTC)
    assert filters.until is None
    assert filters.has_image is True
    assert filters.dialogue_ids == ("a/b",)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("{}", "query"),
        ('{"query": ""}', "query"),
        ('{"query": 5}', "query"),
        ('{"query": "x", "limit": 0}', "limit"),
        ('{"query": "x", "num_candidates": 0}', "num_candidates"),
        ('{"query": "x", "tenant": "other"}', "tenant"),
        ('{"query": "x", "filters": {"since": "yesterday"}}', "filters.since"),
        ('{"query": "x", "filters": {"since": "2025-01-01T00:00:00"}}', "filters.since"),
        ('{"query": "x", "filters": {"participants": [""]}}', "filters.participants.0"),
        ('{"query": "x", "filters": {"participants": "Ann"}}', "filters.participants"),
        ('{"query": "x", "filters": {"since": -1}}', "filters.since"),
        ('{"query": "x", "filters": {"until": "1745625600"}}', "filters.until"),
        ('{"query": "x", "filters": {"has_image": "yes"}}', "filters.has_image"),
        ('{"query": "x", "limit": "3"}', "limit"),
        ('{"query": "x", "num_candidates": true}', "num_candidates"),
        ('{"query": "x", "filters": {"tenant": "other"}}', "filters.tenant"),
    ],
)
def test_a_wrong_search_is_one_sentence_with_the_place(body, place):
    with pytest.raises(ValidationError) as caught:
        SearchRequest.model_validate_json(body)
    problem = describe_validation(caught.value.errors())
    assert problem.status == 422
    assert problem.message.startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body: Input should be an object"),
        ({"query": None}, "query: Input should be a valid string, found null"),
        (
            {"query": "x", "filters": {"participants": 5}},
            "filters.participants: Input should be a list",
        ),
        ({"query": "x", "filters": "y"}, "filters: Input should be an object, found 'y'"),
        ({"query": "x", "filter": "y"}, "filter: there is no such field; check how it is spelled"),
    ],
)
def test_mistakes_are_told_in_words_of_json(body, message):
    with pytest.raises(ValidationError) as caught:
        SearchRequest.model_validate(body)
    told = describe_validation(caught.value.errors()).message
    assert told.startswith(message)
    assert len(told) < len(message) + 30


def test_a_long_query_is_refused_and_not_repeated():
    with pytest.raises(ValidationError) as caught:
        SearchRequest(query="s" * 5000)
    message = describe_validation(caught.value.errors()).message
    assert "4000" in message
    assert "sss" not in message


def test_filters_in_force_are_named_and_others_left_out():
    since = datetime(2025, 1, 1, tzinfo=UTC)
    assert filters_record(Filters()) == {}
    assert filters_record(Filters(participants=("A",), since=since, has_image=False)) == {
        "participants": ["A"],
        "since": "2025-01-01T00:00:00+00:00",
        "has_image": False,
    }


names = st.lists(st.text(min_size=1, max_size=20), max_size=3).map(tuple)


@given(people=names, ids=names, has_image=st.sampled_from([None, True, False]))
def test_filters_read_back_as_they_are_shown(people, ids, has_image):
    filters = Filters(participants=people, dialogue_ids=ids, has_image=has_image)
    assert SearchFilters.model_validate(filters_record(filters)).to_filters() == filters


def test_a_record_keeps_its_content_and_loses_its_labels():
    record = {
        "dialogue_id": "d",
        "title": "T",
        "turns": [
            {"turn_id": 0, "speaker": "A", "text": "hi", "timestamp": "2025-01-01T10:00:00Z"},
            {"turn_id": 1, "speaker": "B", "text": "yo", "reply_to": 0, "timestamp": None},
            {"turn_id": 2, "images": [{"image_id": 0, "uri": "/x.png", "caption": "c"}]},
        ],
        "queries": [{"query": "?", "utt_ids": [9]}],
    }
    dialogue = dialogue_from_record(DialogueIn.model_validate(record).record())
    assert dialogue == dialogue_from_record({k: v for k, v in record.items() if k != "queries"})


def test_an_exported_record_can_be_sent_back():
    image = Image(image_id=0, uri="/x.png", caption="c", text="read", ocr=True)
    turns = (
        Turn(turn_id=0, speaker="A", text="hi", timestamp=datetime(2025, 1, 1, tzinfo=UTC)),
        Turn(turn_id=1, speaker="B", text="", timestamp_text="noon", reply_to=0, images=(image,)),
    )
    labels = {
        "fragments": ((0, 1),),
        "queries": (Query(query="?", relevance=Selection(utterance_ids=frozenset({0}))),),
    }
    dialogue = Dialogue(dialogue_id="d", turns=turns, title="T", language="en")
    exported = record_from_dialogue(replace(dialogue, **labels)) | {"source": "x"}
    assert dialogue_from_record(DialogueIn.model_validate(exported).record()) == dialogue


def test_pictures_may_have_the_names_of_research_corpora():
    pictures = [{"image_id": 0, "path": "/a.png"}, {"image_id": 1, "ref": "https://x/b.png"}]
    record = {"dialogue_id": "d", "turns": [{"turn_id": 0, "images": pictures}]}
    dialogue = dialogue_from_record(DialogueIn.model_validate(record).record())
    assert [image.uri for image in dialogue.images] == ["/a.png", "https://x/b.png"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"titel": "T"}, "titel"),
        ({"turns": [{"turn_id": 0, "speaker": "a", "txt": "hello"}]}, "turns.0.txt"),
        (
            {"turns": [{"turn_id": 0, "images": [{"image_id": 0, "url": "/a.png"}]}]},
            "turns.0.images.0.url",
        ),
    ],
)
def test_a_misspelt_field_is_named_and_its_text_is_not(change, place):
    with pytest.raises(ValidationError) as caught:
        DialogueIn.model_validate({"dialogue_id": "d", "turns": [{"turn_id": 0}], **change})
    message = describe_validation(caught.value.errors()).message
    assert message == f"{place}: there is no such field; check how it is spelled"


@pytest.mark.parametrize("name", ["", " \t", ".", "..", "a\nb", "n\x00ul", "\x7f"])
def test_ids_that_no_address_can_hold_are_refused(name):
    with pytest.raises(ValidationError) as caught:
        DialogueIn.model_validate({"dialogue_id": name, "turns": [{"turn_id": 0}]})
    assert describe_validation(caught.value.errors()).message.startswith("dialogue_id: ")


@pytest.mark.parametrize("name", ["...", "a/../b", "日本 #1?", " a", "\U0001f642", "a\u2028b"])
def test_other_odd_ids_are_welcome(name):
    body = DialogueIn.model_validate({"dialogue_id": name, "turns": [{"turn_id": 0}]})
    assert body.dialogue_id == name


def test_the_example_of_the_documentation_is_valid():
    example = DialogueIn.model_json_schema()["examples"][0]
    assert len(dialogue_from_record(DialogueIn.model_validate(example).record()).turns) == 2
