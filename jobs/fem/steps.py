"""One training step: which queries, candidates and pairs; a function of seed and step alone.

Every worker builds the same step and embeds its share of the rows, so the number of workers changes
nothing but the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ffr_core.types import Passage
from jobs.fem.mining import Mined, Place
from jobs.fem.pairs import Corpus, QaPair, window_around

View = Literal["turn", "window", "fragment"]
"""What a candidate is: one turn, a window of turns around it, or the whole fragment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The rows of one step, in the order queries, candidates, questions, answers."""

    queries: list[str]
    candidates: list[Passage]
    questions: list[str]
    answers: list[Passage]
    query_rows_R: NDArray[np.int64]
    """Row r of the inter loss asks query `query_rows_R[r]`; one row a query and view."""
    positive_RN: NDArray[np.bool_]
    ignored_RN: NDArray[np.bool_]
    fragments_A: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A training set with what was mined for it."""

    corpus: Corpus
    mined: list[Mined]
    pairs: dict[int, list[QaPair]]
    """By fragment."""
    lengths: list[dict[int, int]]
    """Per fragment: turn id -> tokens."""
    weight: float
    """Share of the queries of a step, relative to the other sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """How large a step is."""

    queries: int
    views: tuple[View, ...]
    siblings: int
    """Mined negatives of the same dialogue, per query and view."""
    others: int
    """Mined negatives of other dialogues, per query and view."""
    pairs: int
    """Question-answer pairs."""
    positive_depth: int
    """The positive turn is drawn from this many best gold turns."""
    negative_depth: int
    """Mined negatives are drawn from this many best ones."""
    window_tokens: tuple[int, ...]
    """A window's limit is drawn from these."""
    anchor_texts: int = 0
    """Texts that stay where they are."""


def plan_step(sources: Sequence[Source], shape: StepShape, seed: int, step: int) -> StepPlan:
    """Draw a step."""
    rng = np.random.default_rng([seed, step])
    shares = np.array([source.weight for source in sources])
    chosen = rng.choice(len(sources), size=shape.queries, p=shares / shares.sum())
    rows: list[tuple[int, int]] = []  # (source, query)
    for number, source in enumerate(sources):
        wanted = int((chosen == number).sum())
        rows += [(number, int(q)) for q in _draw(rng, len(source.corpus.queries), wanted)]
    candidates: dict[tuple[View, int, int, tuple[int, ...]], None] = {}
    for number, query in rows:
        source = sources[number]
        mined = source.mined[query]
        places = [_pick(rng, mined.positives, 1, shape.positive_depth)]
        places.append(_pick(rng, mined.siblings, shape.siblings, shape.negative_depth))
        places.append(_pick(rng, mined.others, shape.others, shape.negative_depth))
        for view in shape.views:
            limit = int(rng.choice(shape.window_tokens))
            for place in [p for part in places for p in part]:
                turn_ids = _candidate(source, place, view, limit)
                candidates[(view, number, place[0], turn_ids)] = None
    keys = list(candidates)
    positive_RN, ignored_RN = _masks(sources, shape.views, rows, keys)
    questions, answers, fragments = _pairs(rng, sources, shape.pairs, rows)
    return StepPlan(
        queries=[sources[number].corpus.queries[query].text for number, query in rows],
        candidates=[sources[n].corpus.passage(f, ids) for _, n, f, ids in keys],
        questions=questions,
        answers=answers,
        query_rows_R=np.tile(np.arange(len(rows)), len(shape.views)),
        positive_RN=positive_RN,
        ignored_RN=ignored_RN,
        fragments_A=np.array(fragments, np.int64),
    )


def _candidate(source: Source, place: Place, view: View, limit: int) -> tuple[int, ...]:
    fragment, turn_ids = place
    if view == "turn":
        return turn_ids
    if view == "fragment":
        return source.corpus.fragments[fragment].turn_ids
    return window_around(source.corpus, fragment, turn_ids[0], source.lengths[fragment], limit)


