"""Top-K cosine neighbors of every row: exact in blocks, or inside the nearest cells (IVF).

The exact form costs N x N x D and is meant for small sets and for checking the other. The blocked
form clusters the rows into cells of bounded size and compares each cell with its nearest cells
only, so the work grows with N times a constant number of candidates. It reads blocks of rows, which
may lie in a file (`StoredRows`), and hands over one block of results at a time. Shapes: N rows, D
embedding, K neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.dataset.clustering import assign, k_means, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.dataset.stored import Rows

_COMPARED = 256
"""Rows whose cosines are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbors:
    """Neighbors of each row, best first; the row itself is never among them."""

    rows_NK: NDArray[np.int64]
    """[N, K]; -1 where a row has fewer neighbors."""
    scores_NK: NDArray[np.float32]
    """Cosines, [N, K]; -inf beside -1."""


def exact_blocks(
    vectors_ND: Rows, k: int, *, block: int = _COMPARED
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Compare every row with every row; yields some rows and their neighbors."""
    everything = np.arange(len(vectors_ND))
    unit_rows = unit(np.asarray(vectors_ND, dtype=np.float32))
    for start in range(0, len(vectors_ND), block):
        rows = everything[start : start + block]
        yield rows, _best(rows, everything, unit_rows[rows] @ unit_rows.T, k)


def cell_blocks(
    vectors_ND: Rows, k: int, *, seed: int, cell_size: int = 512, num_probes: int = 8
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Compare each row with the rows of the `num_probes` cells nearest to its own.

    Args:
        vectors_ND: [N, D], unit norm, may be a memory map of float16.
        k: Neighbors wanted.
        seed: Of the clustering.
        cell_size: Rows a cell holds on average; a cell of more than twice that is cut in parts.
        num_probes: Cells that are compared, the row's own included.

    Yields:
        Some rows of one cell and their neighbors; every row once.
    """
    cells, centers = _cells(vectors_ND, cell_size, seed)
    if len(cells) <= num_probes:
        yield from exact_blocks(vectors_ND, k)
        return
    near = _top(centers @ centers.T, num_probes)[0]
    for number, rows in enumerate(cells):
        probed = dict.fromkeys([number, *near[number].tolist()])
        candidates = np.sort(np.concatenate([cells[c] for c in probed]))
        others = unit(np.asarray(vectors_ND[candidates], dtype=np.float32))
        for start in range(0, len(rows), _COMPARED):
            part = rows[start : start + _COMPARED]
            own = unit(np.asarray(vectors_ND[part], dtype=np.float32))
            yield part, _best(part, candidates, own @ others.T, k)


def exact_neighbors(vectors_ND: Rows, k: int, *, block: int = _COMPARED) -> Neighbors:
    """All rows of `exact_blocks` at once."""
    return _together(len(vectors_ND), k, exact_blocks(vectors_ND, k, block=block))


def blocked_neighbors(vectors_ND: Rows, k: int, **options: int) -> Neighbors:
    """All rows of `cell_blocks` at once; its options."""
    return _together(len(vectors_ND), k, cell_blocks(vectors_ND, k, **options))


def _cells(
    vectors_ND: Rows, cell_size: int, seed: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
    """Members of each cell, and the cells' centers; no cell exceeds twice the wanted size."""
    num_cells = max(1, len(vectors_ND) // cell_size)
    rng = np.random.default_rng(seed)
    size = min(len(vectors_ND), max(4096, 24 * num_cells))
    sample = np.sort(rng.choice(len(vectors_ND), size=size, replace=False))
    centers, _ = k_means(
        np.asarray(vectors_ND[sample], dtype=np.float32), num_cells, seed=seed, rounds=8
    )
    labels = assign(vectors_ND, centers)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(centers))
    cells: list[NDArray[np.int64]] = []
    cell_centers: list[NDArray[np.float32]] = []
    for number, members in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        parts = -(-len(members) // (2 * cell_size))
        for part in np.array_split(members, parts) if parts else ():
            cells.append(part)
            cell_centers.append(centers[number])
    return cells, np.stack(cell_centers)


def _together(
    num_rows: int, k: int, blocks: Iterator[tuple[NDArray[np.int64], Neighbors]]
) -> Neighbors:
    result = Neighbors(
        rows_NK=np.empty((num_rows, k), dtype=np.int64),
        scores_NK=np.empty((num_rows, k), dtype=np.float32),
    )
    for rows, found in blocks:
        result.rows_NK[rows], result.scores_NK[rows] = found.rows_NK, found.scores_NK
    return result


def _best(
    rows: NDArray[np.int64], candidates: NDArray[np.int64], scores_RC: NDArray[np.float32], k: int
) -> Neighbors:
    """The best candidates of each row; ties go to the lower row, so runs agree."""
    at = np.searchsorted(candidates, rows)
    scores_RC[np.arange(len(rows)), at] = -np.inf
    columns, best = _top(scores_RC, k)
    lacking = ((0, 0), (0, k - columns.shape[1]))
    return Neighbors(
        rows_NK=np.pad(
            np.where(np.isneginf(best), -1, candidates[columns]), lacking, constant_values=-1
        ),
        scores_NK=np.pad(best, lacking, constant_values=-np.inf),
    )


def _top(scores_RC: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and scores of the k best of each row, best first, lower column first on a tie."""
    k = min(k, scores_RC.shape[1])
    if k < scores_RC.shape[1]:
        columns = np.sort(np.argpartition(-scores_RC, k - 1, axis=1)[:, :k], axis=1)
    else:
        columns = np.tile(np.arange(k), (len(scores_RC), 1))
    values = np.take_along_axis(scores_RC, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)
