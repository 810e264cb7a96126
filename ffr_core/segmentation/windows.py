"""Clusters of overlapping windows become one partition. Our reading of App. C.1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def stitch(
    parts: Sequence[tuple[range, Sequence[Sequence[int]]]],
) -> list[list[int]]:
    """Join the clusters of overlapping windows, each a partition of its window.

    A cluster continues the earlier cluster with which it shares most turns; each earlier cluster is
    continued by at most one, the best match first. Turns that an earlier window placed stay there.

    Args:
        parts: Windows in order, with clusters of positions in the whole dialogue.

    Returns:
        Clusters that hold every turn of the windows once, ordered by first turn.

    Example:
        [0, 4) with [[0, 2], [1, 3]], then [2, 6) with [[2, 4], [3], [5]]:
        [[0, 2, 4], [1, 3], [5]].
    """
    joined: list[list[int]] = []
    home: dict[int, int] = {}
    for _, clusters in parts:
        shared = Counter(
            (number, home[turn])
            for number, cluster in enumerate(clusters)
            for turn in cluster
            if turn in home
        )
        continues: dict[int, int] = {}
        for (number, earlier), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
            if number not in continues and earlier not in continues.values():
                continues[number] = earlier
        for number, cluster in enumerate(clusters):
            new = [turn for turn in cluster if turn not in home]
            if not new:
                continue
            if number not in continues:
                continues[number] = len(joined)
                joined.append([])
            joined[continues[number]] += new
            home |= dict.fromkeys(new, continues[number])
    return sorted(sorted(cluster) for cluster in joined)