def _masks(
    sources: Sequence[Source],
    views: Sequence[View],
    rows: Sequence[tuple[int, int]],
    keys: Sequence[tuple[View, int, int, tuple[int, ...]]],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Right: same view and fragment, holds a gold turn. Ignored: other view, or no gold turn."""
    shape = (len(views) * len(rows), len(keys))
    positive_RN, ignored_RN = np.zeros(shape, bool), np.zeros(shape, bool)
    for v, view in enumerate(views):
        for r, (number, q) in enumerate(rows):
            query = sources[number].corpus.queries[q]
            for n, (other, its_source, fragment, turn_ids) in enumerate(keys):
                own = other == view and its_source == number and fragment == query.fragment
                row = v * len(rows) + r
                positive_RN[row, n] = own and bool(query.gold_turns & set(turn_ids))
                ignored_RN[row, n] = other != view or (own and not positive_RN[row, n])
    return positive_RN, ignored_RN


def _pairs(
    rng: np.random.Generator,
    sources: Sequence[Source],
    wanted: int,
    rows: Sequence[tuple[int, int]],
) -> tuple[list[str], list[Passage], list[int]]:
    """Up to six pairs with different answers from each fragment of the batch, until enough."""
    questions: list[str] = []
    answers: list[Passage] = []
    fragments: list[int] = []
    places = [(n, sources[n].corpus.queries[q].fragment) for n, q in rows]
    places = list(dict.fromkeys(place for place in places if place[1] in sources[place[0]].pairs))
    for name, index in enumerate(rng.permutation(len(places))):
        number, fragment = places[index]
        found = list({pair.answer: pair for pair in sources[number].pairs[fragment]}.values())
        for i in rng.permutation(len(found))[: min(6, wanted - len(questions))]:
            questions.append(found[i].question)
            answers.append(found[i].answer)
            fragments.append(name)
        if len(questions) >= wanted:
            break
    return questions, answers, fragments


def _draw(rng: np.random.Generator, size: int, wanted: int) -> list[int]:
    """Different positions where there are enough."""
    return [int(i) for i in rng.choice(size, size=min(size, wanted), replace=False)]


def _pick(
    rng: np.random.Generator, places: Sequence[Place], wanted: int, depth: int
) -> list[Place]:
    near = list(places[:depth])
    return [near[i] for i in rng.permutation(len(near))[:wanted]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenStep:
    """Rows of a step against one set whose vectors stay as they are."""

    source: int
    queries: list[str]
    fragments_U: NDArray[np.int64]
    """Fragment of each turn of the set."""
    gold_QU: NDArray[np.bool_]
    questions: list[str]
    answers: list[tuple[NDArray[np.int64], int]]
    """Per question: the fragment's turns among the units, and which of them answers."""
    anchor_texts: list[str]


def draw_frozen_step(
    sources: Sequence[Source], anchor_texts: Sequence[str], shape: StepShape, seed: int, step: int
) -> FrozenStep:
    """Draw a set, then queries and question-answer pairs of it; and anchor texts of all."""
    rng = np.random.default_rng([seed, step])
    shares = np.array([source.weight for source in sources])
    number = int(rng.choice(len(sources), p=shares / shares.sum()))
    corpus, pairs = sources[number].corpus, sources[number].pairs
    chosen = [corpus.queries[i] for i in _draw(rng, len(corpus.queries), shape.queries)]
    units = corpus.units("turn")
    gold_QU = np.array(
        [[f == q.fragment and ids[0] in q.gold_turns for f, ids in units] for q in chosen], bool
    )
    fragments_U = np.array([fragment for fragment, _ in units])
    questions, answers = [], []
    found = [(f, pair) for f, several in pairs.items() for pair in several]
    for i in _draw(rng, len(found), shape.pairs) if found else []:
        fragment, pair = found[i]
        turns = np.flatnonzero(fragments_U == fragment)
        questions.append(pair.question)
        answers.append((turns, corpus.fragments[fragment].turn_ids.index(pair.answer_turn)))
    return FrozenStep(
        source=number,
        queries=[query.text for query in chosen],
        fragments_U=fragments_U,
        gold_QU=gold_QU,
        questions=questions,
        answers=answers,
        anchor_texts=[anchor_texts[i] for i in _draw(rng, len(anchor_texts), shape.anchor_texts)],
    )
