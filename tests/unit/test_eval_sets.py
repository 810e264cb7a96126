"""What every measurement takes from a set, worked by hand."""

from dataclasses import replace

import pytest

from ffr_core.types import Dialogue, Image, Query, Selection, Turn
from jobs.eval_sets import EvalSet, gold_fragments, mean_gold_length, spaced, turns_of


def dialogue(name, fragments, queries=()):
    turns = [Turn(turn_id=i, speaker="A", text=f"t{i}") for i in range(6)]
    turns[4] = replace(turns[4], images=(Image(image_id=0, uri=None, caption="a dog"),))
    return Dialogue(dialogue_id=name, turns=tuple(turns), fragments=fragments, queries=queries)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, "abcde"), (9, "abcde"), (5, "abcde"), (2, "ac"), (1, "a")]
)
def test_items_are_spaced_evenly_from_the_first_one(limit, expected):
    assert spaced("abcde", limit) == list(expected)


def test_fragments_keep_their_numbers_and_empty_ones_are_left_out():
    talks = [dialogue("a", ((3, 1, 1), (), (0, 2))), dialogue("b", None), dialogue("c", ((0,),))]
    talks.append(dialogue("d", ((),)))
    gold = gold_fragments(talks)
    assert [d.dialogue_id for d, _ in gold] == ["a", "c"]
    assert [(f.fragment_id, f.turn_ids) for f in gold[0][1]] == [(0, (1, 3)), (2, (0, 2))]
    assert mean_gold_length(gold) == 12 / 3


def test_the_turn_of_an_image_is_touched():
    chosen = Selection(utterance_ids=frozenset({1}), image_ids=frozenset({0}))
    assert turns_of(dialogue("a", None), chosen) == {1, 4}


def test_other_forms_of_the_dialogues_keep_the_queries():
    asked = [
        Query(query=q, relevance=Selection(), fragment_id=f) for q, f in (("x", 0), ("y", None))
    ]
    one = dialogue("a", ((0,),), tuple(asked))
    data = EvalSet(dialogues=[one], asked=[(one, query) for query in asked])
    assert data.with_fragment == [0]
    shown = data.showing([replace(one, title="read")])
    assert [(d.title, q.query) for d, q in shown.asked] == [("read", "x"), ("read", "y")]
