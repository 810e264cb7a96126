"""Recall@k and mean query-gold cosine. Source: Sec 6, Tables 9 and 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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


def mean_cosine(queries_QD: NDArray[np.float32], gold_QD: NDArray[np.float32]) -> float:
    """Mean cosine between each query and its gold fragment; rows have unit norm, in [-1, 1]."""
    return float((queries_QD * gold_QD).sum(axis=1).mean())
