"""Gradients of N workers that equal those of one worker on the same global batch.

Every worker backpropagates the *sum* of its token losses. The sums and the token counts are then
added over all workers and divided once, so a worker with few tokens weighs little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ffr_core.errors import FfrError


def is_distributed() -> bool:
    """Whether a process group with more than one worker is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_world() -> tuple[int, int]:
    """This worker and the number of workers; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def all_reduce_weighted(parameters: Iterable[nn.Parameter], weight: float) -> float:
    """Turn gradients of summed losses into the gradient of the global weighted mean.

    Args:
        parameters: The same trainable parameters, in the same order, on every worker.
        weight: This worker's number of loss tokens (or rollouts, pairs: whatever was summed over).

    Returns:
        The weight of all workers together; with 0 the gradients are left at zero.
    """
    trained = [p for p in parameters if p.requires_grad]
    all_reduce_gradients(trained)
    total = all_reduce_sum([weight], trained[0].device)[0] if trained else weight
    torch._foreach_mul_([p.grad for p in trained], 1.0 / total if total > 0 else 0.0)
    return total


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add gradients over all workers, in one flat fp32 buffer.

    A parameter without a gradient counts as zero, so workers without a share of the batch take part
    as well. For losses that were divided by counts of the whole step already.
    """
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if not is_distributed() or not trained:
        return
    gradients = [p.grad for p in trained if p.grad is not None]
    flat = torch.cat([gradient.detach().float().flatten() for gradient in gradients])
    dist.all_reduce(flat)
    offset = 0
    for gradient in gradients:
        size = gradient.numel()
        gradient.copy_(flat[offset : offset + size].view_as(gradient))
        offset += size


def all_reduce_sum(values: Sequence[float], device: torch.device | str = "cpu") -> list[float]:
    """Add numbers over all workers, in double precision."""
    if not is_distributed():
        return [float(value) for value in values]
    # NCCL reduces tensors on the GPU only.
    place = device if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(list(values), dtype=torch.float64, device=place)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def gather_objects(value: Any) -> list[Any]:
    """Every worker's value, ordered by rank, on every worker."""
    if not is_distributed():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast_parameters(tensors: Iterable[Tensor]) -> None:
    """Give every worker the values of rank 0, in place."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor.data, src=0)


def check_finite(step: int, loss: float, norm: float) -> None:
    """Raise before an optimizer step would make every weight not-a-number, and a checkpoint of it.

    Args:
        step: Number of the step, from 1.
        loss: Over all workers.
        norm: Of the gradients of all workers.

    Raises:
        FfrError: One of the two is not finite; on every worker, since both are of all workers.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise FfrError(
            f"step {step} has the loss {loss} and the gradient norm {norm}; lower"
            " optimizer.learning_rate or use dtype = 'float32'"
        )


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients to a norm of at most `max_norm`; return the norm before."""
    trained = [p for p in parameters if p.grad is not None]
    return float(nn.utils.clip_grad_norm_(trained, max_norm))
