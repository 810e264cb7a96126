"""Which elements are selected under given probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def above(probabilities: Sequence[float], every: float, best: float) -> list[int]:
    """Choose every position of at least `every`, and the best one from `best` on.

    Micro F1 counts a right silence as nothing, and it is largest when every element is taken whose
    probability exceeds half of the F1 that is reached; `every` is that half, near enough. The best
    element costs less than it brings already below that.

    Example:
        p = (0.15, 0.05, 0.12), every 0.2, best 0.1: only the first; best 0.16: none.

    Args:
        probabilities: P(position is relevant), in [0, 1].
        every: Least probability of any chosen position.
        best: Least probability at which the most probable one is chosen alone; ties take the first.

    Returns:
        Ascending positions; may be empty.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    chosen = set(np.flatnonzero(values >= every).tolist())
    if len(values) and values.max() >= best:
        chosen.add(int(values.argmax()))
    return sorted(chosen)
