"""Models scored on what they were not fitted on."""

from dataclasses import replace
from pathlib import Path

import pytest

from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.errors import InputError
from ffr_core.localization.fit import examples_of, fit
from ffr_core.localization.network import shipped_model
from ffr_core.localization.reader import FeatureReader
from ffr_core.types import Query, Selection
from jobs.cross_validate import folds, read_sets, score_localizer, score_segmenter, without_one
from jobs.eval_sets import read_set

SAMPLE = Path("ffr_core/data/sample")


def test_a_fold_is_scored_by_what_was_fitted_on_the_others():
    sets = {"a": [0, 1, 2, 3, 4], "b": [5, 6]}
    scored = {"a": [], "b": []}
    for fitted, held in folds(sets, 3):
        for name in sets:
            assert sorted([*fitted[name], *held[name]]) == sets[name]
            scored[name] += held[name]
    assert {name: sorted(found) for name, found in scored.items()} == sets
    assert list(without_one(sets)) == [
        ({"b": [5, 6]}, {"a": sets["a"]}),
        ({"a": sets["a"]}, {"b": [5, 6]}),
    ]


def test_a_set_may_be_its_first_dialogues():
    name = f"{SAMPLE / 'zh.jsonl'}:2"
    assert read_sets([name]) == {name: read_set(SAMPLE / "zh.jsonl")[:2]}


def test_every_held_out_query_and_dialogue_is_scored():
    encoder = HashingEncoder()
    summary = Query(query="Summarize it.", relevance=Selection(utterance_ids=frozenset(range(12))))
    dialogues = [replace(d, queries=(*d.queries, summary)) for d in read_set(SAMPLE)[::4]]
    (fitted, held), *_ = folds({"sample": dialogues}, 2)
    num_queries = sum(len(dialogue.queries or ()) for dialogue in held["sample"])
    counts = score_localizer(fitted, held, encoder, most_queries=1000)["sample"]
    assert len(counts) == num_queries and sum(c.tp for c in counts) > 0
    with pytest.raises(InputError, match="crowds"):
        score_segmenter(fitted, held, {"sample": "chat"}, encoder)
    fitted["room"] = fitted["sample"]
    scores = score_segmenter(fitted, held, {"sample": "chat", "room": "crowd"}, encoder)["sample"]
    assert len(scores) == len(held["sample"])
    assert all(0 <= score.f1 <= 1 for score in scores)


def test_a_fit_without_summaries_is_refused():
    dialogues = read_set(SAMPLE)[:4]
    with pytest.raises(InputError, match="more than 8 turns"):
        score_localizer({"sample": dialogues}, {}, HashingEncoder(), most_queries=5)


def test_sets_without_pictures_leave_what_ships_about_images():
    summary = Query(query="Summarize it.", relevance=Selection(utterance_ids=frozenset(range(12))))
    plain = [
        replace(
            d,
            turns=tuple(replace(turn, images=()) for turn in d.turns),
            queries=tuple(
                replace(q, relevance=replace(q.relevance, image_ids=frozenset()))
                for q in (*d.queries, summary)
            ),
        )
        for d in read_set(SAMPLE)[::8]
    ]
    encoder = HashingEncoder()
    examples = examples_of(plain, FeatureReader(encoder), encoder, 0, 1000)
    assert fit(examples)["images"] == shipped_model()["images"]
