"""The set that maximizes expected F1 under given probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_set(
    probabilities: Sequence[float] | NDArray[np.float64], empty: float, floor: float = 0.0
) -> list[int]:
    """Choose positions by expected F1.

    With S the sum of the probabilities and the set of the k largest, the expected F1 is taken as
    the ratio of expectations

        F(k) = 2 (p_1 + ... + p_k) / (k + S)

    The best k positions are kept when their F(k) is above `empty`, the worth of selecting nothing:
    P(nothing is relevant), since F1 of two empty sets is 1 (Source: Eq 5), times how much a right
    silence counts beside a right answer (micro F1 does not count it at all).

    Example:
        p = (0.9, 0.1), empty 0.05: S = 1, F(1) = 1.8 / 2 = 0.9, F(2) = 2 / 3, so the first
        position is chosen.

    Args:
        probabilities: P(position is relevant), in [0, 1].
        empty: Worth of the empty set, in [0, 1].
        floor: Positions below it are never chosen.

    Returns:
        Ascending positions; may be empty.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if not len(values):
        return []
    order = np.argsort(-values, kind="stable")
    sums = np.cumsum(values[order])
    expected = 2 * sums / (np.arange(1, len(values) + 1) + sums[-1])
    size = int(np.argmax(expected)) + 1
    if expected[size - 1] <= empty:
        return []
    return sorted(int(i) for i in order[:size] if values[i] >= floor)
