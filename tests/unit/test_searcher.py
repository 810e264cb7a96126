"""The search of the ingress with scripted workers: events, retries, deadlines, known queries."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ffr_core.errors import NotFoundError
from ffr_core.types import (
    Candidate,
    Dialogue,
    DialogueAnswer,
    Filters,
    Fragment,
    Localization,
    Passage,
    Turn,
)
from serve.caching import PrimedEncoder
from serve.problems import Problem
from serve.search import Found, Progress, Searcher, SearchPlan, make_groups
from serve.workers import Recall

DAY = datetime(2025, 3, 1, tzinfo=UTC)
VECTOR = np.ones(2, np.float32)
PLAN = SearchPlan(tenant="t", query="q", filters=Filters(), num_candidates=9)


class Store:
    """Ten turns under every hash, one a day."""

    def __init__(self, gone=()):
        self.gone, self.reads = gone, 0

    def get(self, tenant, payload):
        self.reads += 1
        if payload in self.gone:
            raise NotFoundError("gone")
        turns = tuple(
            Turn(turn_id=i, speaker="s", text=f"{payload} {i}", timestamp=DAY + timedelta(days=i))
            for i in range(10)
        )
        return Dialogue(dialogue_id=payload, turns=turns)


def candidate(name, fragment_id, score=1.0):
    fragment = Fragment(fragment_id=fragment_id, turn_ids=(fragment_id,))
    return Candidate(dialogue_id=name, fragment=fragment, score=score, payload=name)


def found(chosen, relevance=0.5):
    turn_id = chosen.fragment.turn_ids[0]
    return Localization(utterances={turn_id: relevance}, images={}, relevance=relevance)


def searcher(candidates, localize, store=None, **numbers):
    async def recall(tenant, query, filters, num_candidates):
        return Recall(vector_D=VECTOR, candidates=candidates)

    defaults = {"group_size": 2, "candidate_timeout": 5.0, "search_timeout": 5.0}
    return Searcher(
        recall=recall,
        localize=localize,
        payloads=store or Store(),
        min_relevance=0.0,
        **{**defaults, **numbers},
    )


def run(search, plan=PLAN):
    async def collect():
        progress = Progress()
        return [item async for item in search.run(plan, progress)], progress

    return asyncio.run(collect())


async def all_found(group):
    return [found(c) for c in group.candidates]


def test_groups_hold_a_dialogue_together_best_first():
    mixed = [candidate("a", 0), candidate("b", 0), candidate("a", 1), candidate("c", 0)]
    groups = make_groups(mixed, 2)
    assert [[(c.dialogue_id, c.fragment.fragment_id) for c in g] for g in groups] == [
        [("a", 0), ("a", 1)],
        [("b", 0), ("c", 0)],
    ]
    assert make_groups([], 3) == []


def test_a_dialogue_is_told_once_with_all_its_candidates():
    parts = [candidate("a", i) for i in range(5)] + [candidate("b", 0)]
    items, progress = run(searcher(parts, all_found))
    answers = {item.answer.dialogue_id: item.answer for item in items}
    assert len(items) == 2
    assert answers["a"].spans == ((0, 5),)
    assert not progress.partial


def test_the_final_order_is_by_relevance_and_limited():
    async def localize(group):
        return [found(c, {"a": 0.2, "b": 0.9, "c": 0.5}[c.dialogue_id]) for c in group.candidates]

    _, progress = run(searcher([candidate(n, 0) for n in "abc"], localize))
    assert [item.answer.dialogue_id for item in progress.ranked()[:2]] == ["b", "c"]


def test_only_what_is_among_the_best_so_far_is_news():
    def told(limit, *parts):
        """Names of the news after each (name, score, confidence) that comes in."""
        progress, names = Progress(), []
        for name, score, confidence in parts:
            localization = Localization(
                utterances={0: confidence}, images={}, relevance=score, utterance_share=0.5
            )
            answer = DialogueAnswer(
                dialogue_id=name, score=score, spans=(), localization=localization, payload=name
            )
            progress.found[name] = Found(answer=answer, dialogue=Store().get("t", name))
            names.append("".join(found.answer.dialogue_id for found in progress.news(limit)))
        return names, "".join(found.answer.dialogue_id for found in progress.ranked()[:limit])

    parts = [("a", 0.5, 0.5), ("b", 0.4, 0.5), ("c", 0.9, 0.5), ("d", 0.6, 0.5)]
    assert told(1, *parts) == (["a", "", "c", ""], "c")
    assert told(2, *parts) == (["a", "b", "c", "d"], "cd")
    pushed_out = [("a", 0.9, 0.3), ("b", 0.5, 0.5), ("c", 0.4, 0.8)]
    assert told(1, *pushed_out) == (["a", "", "b"], "b")


def test_what_lies_outside_the_dates_is_no_part_of_the_answer():
    dates = Filters(since=DAY + timedelta(days=2), until=DAY + timedelta(days=4))
    parts = [candidate("a", i) for i in (1, 3, 4)] + [candidate("b", 7)]
    items, progress = run(searcher(parts, all_found), replace(PLAN, filters=dates))
    assert [(item.answer.dialogue_id, item.answer.spans) for item in items] == [("a", ((3, 4),))]
    assert not progress.partial


def test_a_failed_candidate_alone_is_asked_for_again():
    calls = []

    async def localize(group):
        calls.append([c.fragment.fragment_id for c in group.candidates])
        first = len(calls) == 1
        return [None if first and i == 1 else found(c) for i, c in enumerate(group.candidates)]

    items, progress = run(searcher([candidate("a", 0), candidate("a", 1)], localize))
    assert calls == [[0, 1], [1]]
    assert items[0].answer.spans == ((0, 2),)
    assert not progress.partial


def test_a_replica_that_dies_is_replaced_by_another_call():
    calls = []

    async def localize(group):
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("died")
        return [found(c) for c in group.candidates]

    items, progress = run(searcher([candidate("a", 0)], localize))
    assert len(items) == 1
    assert not progress.partial


def test_what_stays_missing_makes_the_answer_partial():
    async def localize(group):
        return [None if c.dialogue_id == "b" else found(c) for c in group.candidates]

    parts = [candidate("a", 0), candidate("b", 0), candidate("c", 0)]
    items, progress = run(searcher(parts, localize))
    assert {item.answer.dialogue_id for item in items} == {"a", "c"}
    assert progress.partial


def test_slow_candidates_end_with_the_search_and_the_rest_is_kept():
    async def localize(group):
        if group.candidates[0].dialogue_id == "slow":
            await asyncio.sleep(60)
        return [found(c) for c in group.candidates]

    started = time.monotonic()
    parts = [candidate("slow", 0), candidate("slow", 1), candidate("fast", 0)]
    items, progress = run(searcher(parts, localize, search_timeout=0.3))
    assert time.monotonic() - started < 5
    assert [item.answer.dialogue_id for item in items] == ["fast"]
    assert progress.partial


def test_a_full_service_is_an_error_and_no_partial_answer():
    async def localize(group):
        raise Problem(429, "full")

    with pytest.raises(Problem, match="full"):
        run(searcher([candidate("a", 0)], localize))


def test_a_caller_that_goes_away_ends_the_work():
    states = []

    async def localize(group):
        if group.candidates[0].dialogue_id == "a":
            return [found(c) for c in group.candidates]
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            states.append("ended")
            raise

    async def leave():
        search = searcher([candidate("a", 0), candidate("b", 0)], localize, group_size=1)
        events = search.run(PLAN, Progress())
        await anext(events)
        await events.aclose()
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert states == ["ended"]


def test_a_dialogue_replaced_meanwhile_makes_the_answer_partial():
    items, progress = run(
        searcher([candidate("a", 0), candidate("b", 0)], all_found, Store(gone={"a"}))
    )
    assert [item.answer.dialogue_id for item in items] == ["b"]
    assert progress.partial


def test_nothing_found_is_a_complete_answer():
    items, progress = run(searcher([], all_found))
    assert items == []
    assert not progress.partial


def test_a_primed_query_needs_no_model():
    class Model:
        def encode_queries(self, texts):
            return np.zeros((len(texts), 2), np.float32)

        def encode_passages(self, passages):
            return np.zeros((len(passages), 2), np.float32)

    loads = []
    encoder = PrimedEncoder(lambda: loads.append(1) or Model())
    encoder.prime("q", VECTOR)
    assert encoder.encode_queries(["q"]).tolist() == [[1, 1]]
    assert loads == []
    assert encoder.encode_queries(["q", "other"]).tolist() == [[0, 0], [0, 0]]
    encoder.encode_passages([Passage(text="p")])
    assert loads == [1]
