"""Vectors of turns made comparable inside one dialogue, and similarities of blocks of turns.

An encoder's cosines have their own level and spread (multilingual-e5 lives between 0.7 and 1.0), so
vectors are centered on the dialogue before they are compared.

Shapes: T turns, G = T - 1 gaps (gap g lies before turn g + 1), D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Doubles = NDArray[np.float64]

_TINY = 1e-6


def centered(vectors_TD: Floats, content_T: Floats) -> Doubles:
    """Subtract the content-weighted mean of the dialogue; rows get unit norm."""
    mean_D = np.average(vectors_TD, axis=0, weights=content_T)
    return unit_rows(vectors_TD - mean_D)


def unit_rows(rows_TD: Floats) -> Doubles:
    """Rows of unit norm; (nearly) zero rows stay zero."""
    norms = np.linalg.norm(rows_TD, axis=1, keepdims=True)
    rows: Doubles = np.where(norms > _TINY, rows_TD / np.maximum(norms, _TINY), 0.0)
    return rows


def cumulated(rows_TD: Floats) -> Doubles:
    """[T + 1, D] running sums: rows a..b-1 sum to `cumulated[b] - cumulated[a]`."""
    sums = np.cumsum(rows_TD, axis=0, dtype=np.float64)
    return np.concatenate([np.zeros((1, rows_TD.shape[1])), sums])


def block_cosines(sums_TD: Floats, size: int) -> Doubles:
    """Cosine of the blocks of `size` turns left and right of each gap, [G], from running sums."""
    num_turns = len(sums_TD) - 1
    gaps = np.arange(1, num_turns)
    left = sums_TD[gaps] - sums_TD[np.maximum(gaps - size, 0)]
    right = sums_TD[np.minimum(gaps + size, num_turns)] - sums_TD[gaps]
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: Doubles = (left * right).sum(axis=1) / (norms + _TINY)
    return cosines


def depths(scores_G: Doubles) -> Doubles:
    """How deep each gap lies below the peaks on its two sides, [G]. Source: Hearst 1997."""
    depth = np.zeros_like(scores_G)
    for step in (1, -1):
        ordered = scores_G[::step]
        climb, peak = np.zeros_like(ordered), 0.0
        for i, score in enumerate(ordered):
            # The peak is the top of the slope that leads down to this gap.
            peak = score if i == 0 or score > ordered[i - 1] else peak
            climb[i] = peak - score
        depth += climb[::step]
    return depth


def z_scores(values: Doubles) -> Doubles:
    """Values in standard deviations from their mean; all zero where they do not vary."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > _TINY else np.zeros_like(values)
