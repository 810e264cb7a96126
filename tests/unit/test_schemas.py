"""Request and response models."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ffr_core.records import dialogue_from_record
from ffr_core.types import Filters
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
        ('{"query": "x", "filters": {"tenant": "other"}}', "filters.tenant"),
    ],
)
def test_a_wrong_search_is_one_sentence_with_the_place(body, place):
    with pytest.raises(ValidationError) as caught:
        SearchRequest.model_validate_json(body)
    problem = describe_validation(caught.value.errors())
    assert problem.status == 422
    assert problem.message.startswith(f"{place}: ")


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
    dialogue = dialogue_from_record(DialogueIn.model_validate(record).model_dump())
    assert dialogue == dialogue_from_record({k: v for k, v in record.items() if k != "queries"})


def test_the_example_of_the_documentation_is_valid():
    example = DialogueIn.model_json_schema()["examples"][0]
    assert len(dialogue_from_record(DialogueIn.model_validate(example).model_dump()).turns) == 2
