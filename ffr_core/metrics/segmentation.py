"""Pairwise and B-cubed precision, recall and F1 of a segmentation. Source: App. C.2.

A clustering is a sequence of turn-id collections. Gold sets of some corpora leave turns out (such
turns are not scored: nobody said where they belong) or name a turn in two fragments (two turns
belong together when some fragment holds both). Both are our reading; on a partition they change
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Clusters = Sequence[Collection[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PRF:
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def pairwise(predicted: Clusters, gold: Clusters) -> PRF:
    """Score the pairs of turns put together.

    P = |pairs in both| / |predicted pairs|, R = |pairs in both| / |gold pairs|. Where there are no
    predicted (gold) pairs, P (R) is 1: nothing was put together wrongly (missed).

    Example:
        predicted [[0,1,2],[3]], gold [[0,1],[2,3]]: one of three pairs right, one of two found:
        P 1/3, R 1/2, F1 0.4.
    """
    scored = sorted({turn_id for cluster in gold for turn_id in cluster})
    predicted_TT, gold_TT = _together(predicted, scored), _together(gold, scored)
    num_predicted, num_gold = int(predicted_TT.sum()), int(gold_TT.sum())
    both = int((predicted_TT & gold_TT).sum())
    return _prf(both / num_predicted if num_predicted else 1.0, both / num_gold if num_gold else 1)


def b_cubed(predicted: Clusters, gold: Clusters) -> PRF:
    """Average, over the turns of a dialogue, of the overlap of a turn's two clusters.

    For turn t with predicted cluster C and gold cluster G: P_t = |C & G| / |C|,
    R_t = |C & G| / |G|. F1 is the harmonic mean of the averages. A turn in two gold fragments
    counts with their union.
    """
    scored = sorted({turn_id for cluster in gold for turn_id in cluster})
    predicted_of, gold_of = _clusters_of(predicted, set(scored)), _clusters_of(gold, set(scored))
    if not scored:
        return PRF(precision=1.0, recall=1.0, f1=1.0)
    precision = recall = 0.0
    for turn_id in scored:
        mine, right = predicted_of.get(turn_id, {turn_id}), gold_of[turn_id]
        common = len(mine & right)
        precision += common / len(mine)
        recall += common / len(right)
    return _prf(precision / len(scored), recall / len(scored))


def mean(results: Sequence[PRF]) -> PRF:
    """Average over dialogues, each component on its own. Our reading of App. C.2."""
    n = len(results)
    if not n:
        raise ValueError("no dialogue to average over; the data need gold fragments")
    return PRF(
        precision=sum(r.precision for r in results) / n,
        recall=sum(r.recall for r in results) / n,
        f1=sum(r.f1 for r in results) / n,
    )


def _together(clusters: Clusters, scored: list[int]) -> NDArray[np.bool_]:
    """[T, T], True at (i, j > i) where some cluster holds both scored turns."""
    position = {turn_id: i for i, turn_id in enumerate(scored)}
    together_TT = np.zeros((len(scored), len(scored)), dtype=bool)
    for cluster in clusters:
        members = [position[i] for i in cluster if i in position]
        together_TT[np.ix_(members, members)] = True
    return np.triu(together_TT, k=1)


def _clusters_of(clusters: Clusters, scored: set[int]) -> dict[int, set[int]]:
    held: dict[int, set[int]] = {}
    for cluster in clusters:
        members = scored.intersection(cluster)
        for turn_id in members:
            held[turn_id] = held.get(turn_id, set()) | members
    return held


def _prf(precision: float, recall: float) -> PRF:
    total = precision + recall
    return PRF(
        precision=precision, recall=recall, f1=2 * precision * recall / total if total else 0.0
    )
