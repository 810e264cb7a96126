"""AdamW and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jobs.training.config import OptimizerConfig

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig, num_steps: int
) -> tuple[Optimizer, LRScheduler]:
    """AdamW over the trainable parameters with warm-up and decay over `num_steps`."""
    import torch

    optimizer = adamw(parameters, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_share(step, num_steps, config)
    )
    return optimizer, schedule


def adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """AdamW over the trainable parameters, at the peak rate."""
    import torch

    return torch.optim.AdamW(
        [p for p in parameters if p.requires_grad],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        foreach=True,
    )


def rate_share(
    step: int, num_steps: int, config: OptimizerConfig, done: float | None = None
) -> float:
    """Share of the peak rate at a 0-based step.

    Warm-up over ceil(warmup_share * num_steps) steps, 1/w at step 0; then the decay from 1 to
    `final_share`, which the step after the last would have.

    Args:
        step: Counts the warm-up, and the decay where `done` is left out.
        num_steps: Of the run, or the most it can have.
        config: Warm-up and decay.
        done: Share of the run that lies behind, where the run may end before `num_steps`.
    """
    warmup = math.ceil(config.warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    place = step if done is None else done * num_steps
    progress = min(1.0, max(0.0, (place - warmup) / max(1, num_steps - warmup)))
    if config.schedule == "constant":
        return 1.0
    left = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_share + (1 - config.final_share) * left
