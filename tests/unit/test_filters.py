import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.errors import InputError, LimitError
from ffr_core.index.filters import (
    NO_MAX_MS,
    NO_MIN_MS,
    FragmentFacts,
    check_filters,
    facts_of,
    keep_inside,
    matches,
    milvus_expression,
    stored_name,
    stored_names,
    utc_ms,
)
from ffr_core.index.keys import dialogue_key
from ffr_core.types import Dialogue, Filters, Image, Localization, Turn

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DIALOGUE = Dialogue(
    dialogue_id="d",
    turns=(
        Turn(turn_id=0, speaker="Ana", text="a", timestamp=NOON),
        Turn(turn_id=1, speaker="Ben", text="b", timestamp=NOON + timedelta(hours=2)),
        Turn(turn_id=2, speaker="Ana", text="c", images=(Image(image_id=0, uri=None),)),
    ),
)


def test_facts_are_collected_from_the_turns_of_the_fragment():
    assert facts_of(DIALOGUE, [0, 1]) == FragmentFacts(
        participants=("ana", "ben"), min_ms=1714564800000, max_ms=1714572000000
    )
    assert facts_of(DIALOGUE, [2]) == FragmentFacts(
        participants=("ana",), min_ms=NO_MIN_MS, max_ms=NO_MAX_MS, has_image=True
    )


def test_milliseconds_are_counted_in_utc():
    east = datetime(1970, 1, 1, 8, 0, 0, 1500, tzinfo=timezone(timedelta(hours=8)))
    assert utc_ms(east) == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), [True, True]),
        (Filters(participants=("Ben", "Zoë")), [True, False]),
        (Filters(participants=("bEN",)), [True, False]),
        (Filters(since=NOON + timedelta(hours=2)), [True, False]),
        (Filters(since=NOON + timedelta(hours=3)), [False, False]),
        (Filters(until=NOON), [False, False]),
        (Filters(until=NOON + timedelta(seconds=1)), [True, False]),
        (Filters(has_image=True), [False, True]),
        (Filters(has_image=False), [True, False]),
        (Filters(dialogue_ids=("d",)), [True, True]),
        (Filters(dialogue_ids=("e",)), [False, False]),
        (Filters(participants=("Ana",), has_image=True, since=NOON), [False, False]),
    ],
)
def test_a_fragment_passes_when_every_field_holds(filters, expected):
    facts = [facts_of(DIALOGUE, [0, 1]), facts_of(DIALOGUE, [2])]
    assert [matches(filters, fact, "d") for fact in facts] == expected


@pytest.mark.parametrize(
    ("since", "until", "utterances", "images"),
    [
        (None, None, {0, 1, 2}, {0}),
        (1, None, {1, 2}, {0}),
        (2, None, {1, 2}, {0}),
        (None, 2, {0, 2}, {0}),
        (None, 3, {0, 1, 2}, {0}),
        (1, 2, {2}, {0}),
    ],
)
def test_only_what_lies_inside_the_dates_stays_selected(since, until, utterances, images):
    found = Localization(utterances={0: 0.9, 1: 0.8, 2: 0.7}, images={0: 0.6}, relevance=0.5)
    hours = [None if h is None else NOON + timedelta(hours=h) for h in (since, until)]
    kept = keep_inside(Filters(since=hours[0], until=hours[1]), DIALOGUE, found)
    assert set(kept.utterances) == utterances
    assert set(kept.images) == images
    assert kept.relevance == 0.5


def test_a_picture_goes_with_its_turn():
    turn = Turn(
        turn_id=0, speaker="A", text="", timestamp=NOON, images=(Image(image_id=0, uri=None),)
    )
    found = Localization(utterances={}, images={0: 0.6}, relevance=0.5)
    dialogue = Dialogue(dialogue_id="d", turns=(turn,))
    assert keep_inside(Filters(since=NOON), dialogue, found) == found
    assert keep_inside(Filters(until=NOON), dialogue, found).images == {}


def test_names_that_differ_in_case_are_one():
    assert stored_name("STRASSE") == stored_name("Straße") == "strasse"
    for typed in ("tobi", "Tobi", "TOBI"):
        assert {"tobi", "Tobi", "TOBI"} <= set(stored_names(typed))
    assert "Anna de Vries" in stored_names("Anna de Vries")


def test_the_expression_holds_every_field():
    filters = Filters(
        participants=("Ana", "小明"),
        since=NOON,
        until=NOON + timedelta(days=1),
        has_image=False,
        dialogue_ids=("a/b",),
    )
    assert milvus_expression(filters, "t") == (
        '(array_contains_any(participants, ["ana", "Ana", "ANA", "小明"]))'
        " and (max_ms >= 1714564800000)"
        " and (min_ms < 1714651200000) and (has_image == false)"
        f' and (dialogue_key in ["{dialogue_key("t", "a/b")}"])'
    )
    assert milvus_expression(Filters(), "t") == ""


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40).map(
        lambda text: f'{text}" or tenant != "'
    )
)
def test_no_value_leaves_its_quotes(name):
    expression = milvus_expression(Filters(participants=(name,)), "t")
    head, tail = "(array_contains_any(participants, ", "))"
    assert expression.startswith(head) and expression.endswith(tail)
    assert json.loads(expression[len(head) : -len(tail)]) == stored_names(name)


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00", "\x7f", "\ud800"])
@pytest.mark.parametrize("field", ["participants", "dialogue_ids"])
def test_empty_values_and_control_characters_are_refused(field, value):
    with pytest.raises(InputError, match=rf"{field}.*control"):
        check_filters(Filters(**{field: (value,)}))


def test_limits_are_stated():
    with pytest.raises(LimitError, match=r"257 values.*256"):
        check_filters(Filters(participants=("a",) * 257))
    with pytest.raises(LimitError, match=r"1026 bytes.*1024"):
        check_filters(Filters(dialogue_ids=("ü" * 513,)))
    check_filters(Filters(dialogue_ids=("ü" * 512,)))


def test_times_need_a_zone_and_an_order():
    with pytest.raises(InputError, match="time zone"):
        check_filters(Filters(since=datetime(2024, 1, 1)))
    with pytest.raises(InputError, match="exchange"):
        check_filters(Filters(since=NOON, until=NOON))


def test_a_very_long_name_is_stored_and_filtered_by_its_hash():
    name = "n" * 300
    assert stored_name("n" * 256) == "n" * 256
    assert stored_name(name).startswith("sha256:") and stored_name(name) != stored_name(name + "n")
    facts = FragmentFacts(participants=(stored_name(name),))
    assert matches(Filters(participants=(name,)), facts, "d")
