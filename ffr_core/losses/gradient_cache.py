"""Contrastive gradients over more rows than fit in memory, and over several workers.

A contrastive loss needs all embeddings of a step at once, a network needs memory only for the rows
that it is busy with. Two passes separate the two (GradCache, Gao et al. 2021, arXiv 2101.06983):

1. embed every part without a graph, join the rows of all workers, take the loss on the joined table
   and its gradient with respect to the table, dL/dE;
2. embed every part again, with a graph, and push the part's rows of dL/dE back through it.

The result equals plain backpropagation. Random states are kept between the passes, so dropout draws
the same masks.

Every worker computes the same loss of the whole table, and its parameter gradients hold the share
of its own rows: **sum** them over the workers, do not average.

Legend: N rows of the whole step, n rows of one part, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

Encode = Callable[[Sequence[int]], Tensor]
"""Positions in the step's N rows, or none -> embeddings [n, D], a graph when grad is enabled."""


def cached_gradients(
    encode: Encode,
    parts: Sequence[Sequence[int]],
    num_rows: int,
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add the gradient of `loss_of(embeddings_ND)` to the parameters behind `encode`.

    Args:
        encode: Run twice for each part of this worker.
        parts: Positions of this worker's rows, in pieces that fit in memory; over all workers each
            of the N positions stands in exactly one part.
        num_rows: N.
        loss_of: [N, D] -> scalar; must be the same function on every worker.

    Returns:
        The loss, detached; the same on every worker.
    """
    states: list[Any] = []
    rows: list[Tensor] = []
    with torch.no_grad():
        for part in parts:
            states.append(_random_state())
            rows.append(encode(part))
        # A worker without rows takes part as well, on its device.
        local_nD = torch.cat(rows or [encode([])])
    positions = [position for part in parts for position in part]
    table_ND = gather_rows(local_nD, positions, num_rows).requires_grad_()
    with torch.enable_grad():
        loss = loss_of(table_ND)
        (slope_ND,) = torch.autograd.grad(loss, table_ND)
    after = _random_state()
    for part, state in zip(parts, states, strict=True):
        _set_random_state(state)
        embeddings_nD = encode(part)
        index = torch.tensor(list(part), device=slope_ND.device)
        torch.autograd.backward(embeddings_nD, slope_ND[index].to(embeddings_nD.dtype))
    _set_random_state(after)
    return loss.detach()


def gather_rows(rows_nD: Tensor, positions: Sequence[int], num_rows: int) -> Tensor:
    """Join the rows of all workers into one table [N, D]; differentiable.

    The gradient of a worker's rows is the sum of what all workers' losses send to them. Rows may be
    shared out unevenly. Without a process group the rows are only put in their places.

    Args:
        rows_nD: This worker's rows.
        positions: Place of each in the table; over all workers each place is named once.
        num_rows: N.
    """
    index = torch.tensor(list(positions), dtype=torch.long, device=rows_nD.device)
    table_ND = rows_nD.new_zeros(num_rows, rows_nD.shape[1]).index_copy(0, index, rows_nD)
    if not (distributed.is_available() and distributed.is_initialized()):
        return table_ND
    joined: Tensor = _SumOverWorkers.apply(table_ND)  # type: ignore[no-untyped-call]
    return joined


class _SumOverWorkers(torch.autograd.Function):
    """Sum a tensor over the workers, forward and backward."""

    @staticmethod
    def forward(ctx: Any, table: Tensor) -> Tensor:
        total = table.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _random_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
