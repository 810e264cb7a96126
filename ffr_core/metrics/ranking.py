"""Recall@k, and the rank that it counts. Source: Sec 6, Table 9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECALL_CUTOFFS = (1, 5, 10, 15, 20)


def recall_at_k(ranks: Sequence[int | None], k: int) -> float:
    """Share of queries whose gold fragment stands among the first k.

    Args:
        ranks: 0-based rank of the gold fragment of each query, None when it was not found.
        k: Cut-off, at least 1.

    Example:
        `recall_at_k([0, 3, None], 1)` is 1/3.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if not ranks:
        raise ValueError("no query to average over; the data need queries with a gold fragment")
    return sum(rank is not None and rank < k for rank in ranks) / len(ranks)


def rank_of(right: int, scores_N: NDArray[np.floating[Any]]) -> int:
    """0-based rank of one row by descending scores; of equal ones, those before it come first.

    Example:
        Scores 1, 2, 2: the ranks of the three rows are 2, 0 and 1.
    """
    better = int((scores_N > scores_N[right]).sum())
    return better + int((scores_N[:right] == scores_N[right]).sum())
