"""Agreement of several people who annotate the same things.

Legend: U units (for us: one turn or image under one query), A annotators, labels are small
integers, a label of -1 is missing. All functions are pure; each states its formula and an example.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import InputError
from ffr_core.types import Dialogue, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[str, str]
"""(dialogue_id, query)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far annotators agree about one set of queries."""

    queries: int
    """Queries that at least two people annotated."""
    units: int
    annotators: tuple[str, ...]
    krippendorff_alpha: float
    fleiss_kappa: float | None
    """None when not every unit has the same number of labels."""
    cohen_kappa: Mapping[str, float]
    """By pair, `a/b`."""
    pairwise_f1: float
    """Mean over queries and pairs of people of the F1 of their selections, in [0, 1]."""


def cohen_kappa(a: Sequence[int], b: Sequence[int]) -> float:
    """(p_o - p_e) / (1 - p_e): observed and chance agreement of two annotators; 1 when p_e is 1.

    Example:
        [1, 1, 0, 0] and [1, 0, 0, 0]: p_o = 3/4, p_e = 1/2 x 1/4 + 1/2 x 3/4 = 1/2, kappa 0.5.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"{len(a)} and {len(b)} labels; expected the same number, at least one")
    first, second = np.asarray(a), np.asarray(b)
    observed = float((first == second).mean())
    labels = np.union1d(first, second)
    chance = float(sum((first == label).mean() * (second == label).mean() for label in labels))
    return 1.0 if chance >= 1 else (observed - chance) / (1 - chance)


def fleiss_kappa(labels_UA: NDArray[np.int64]) -> float:
    """Fleiss' kappa of a fixed number of labels a unit; 1 when only one label is ever used.

    P_u = (sum_c n_uc^2 - A) / (A (A - 1)), P_e = sum_c p_c^2, kappa = (mean P_u - P_e) / (1 - P_e).
    """
    units, annotators = labels_UA.shape
    if units < 1 or annotators < 2 or (labels_UA < 0).any():
        raise InputError("Fleiss' kappa needs at least two labels for every unit")
    counts = np.stack([(labels_UA == c).sum(axis=1) for c in np.unique(labels_UA)], axis=1)
    per_unit = ((counts**2).sum(axis=1) - annotators) / (annotators * (annotators - 1))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return 1.0 if chance >= 1 else float((per_unit.mean() - chance) / (1 - chance))


def krippendorff_alpha(labels_UA: NDArray[np.int64]) -> float:
    """Krippendorff's alpha for nominal labels; -1 is missing, units with one label say nothing.

    alpha = 1 - D_o / D_e over the coincidence matrix o_ck: each unit with m labels adds, for every
    ordered pair of its labels, 1 / (m - 1). D_o = sum of o_ck with c != k over n, D_e = sum of
    n_c n_k with c != k over n (n - 1). 1 when nothing varies.
    """
    values = np.unique(labels_UA[labels_UA >= 0])
    counts = np.stack([(labels_UA == c).sum(axis=1) for c in values], axis=1).astype(np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        raise InputError("Krippendorff's alpha needs a unit with at least two labels")
    sizes = counts.sum(axis=1, keepdims=True)
    coincidences = (counts.T / (sizes.T - 1)) @ counts
    coincidences -= np.diag((counts / (sizes - 1)).sum(axis=0))
    totals = coincidences.sum(axis=1)
    n = totals.sum()
    observed = n - np.trace(coincidences)
    expected = (n**2 - (totals**2).sum()) / (n - 1)
    return 1.0 if expected == 0 else float(1 - observed / expected)


def agreement(
    annotations: Mapping[Key, Mapping[str, Selection]], dialogues: Mapping[str, Dialogue]
) -> Agreement:
    """Agreement about gold ids: each turn and image of a dialogue under a query is a unit.

    Args:
        annotations: By (dialogue_id, query), the selection of each annotator.
        dialogues: By id.

    Raises:
        InputError: No query was annotated by two people.
    """
    shared = {key: found for key, found in annotations.items() if len(found) > 1}
    if not shared:
        raise InputError("no query was annotated by two people; hand out the same queries twice")
    names = sorted({name for found in shared.values() for name in found})
    rows: list[list[int]] = []
    f1: list[float] = []
    for (dialogue_id, _), found in sorted(shared.items()):
        dialogue = dialogues[dialogue_id]
        for unit in _units(dialogue):
            rows.append([int(unit in _flat(found[n])) if n in found else -1 for n in names])
        pairs = combinations(sorted(found), 2)
        f1 += [_f1(_flat(found[a]), _flat(found[b])) for a, b in pairs]
    labels = np.array(rows, dtype=np.int64)
    complete = bool((labels >= 0).all())
    return Agreement(
        queries=len(shared),
        units=len(labels),
        annotators=tuple(names),
        krippendorff_alpha=krippendorff_alpha(labels),
        fleiss_kappa=fleiss_kappa(labels) if complete else None,
        cohen_kappa=_pairs(labels, names),
        pairwise_f1=float(np.mean(f1)),
    )


def majority(found: Collection[Selection], share: float = 0.5) -> Selection:
    """Ids that more than `share` of the people selected.

    Example:
        Three people select {1, 2}, {2}, {2, 3}: {2}.
    """
    needed = share * len(found)
    utterances = {i for selection in found for i in selection.utterance_ids}
    images = {i for selection in found for i in selection.image_ids}
    return Selection(
        utterance_ids=frozenset(
            i for i in utterances if sum(i in s.utterance_ids for s in found) > needed
        ),
        image_ids=frozenset(i for i in images if sum(i in s.image_ids for s in found) > needed),
    )


def _pairs(labels_UA: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for a, b in combinations(range(len(names)), 2):
        both = (labels_UA[:, a] >= 0) & (labels_UA[:, b] >= 0)
        if both.any():
            kappa = cohen_kappa(labels_UA[both, a].tolist(), labels_UA[both, b].tolist())
            result[f"{names[a]}/{names[b]}"] = kappa
    return result


def _units(dialogue: Dialogue) -> list[tuple[str, int]]:
    turns = [("u", turn.turn_id) for turn in dialogue.turns]
    return [*turns, *(("i", image.image_id) for image in dialogue.images)]


def _flat(selection: Selection) -> frozenset[tuple[str, int]]:
    utterances = {("u", i) for i in selection.utterance_ids}
    return frozenset(utterances | {("i", i) for i in selection.image_ids})


def _f1(a: frozenset[tuple[str, int]], b: frozenset[tuple[str, int]]) -> float:
    """F1 of two sets; 1 when both are empty."""
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0
