"""Fusion of the recall channels: weighted sum of per-query z-scores.

    z_c(i)   = (s_c(i) - mean_c) / std_c      over the C candidates of one query
    score(i) = sum over the channels c of w_c * z_c(i)

Calibrated scores keep what a rank forgets: by how much a candidate leads. Our reading; the paper
recalls by one cosine per fragment (Sec 5.2.2, step 3), which is `FusionWeights.dense_only()`.

Legend: C candidates (fragments) of one query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALLEST_STD = 1e-6
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionWeights:
    """Weight of each channel; a channel of weight 0 is not searched."""

    dense_passage: float = 1.0
    """Cosine of the query and the best passage of the fragment."""
    dense_fragment: float = 0.0
    """Cosine of the query and the fragment."""
    bm25_passage: float = 1.0
    """BM25 of the best passage of the fragment."""
    bm25_fragment: float = 1.0
    """BM25 of the whole fragment."""

    def __post_init__(self) -> None:
        """Our own invariant: no negative weight, at least one positive."""
        weights = asdict(self).values()
        assert all(weight >= 0 for weight in weights) and any(weights)

    @classmethod
    def dense_only(cls) -> FusionWeights:
        """One cosine per fragment. Source: Sec 5.2.2 (3), as stated."""
        return cls(dense_passage=0.0, dense_fragment=1.0, bm25_passage=0.0, bm25_fragment=0.0)

    def active(self) -> dict[str, float]:
        """Channel name -> weight, of the channels that count."""
        return {name: weight for name, weight in asdict(self).items() if weight}


def fuse(
    channels: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """Fuse the scores of one query's candidates.

    Example: scores (1, 3) have mean 2 and standard deviation 1, so z = (-1, 1); with scores (0, 0)
    in a second channel, which say nothing, and weights 2 and 1 the result is (-2, 2).

    Args:
        channels: Name -> [C] raw scores. NaN: the candidate has no score in this channel; it
            counts as the lowest score that another candidate has there.
        weights: Name -> weight. A channel without a weight counts nothing.

    Returns:
        [C] fused scores, comparable inside this query only.
    """
    sizes = {len(scores_C) for scores_C in channels.values()}
    assert len(sizes) == 1, f"channels of different lengths: {sizes}"
    fused_C = np.zeros(sizes.pop(), dtype=np.float64)
    for name, scores_C in channels.items():
        if weights.get(name, 0.0):
            fused_C += weights[name] * _z_scores(scores_C.astype(np.float64))
    return fused_C.astype(np.float32)


def _z_scores(scores_C: NDArray[np.float64]) -> NDArray[np.float64]:
    missing_C = np.isnan(scores_C)
    if missing_C.all():
        return np.zeros_like(scores_C)
    scores_C = np.where(missing_C, scores_C[~missing_C].min(), scores_C)
    std = scores_C.std()
    if std < _SMALLEST_STD:
        return np.zeros_like(scores_C)
    z_C: NDArray[np.float64] = (scores_C - scores_C.mean()) / std
    return z_C


def best_first(scores_C: NDArray[np.float32], ties_C: Sequence[Any]) -> list[int]:
    """Positions ordered by descending score; scores equal to 6 decimals by ascending `ties_C`."""
    rounded = np.round(scores_C.astype(np.float64), _DECIMALS).tolist()
    return sorted(range(len(rounded)), key=lambda i: (-rounded[i], ties_C[i]))
