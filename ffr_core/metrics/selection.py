"""Precision, recall, F1 and MCC of selected ids, micro over a test set, and joint scores.

Source: Sec 6; micro counts and true negatives over all ids of a dialogue: authors' setting.
Joint precision and recall are harmonic means over the two modalities, joint F1 and MCC arithmetic
means (every row of the paper's Tables 3 and 4 agrees with that).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A confusion table; addition sums two of them."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum cell by cell."""
        return Counts(
            tp=self.tp + other.tp,
            fp=self.fp + other.fp,
            fn=self.fn + other.fn,
            tn=self.tn + other.tn,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionScores:
    """Scores of one modality, or the joint ones. Ranges: [0, 1], `mcc` [-1, 1]."""

    precision: float
    recall: float
    f1: float
    mcc: float


def count(
    predicted: Collection[int], gold: Collection[int], num_ids: int, unknown: int = 0
) -> Counts:
    """Compare two id sets out of `num_ids` possible ids.

    `unknown` is how many more were predicted that do not exist: they are false positives.

    Example:
        `count({0, 1}, {1, 2}, 5)` is tp 1, fp 1, fn 1, tn 2.
    """
    predicted_set, gold_set = set(predicted), set(gold)
    tp = len(predicted_set & gold_set)
    fp, fn = len(predicted_set) - tp, len(gold_set) - tp
    return Counts(tp=tp, fp=fp + unknown, fn=fn, tn=num_ids - tp - fp - fn)


def scores(counts: Counts) -> SelectionScores:
    """Turn a confusion table into scores; a share with nothing to divide by is 0.

    P = tp / (tp + fp), R = tp / (tp + fn), F1 = 2 tp / (2 tp + fp + fn),
    MCC = (tp tn - fp fn) / sqrt((tp + fp)(tp + fn)(tn + fp)(tn + fn)).
    """
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return SelectionScores(
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        f1=_share(2 * tp, 2 * tp + fp + fn),
        mcc=(tp * tn - fp * fn) / math.sqrt(product) if product else 0.0,
    )


def joint(utterance: SelectionScores, image: SelectionScores) -> SelectionScores:
    """Combine the modalities; a negative MCC is averaged as it is, never clamped before."""
    return SelectionScores(
        precision=_harmonic(utterance.precision, image.precision),
        recall=_harmonic(utterance.recall, image.recall),
        f1=(utterance.f1 + image.f1) / 2,
        mcc=(utterance.mcc + image.mcc) / 2,
    )


def f1_of_sets(predicted: Collection[int], gold: Collection[int]) -> float:
    """F1 of one pair of id sets; 1 when both are empty. Source: Eq 5."""
    if not predicted and not gold:
        return 1.0
    return 2 * len(set(predicted) & set(gold)) / (len(set(predicted)) + len(set(gold)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
