"""Baselines of segmentation as pure functions: even cuts, plain text-tiling, the reply rule.

Shapes: T turns, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.segmentation.addressing import Addressing
from ffr_core.segmentation.similarity import block_cosines, cumulated, depths
from ffr_core.types import Dialogue, Fragment, fragments_from_clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray


def even_cuts(dialogue: Dialogue, mean_length: float) -> tuple[Fragment, ...]:
    """Cut every `mean_length` turns, rounded to a whole number of at least one."""
    size = max(1, round(mean_length))
    return linear_fragments(len(dialogue.turns), range(size, len(dialogue.turns), size))


def text_tiling(
    vectors_TD: NDArray[np.float32], block: int = 2, strictness: float = 0.5
) -> tuple[Fragment, ...]:
    """Cut where the similarity of neighboring blocks dips (Hearst 1997, on embeddings).

    The gap score is the cosine of the summed vectors of the `block` turns on either side, the
    depth of a gap is the sum of the climbs to the nearest peak on its left and right. Gaps that
    are local maxima of depth and exceed mean + strictness x standard deviation are cut.

    Args:
        vectors_TD: [T, D], unit norm.
        block: Turns on either side of a gap.
        strictness: Higher gives fewer, longer fragments.
    """
    num_turns = len(vectors_TD)
    if num_turns < 3:
        return linear_fragments(num_turns, ())
    depth = depths(block_cosines(cumulated(vectors_TD), block))
    threshold = depth.mean() + strictness * depth.std()
    padded = np.concatenate([[-1.0], depth, [-1.0]])
    peak = (depth >= padded[:-2]) & (depth > padded[2:]) & (depth > max(threshold, 1e-6))
    return linear_fragments(num_turns, (np.flatnonzero(peak) + 1).tolist())


def reply_rule(dialogue: Dialogue) -> tuple[Fragment, ...]:
    """Join each turn to the last turn of whom it addresses, else to its speaker's own last turn.

    A source's own `reply_to` goes first. A turn with neither opens a fragment.
    """
    addressing = Addressing.of(dialogue)
    fragment_of: list[int] = []
    last_turn: dict[str, int] = {}
    clusters: list[list[int]] = []
    for turn in dialogue.turns:
        target = turn.reply_to
        if target is None or target >= turn.turn_id:
            names = [*addressing.addressees[turn.turn_id], turn.speaker]
            target = next((last_turn[name] for name in names if name in last_turn), None)
        if target is None:
            clusters.append([])
        fragment_of.append(len(clusters) - 1 if target is None else fragment_of[target])
        clusters[fragment_of[-1]].append(turn.turn_id)
        last_turn[turn.speaker] = turn.turn_id
    return fragments_from_clusters(clusters)


def linear_fragments(num_turns: int, cuts: Iterable[int]) -> tuple[Fragment, ...]:
    """Contiguous fragments; a cut names the first turn of the next fragment."""
    edges = [0, *cuts, num_turns]
    return tuple(
        Fragment(fragment_id=i, turn_ids=tuple(range(start, end)))
        for i, (start, end) in enumerate(pairwise(edges))
    )
