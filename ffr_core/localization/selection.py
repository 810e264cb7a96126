"""Which elements are selected under given probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def above(
    probabilities: Sequence[float], every: float, best: float, share: float = 0.0
) -> list[int]:
    """Choose positions of at least `every`, and the best one from `best` on.

    Micro F1 counts a right silence as nothing, and it is largest when every element is taken whose
    probability exceeds half of the F1 that is reached; `every` is that half, near enough. The best
    element costs less than it brings already below that. Where one element is likely to be the
    whole answer, `share` leaves out those that fall far behind the best one.

    Example:
        p = (0.15, 0.05, 0.12), every 0.2, best 0.1: only the first; best 0.16: none.
        p = (0.6, 0.25, 0.5), every 0.2, best 0.1: all three; share 0.8 leaves out the second.

    Args:
        probabilities: P(position is relevant), in [0, 1].
        every: Least probability of any chosen position but the best.
        best: Least probability at which the most probable one is chosen alone; ties take the first.
        share: Least share of the best probability, in [0, 1].

    Returns:
        Ascending positions; may be empty.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    least = max(every, share * values.max(initial=0.0))
    chosen = set(np.flatnonzero(values >= least).tolist())
    if len(values) and values.max() >= best:
        chosen.add(int(values.argmax()))
    return sorted(chosen)
