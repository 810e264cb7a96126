"""Features of every turn of a scope for one query: what the learned model reads.

Cosines are measured against a background of everyday lines, in standard deviations, so that they
mean the same in a fragment of five turns and in a dialogue of a thousand, and with any encoder.

Shapes: N turns of the scope, D embedding, F features, K background lines.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.localization.terms import (
    STOP_TERMS,
    QueryForm,
    has_name,
    has_number,
    has_time,
    speaks_of_self,
    terms,
)
from ffr_core.passages import image_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.types import Turn

    Floats = NDArray[np.float64]

WINDOWS = (1, 3, 8, 20)
"""Turns on each side that the smoothed features average over."""
MAX_KEYWORDS = 3
"""Content terms of a query that is read as keywords: who types so looks for these words."""
_STOP_WEIGHT = 0.15
_ABSENT = -3.0
"""Stands for the cosine of a neighbour that does not exist."""
QUERY_FLAGS = (
    *("who", "when", "where", "number", "reason", "picture", "broad", "polar", "question"),
    "joined",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnFacts:
    """What does not depend on the query; computed once a turn."""

    counts: Counter[str]
    """Terms of its text and captions, the speaker left out."""
    pairs: frozenset[tuple[str, str]]
    """Neighbouring terms."""
    length: int
    asks: bool
    number: bool
    time: bool
    name: bool
    of_self: bool
    pictures: int
    says: bool
    """Has a text of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """The turns that one call looks at."""

    facts: Sequence[TurnFacts]
    """N, in the order of the dialogue."""
    vectors_ND: NDArray[np.float32]
    named_N: NDArray[np.bool_]
    """The query names this turn's speaker."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Background:
    """Everyday lines and questions, embedded once."""

    lines_KD: NDArray[np.float32]
    questions_KD: NDArray[np.float32]


def turn_facts(turn: Turn) -> TurnFacts:
    """Read one turn."""
    text = " ".join([turn.text, *(image_words(image) for image in turn.images)])
    found = terms(text)
    return TurnFacts(
        counts=Counter(found),
        pairs=frozenset(pairwise(found)),
        length=len(found),
        asks=turn.text.rstrip().endswith(("?", "？")),
        number=has_number(turn.text),
        time=has_time(turn.text),
        name=has_name(turn.text),
        of_self=speaks_of_self(turn.text),
        pictures=len(turn.images),
        says=bool(turn.text.strip()),
    )


def term_weights(form: QueryForm, facts: Sequence[TurnFacts]) -> Floats:
    """Weight of each query term in this scope: its idf, cut down when it says little. [terms]."""
    n = len(facts)
    weights = np.zeros(len(form.terms))
    for i, term in enumerate(form.terms):
        holders = sum(term in turn.counts for turn in facts)
        idf = math.log1p((n + 0.5) / (holders + 0.5))
        weights[i] = idf * (_STOP_WEIGHT if term in STOP_TERMS else 1.0)
    return weights


def feature_columns(
    form: QueryForm,
    query_D: NDArray[np.float32],
    scope: Scope,
    background: Background,
) -> dict[str, Floats]:
    """Features of every turn: name -> [N], always in the same order."""
    n = len(scope.facts)
    weights = term_weights(form, scope.facts)
    held_NT = np.array(
        [[term in turn.counts for term in form.terms] for turn in scope.facts], dtype=np.float64
    ).reshape(n, len(form.terms))
    total = max(float(weights.sum()), 1e-9)
    overlap = held_NT @ weights / total
    rarest = (held_NT * weights).max(axis=1, initial=0.0) / max(float(weights.max(initial=0)), 1e-9)
    lines = background.lines_KD @ query_D
    spread = max(float(lines.std()), 1e-3)
    cosine = (scope.vectors_ND @ query_D - lines.mean()) / spread
    hub_NK = scope.vectors_ND @ background.questions_KD.T
    hub = (hub_NK.mean(axis=1) - lines.mean()) / spread

    columns: dict[str, Floats] = {}
    _signal(columns, "cosine", cosine, _ABSENT)
    _signal(columns, "overlap", overlap, 0.0)
    columns["hub"] = hub
    columns["rarest"] = rarest
    length = np.array([turn.length for turn in scope.facts], dtype=np.float64)
    columns["density"] = overlap / np.sqrt(np.maximum(length, 3.0))
    columns["length"] = np.log1p(length)
    asked_pairs = set(pairwise(form.terms))
    columns["pairs"] = np.array(
        [min(len(asked_pairs & turn.pairs), 3) for turn in scope.facts], dtype=np.float64
    )
    _turn_columns(columns, form, scope)
    for radius in WINDOWS[1:]:
        covered = _window_max(held_NT, radius) @ weights / total
        columns[f"covered_{radius}"] = covered
    columns["literal"] = _literal(form, held_NT)
    columns["best_covered"] = np.full(n, float(columns[f"covered_{WINDOWS[1]}"].max()))
    columns["scope_size"] = np.full(n, math.log(n))
    columns["scope_length"] = np.full(n, float(columns["length"].mean()))
    columns["query_terms"] = np.full(n, math.log1p(len(form.terms)))
    for flag in QUERY_FLAGS:
        columns[f"asks_{flag}"] = np.full(n, float(form.flags[flag]))
    return columns


def _literal(form: QueryForm, held_NT: Floats) -> Floats:
    """1 for turns that hold every content term of a query of few keywords."""
    content = [i for i, term in enumerate(form.terms) if term not in STOP_TERMS]
    asks = any(value for name, value in form.flags.items() if name != "joined")
    if asks or not 0 < len(content) <= MAX_KEYWORDS:
        return np.zeros(len(held_NT))
    holds: Floats = held_NT[:, content].min(axis=1)
    return holds


def _signal(columns: dict[str, Floats], name: str, values: Floats, absent: float) -> None:
    """A score with its neighbours, smoothed forms, rank and distance to the best."""
    n = len(values)
    best_two = np.sort(values)[-2:]
    columns[name] = values
    columns[f"{name}_gap"] = best_two[-1] - values
    columns[f"{name}_lead"] = np.full(n, best_two[-1] - best_two[0])
    columns[f"{name}_best"] = np.full(n, best_two[-1])
    columns[f"{name}_rank"] = np.log1p(_ranks(values))
    columns[f"{name}_spread"] = (values - values.mean()) / max(float(values.std()), 1e-3)
    columns[f"{name}_before"] = np.concatenate([[absent], values[:-1]])
    columns[f"{name}_after"] = np.concatenate([values[1:], [absent]])
    for radius in WINDOWS:
        smooth = _window_mean(values, radius)
        columns[f"{name}_mean_{radius}"] = smooth
        if radius > 1:
            columns[f"{name}_mean_gap_{radius}"] = smooth.max() - smooth


def _turn_columns(columns: dict[str, Floats], form: QueryForm, scope: Scope) -> None:
    """What a turn is, alone and beside what the query asks for."""
    facts = scope.facts
    asks = np.array([turn.asks for turn in facts], dtype=np.float64)
    pictures = np.array([min(turn.pictures, 2) for turn in facts], dtype=np.float64)
    columns["is_question"] = asks
    columns["after_question"] = np.concatenate([[0.0], asks[:-1]])
    columns["answers_match"] = columns["after_question"] * np.maximum(columns["cosine_before"], 0)
    columns["pictures"] = pictures
    columns["picture_asked"] = pictures * form.flags["picture"]
    columns["says"] = np.array([turn.says for turn in facts], dtype=np.float64)
    number = np.array([turn.number for turn in facts], dtype=np.float64)
    time = np.array([turn.time for turn in facts], dtype=np.float64)
    columns["number_asked"] = (2 * number - 1) * form.flags["number"]
    columns["time_asked"] = (2 * time - 1) * form.flags["when"]
    name = np.array([turn.name for turn in facts], dtype=np.float64)
    columns["name_asked"] = (2 * name - 1) * max(form.flags["who"], form.flags["where"])
    named = scope.named_N.astype(np.float64)
    of_self = np.array([turn.of_self for turn in facts], dtype=np.float64)
    columns["of_self"] = of_self
    columns["named_of_self"] = named * of_self
    some = float(named.any())
    columns["speaker"] = (2 * named - 1) * some
    columns["speaker_before"] = np.concatenate([[0.0], columns["speaker"][:-1]])


def _ranks(values: Floats) -> Floats:
    ranks = np.empty(len(values))
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks


def _window_mean(values: Floats, radius: int) -> Floats:
    """Mean over up to `radius` neighbours on each side."""
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(n)
    low, high = np.maximum(at - radius, 0), np.minimum(at + radius + 1, n)
    mean: Floats = (sums[high] - sums[low]) / (high - low)
    return mean


def _window_max(held_NT: Floats, radius: int) -> Floats:
    """Which terms stand within `radius` turns."""
    sums = np.concatenate([np.zeros((1, held_NT.shape[1])), np.cumsum(held_NT, axis=0)])
    at = np.arange(len(held_NT))
    low, high = np.maximum(at - radius, 0), np.minimum(at + radius + 1, len(held_NT))
    covered: Floats = np.minimum(sums[high] - sums[low], 1.0)
    return covered
