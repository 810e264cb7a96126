"""Paired bootstrap: is system A better than system B on the same queries?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A - B with its 95 % percentile interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    a_QS: NDArray[np.float64],
    b_QS: NDArray[np.float64],
    score: Callable[[NDArray[np.float64]], float],
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Resample queries with replacement, the same ones for both systems.

    Args:
        a_QS: [Q, S] what each query contributes for system A (a hit; or tp, fp, fn).
        b_QS: [Q, S] the same queries for system B.
        score: Turns the column sums divided by Q, [S], into the score.
        resamples: Number of resamples.
        seed: Of the resampling.

    Example:
        Equal contributions give mean = low = high = 0.
    """
    if a_QS.shape != b_QS.shape or not len(a_QS):
        raise ValueError(f"need the same queries for both, found {a_QS.shape} and {b_QS.shape}")
    rng = np.random.default_rng(seed)
    q = len(a_QS)
    differences = np.empty(resamples)
    for i in range(resamples):
        chosen = rng.integers(0, q, q)
        differences[i] = score(a_QS[chosen].mean(axis=0)) - score(b_QS[chosen].mean(axis=0))
    low, high = np.percentile(differences, [2.5, 97.5])
    mean = score(a_QS.mean(axis=0)) - score(b_QS.mean(axis=0))
    return Difference(mean=mean, low=float(low), high=float(high))


def f1_of_shares(counts_S: NDArray[np.float64]) -> float:
    """F1 from (tp, fp, fn), in counts or in shares of the queries."""
    tp, fp, fn = counts_S
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else 0.0


def interval(
    a_QS: NDArray[np.float64],
    score: Callable[[NDArray[np.float64]], float],
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of one system's score, queries resampled with replacement.

    Args:
        a_QS: [Q, S] what each query contributes.
        score: Turns the column sums divided by Q, [S], into the score.
        resamples: Number of resamples.
        seed: Of the resampling.

    Example:
        Queries that all contribute the same give low = high = the score.
    """
    if not len(a_QS):
        raise ValueError("no query to resample; the data need queries")
    rng, q = np.random.default_rng(seed), len(a_QS)
    shares_RQ = rng.multinomial(q, np.full(q, 1 / q), size=resamples) / q
    low, high = np.percentile([score(row_S) for row_S in shares_RQ @ a_QS], [2.5, 97.5])
    return float(low), float(high)
