"""From boundary probabilities to the contiguous fragments with the best expected pairwise F1.

If boundary g is there with probability b_g, turns i < j lie in one fragment with probability
prod over the gaps between them of (1 - b_g). A segmentation S that puts |S| pairs together has

    expected F1 ~ 2 * sum over its pairs of P(same) / (|S| + sum over all pairs of P(same)),

maximized by Dinkelbach's method: for a trial value f, maximize the sum over the pairs of S of
(P(same) - f / 2) with dynamic programming, set f to the F1 of the result, repeat. Where boundaries
are sharp this cuts at them; where they are vague it settles on pieces of a sensible length.

Shapes: T turns, G = T - 1 gaps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ITERATIONS = 6
_FINER = 0.15
"""Added to the log of the expected number of fragments; best on folds kept out of the fit. True
boundaries keep more distance than independent ones, so P(same fragment) is too high far away."""


def expected_fragments(num_turns: int) -> float:
    """How many fragments a dialogue of this length tends to have. Our choice.

    4 x (turns / 16)^0.4: 4 of 16 turns, 8 of 100, 17 of 600; in proportion to the length beyond
    600 turns, where a history of several talks begins.
    """
    count: float = 4.0 * (min(num_turns, 600) / 16) ** 0.4 * max(1.0, num_turns / 600)
    return count


def temper_rate(boundary_G: NDArray[np.float64], pull: float) -> NDArray[np.float64]:
    """Draw the expected number of fragments towards `expected_fragments`.

    Weights fitted on some kinds of talk misjudge how often an unseen kind changes its topic. All
    log-odds are shifted alike, so that the log of the expected number moves `pull` of the way.

    Args:
        boundary_G: Probabilities in (0, 1).
        pull: 0 keeps the fitted rate (but for `_FINER`), 1 goes all the way.
    """
    prior = math.log(expected_fragments(len(boundary_G) + 1))
    mine = math.log1p(float(boundary_G.sum()))
    count = math.exp(mine + _FINER + pull * (prior - mine - _FINER)) - 1
    count = min(max(count, 0.05), 0.8 * len(boundary_G))
    odds = np.log(boundary_G) - np.log1p(-boundary_G)
    low, high = -12.0, 12.0
    for _ in range(40):
        shift = (low + high) / 2
        if (1 / (1 + np.exp(-odds - shift))).sum() < count:
            low = shift
        else:
            high = shift
    tempered: NDArray[np.float64] = 1 / (1 + np.exp(-odds - low))
    return tempered


def same_fragment(boundary_G: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(same fragment) of every two turns, [T, T], from independent boundaries."""
    survived = np.concatenate([[0.0], np.cumsum(np.log1p(-np.minimum(boundary_G, 1 - 1e-9)))])
    same_TT: NDArray[np.float64] = np.exp(-np.abs(survived[:, None] - survived[None, :]))
    return same_TT


def best_cuts(same_TT: NDArray[np.float64]) -> list[int]:
    """First turns of all fragments but the first, for the best expected pairwise F1."""
    num_turns = len(same_TT)
    sums = np.zeros((num_turns + 1, num_turns + 1))
    sums[1:, 1:] = np.triu(same_TT, 1).cumsum(axis=0).cumsum(axis=1)
    diagonal, total = np.diag(sums), float(sums[-1, -1])
    positions = np.arange(num_turns + 1)
    f1, starts = 0.6, [0]
    for _ in range(_ITERATIONS):
        starts = _best_path(sums, diagonal, positions, f1)
        edges = np.array([*starts, num_turns])
        sizes = np.diff(edges)
        inside = (diagonal[edges[1:]] - sums[edges[:-1], edges[1:]]).sum()
        pairs = float((sizes * (sizes - 1) / 2).sum())
        better = 2 * float(inside) / max(pairs + total, 1e-9)
        if abs(better - f1) < 1e-4:
            break
        f1 = better
    return starts[1:]


def _best_path(
    sums: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    positions: NDArray[np.int64],
    f1: float,
) -> list[int]:
    """Starts of the fragments whose pairs have the largest sum of P(same) - f1 / 2."""
    best, back = np.zeros(len(positions)), np.zeros(len(positions), int)
    for end in range(1, len(positions)):
        sizes = end - positions[:end]
        # `same` is summed above its diagonal, so pairs inside [start, end) are the rows before
        # `end` less the rows before `start`.
        inside = diagonal[end] - sums[:end, end]
        values = best[:end] + inside - f1 / 4 * sizes * (sizes - 1)
        back[end] = int(values.argmax())
        best[end] = values[back[end]]
    starts, end = [], len(positions) - 1
    while end > 0:
        end = int(back[end])
        starts.append(end)
    return starts[::-1]
