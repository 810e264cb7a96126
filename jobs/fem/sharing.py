"""Vectors of many rows: every worker embeds a share, all get all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.training.distributed import gather_objects, rank_and_world

R = TypeVar("R")
CHUNK = 256
"""Rows of one call; their pictures are decoded for the call and again for the passes inside."""


def shared_vectors(
    encode: Callable[[Sequence[R]], NDArray[np.float32]], rows: Sequence[R]
) -> NDArray[np.float32]:
    """Vectors [len(rows), D], bit for bit the same on every worker.

    What is mined from them decides the rows of a step, which all workers must agree on.

    Args:
        encode: Rows to vectors [R, D], no rows included.
        rows: The same on every worker.
    """
    rank, world = rank_and_world()
    mine = rows[rank::world]
    starts = range(0, max(1, len(mine)), CHUNK)
    parts = gather_objects(np.concatenate([encode(mine[i : i + CHUNK]) for i in starts]))
    vectors = np.zeros((len(rows), parts[0].shape[1]), np.float32)
    for place, part in enumerate(parts):
        vectors[place::world] = part
    return vectors
