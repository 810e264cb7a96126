import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.aggregation import (
    LITERAL_FLOOR,
    aggregate_dialogue,
    merge_spans,
    rank_answers,
    weigh,
)
from ffr_core.pipeline import aggregate
from ffr_core.types import Candidate, Dialogue, Fragment, Image, Localization, Turn


def dialogue(name="d", num_turns=12, image_turns=(5,)):
    turns = []
    for i in range(num_turns):
        images = [Image(image_id=k, uri=None) for k, turn in enumerate(image_turns) if turn == i]
        turns.append(Turn(turn_id=i, speaker="A", text="x", images=tuple(images)))
    return Dialogue(dialogue_id=name, turns=tuple(turns))


def found(utterances, images=None, relevance=0.5, name="d"):
    fragment = Fragment(fragment_id=0, turn_ids=(0,))
    candidate = Candidate(dialogue_id=name, fragment=fragment, score=1.0, payload="p")
    return candidate, Localization(utterances=utterances, images=images or {}, relevance=relevance)


def test_the_example_of_the_paper():
    ids = [1, 2, 3, 6, 7, 8, 10, 28, 29, 35]
    assert merge_spans(ids) == ((1, 4), (6, 9), (10, 11), (28, 30), (35, 36))


@given(st.sets(st.integers(0, 60)))
def test_spans_cover_exactly_the_ids_and_never_touch(ids):
    spans = merge_spans(ids)
    assert {i for start, end in spans for i in range(start, end)} == ids
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


def test_an_image_brings_its_turn_into_the_spans():
    answer = aggregate_dialogue(dialogue(), [found({4: 0.9}, {0: 0.7})])
    assert answer.spans == ((4, 6),)
    assert answer.localization.images == {0: 0.7}


def test_an_id_found_twice_keeps_its_higher_confidence():
    answer = aggregate_dialogue(
        dialogue(), [found({1: 0.2, 2: 0.9}, relevance=0.3), found({1: 0.6}, relevance=0.8)]
    )
    assert answer.localization.utterances == {1: 0.6, 2: 0.9}
    assert answer.score == 0.8


def test_empty_localizations_are_no_answer():
    assert aggregate_dialogue(dialogue(), [found({})]) is None
    assert rank_answers([None]) == []


def test_answers_are_ranked_and_weak_candidates_dropped():
    dialogues = {name: dialogue(name) for name in "abc"}
    parts = [
        found({0: 0.5}, relevance=0.4, name="a"),
        found({0: 0.5}, relevance=0.9, name="b"),
        found({0: 0.5}, relevance=0.1, name="c"),
        found({7: 0.5}, relevance=0.1, name="b"),
    ]
    answers = aggregate(parts, dialogues, min_relevance=0.2)
    assert [a.dialogue_id for a in answers] == ["b", "a"]
    assert answers[0].spans == ((0, 1),)


def test_a_candidate_behind_the_best_in_recall_is_less_relevant():
    candidate, localization = found({0: 0.5}, relevance=0.5)
    assert weigh(candidate, localization, 1.0, 1.0, 0.15).relevance == pytest.approx(0.5)
    behind = weigh(candidate, localization, 2.0, 1.0, 0.15)
    assert behind.relevance == pytest.approx(1 / (1 + math.e))
    assert behind.utterances == pytest.approx({0: 1 / (1 + math.e)})
    assert weigh(candidate, localization, 2.0, 0.0, 0.15) is localization
    far = weigh(candidate, localization, 1e9, 1.0, 0.15)
    assert far.relevance < 1e-9 and not far.utterances


def test_elements_that_are_unlikely_beside_a_better_candidate_are_dropped():
    candidate, localization = found({0: 0.9, 1: 0.3}, {0: 0.3, 1: 0.6}, relevance=0.9)
    behind = weigh(candidate, localization, 2.0, 1.0, 0.15)
    # Odds 9, 3/7 and 3/2, each divided by e.
    assert behind.utterances == pytest.approx({0: 9 / (9 + math.e)})
    assert behind.images == pytest.approx({1: 1.5 / (1.5 + math.e)})
    all_kept = weigh(candidate, localization, 2.0, 1.0, 0.0)
    assert set(all_kept.utterances) == set(all_kept.images) == {0, 1}


def test_turns_that_hold_the_very_words_stay_behind_their_rivals():
    candidate = Candidate(
        dialogue_id="d", fragment=Fragment(fragment_id=0, turn_ids=(0, 1)), score=1.0, payload="p"
    )
    found = Localization(
        utterances={0: 0.5, 1: 0.5}, images={}, relevance=0.6, literal=frozenset({0})
    )
    near, far = (weigh(candidate, found, best, 1.0, 0.15) for best in (2.0, 30.0))
    assert set(near.utterances) == {0, 1} and set(far.utterances) == {0}
    assert near.relevance > far.relevance == pytest.approx(LITERAL_FLOOR)
    assert far.utterances[0] == pytest.approx(LITERAL_FLOOR)


def test_elements_far_behind_the_best_of_their_kind_are_dropped_in_a_dialogue():
    candidate, sure = found({1: 0.8, 2: 0.3}, {0: 0.4})
    _, unsure = found({3: 0.5, 4: 0.39}, relevance=0.3)
    parts = [
        (candidate, replace(sure, utterance_share=0.5, image_share=0.9)),
        (candidate, replace(unsure, utterance_share=0.5, image_share=0.9)),
    ]
    answer = aggregate_dialogue(dialogue(image_turns=(5,)), parts)
    assert answer.localization.utterances == {1: 0.8, 3: 0.5}
    assert answer.localization.images == {0: 0.4}
    # The more generous share of two candidates holds.
    generous = [parts[0], (candidate, replace(unsure, utterance_share=0.1))]
    answer = aggregate_dialogue(dialogue(image_turns=(5,)), generous)
    assert answer.localization.utterances == {1: 0.8, 2: 0.3, 3: 0.5, 4: 0.39}


def test_a_dialogue_far_behind_another_one_is_left_out():
    def answer(name, confidence, share):
        candidate, localization = found({0: confidence}, name=name)
        return aggregate_dialogue(
            dialogue(name), [(candidate, replace(localization, utterance_share=share))]
        )

    answers = [answer("a", 0.8, 0.5), answer("b", 0.39, 0.5), answer("c", 0.39, 0.2)]
    assert [a.dialogue_id for a in rank_answers(answers)] == ["a", "c"]
