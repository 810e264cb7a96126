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

    optimizer = torch.optim.AdamW(
        [p for p in parameters if p.requires_grad],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        foreach=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_share(step, num_steps, config)
    )
    return optimizer, schedule


def rate_share(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Share of the peak rate at a 0-based step.

    Warm-up over ceil(warmup_share * num_steps) steps, 1/w at step 0; then the decay from 1 to
    `final_share`, which the step after the last would have.
    """
    warmup = math.ceil(config.warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
    if config.schedule == "constant":
        return 1.0
    left = 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_share + (1 - config.final_share) * left
