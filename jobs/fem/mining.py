"""Hard negatives and good positives, by the cosines of the encoder as it is before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffr_core.types import Passage
from jobs.fem.pairs import Corpus, Unit

EncodePassages = Callable[[Sequence[Passage]], NDArray[np.float32]]
EncodeQueries = Callable[[Sequence[str]], NDArray[np.float32]]
Place = tuple[int, tuple[int, ...]]
"""Fragment and turn ids of a unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Units for one query, best cosine first."""

    positives: tuple[Place, ...]
    """Gold units of its fragment."""
    siblings: tuple[Place, ...]
    """Units of other fragments of the same dialogue."""
    others: tuple[Place, ...]
    """Units of other dialogues."""


def mine(
    corpus: Corpus,
    unit: Unit,
    encode_passages: EncodePassages,
    encode_queries: EncodeQueries,
    *,
    depth: int,
) -> list[Mined]:
    """Rank the units of a corpus for each of its queries; `depth` of each kind are kept.

    At most one unit a fragment is kept among siblings and others, so negatives are diverse.
    """
    if not corpus.queries:
        return []
    units = corpus.units(unit)
    vectors_UD = encode_passages([corpus.passage(*place) for place in units])
    queries_QD = encode_queries([query.text for query in corpus.queries])
    starts = np.flatnonzero(
        np.diff([fragment for fragment, _ in units], prepend=-1)
    )  # first unit of each fragment
    ends = np.append(starts[1:], len(units))
    mined = []
    for query, query_D in zip(corpus.queries, queries_QD, strict=True):
        scores_U = vectors_UD @ query_D
        best = [start + int(np.argmax(scores_U[start:end])) for start, end in zip(starts, ends)]  # noqa: B905
        order = sorted(range(len(best)), key=lambda f: -scores_U[best[f]])
        own = corpus.fragments[query.fragment].dialogue.dialogue_id
        brothers = set(corpus.siblings[own])
        gold = [
            u
            for u in range(starts[query.fragment], ends[query.fragment])
            if query.gold_turns & set(units[u][1])
        ]
        gold.sort(key=lambda u: -scores_U[u])
        near = [f for f in order if f in brothers and f != query.fragment][:depth]
        far = [f for f in order if f not in brothers][:depth]
        mined.append(
            Mined(
                positives=tuple(units[u] for u in gold[:depth]),
                siblings=tuple(units[best[f]] for f in near),
                others=tuple(units[best[f]] for f in far),
            )
        )
    return mined
