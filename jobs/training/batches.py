"""Length-bucketed batches by tokens: deterministic by seed and epoch, the same for any N workers.

A *step* is the content of one optimizer step over all workers; a *microbatch* is one padded forward
pass of one worker. Only the split into microbatches depends on the number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from jobs.training.config import BatchConfig


def plan_epoch(
    lengths: Sequence[int],
    config: BatchConfig,
    seed: int,
    epoch: int,
    curriculum_share: float = 1.0,
) -> list[list[int]]:
    """Assign all examples to the optimizer steps of an epoch.

    Examples are shuffled, sorted by length inside blocks of `bucket_steps` steps, cut into steps,
    and the steps of a block shuffled again.

    Args:
        lengths: Tokens of each example.
        config: Size of a step.
        seed: Seed of the run.
        epoch: 0-based.
        curriculum_share: Below 1, only the shortest such share of the examples takes part.

    Returns:
        Indexes of examples, one list a step; each chosen example exactly once.
    """
    generator = random.Random(f"{seed}/{epoch}")
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    order = order[: max(1, round(len(order) * curriculum_share))] if order else []
    generator.shuffle(order)
    steps: list[list[int]] = []
    for block in _blocks(order, lengths, config):
        cut = _cut(sorted(block, key=lambda i: (lengths[i], i)), lengths, config)
        generator.shuffle(cut)
        steps += cut
    return steps


def split_step(
    step: Sequence[int],
    lengths: Sequence[int],
    world_size: int,
    tokens_per_microbatch: int,
) -> list[list[list[int]]]:
    """Divide one step over the workers, and each worker's share into padded microbatches.

    The longest examples go first, each to the worker with the fewest tokens so far.

    Returns:
        [worker][microbatch][example]; a worker of a small step may get nothing.
    """
    shares: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for index in sorted(step, key=lambda i: (-lengths[i], i)):
        worker = loads.index(min(loads))
        shares[worker].append(index)
        loads[worker] += lengths[index]
    return [_microbatches(share, lengths, tokens_per_microbatch) for share in shares]


def _blocks(order: list[int], lengths: Sequence[int], config: BatchConfig) -> list[list[int]]:
    """Cut a shuffled order into blocks of about `bucket_steps` steps."""
    if config.examples_per_step is not None:
        size = config.examples_per_step * config.bucket_steps
        return [order[i : i + size] for i in range(0, len(order), size)]
    assert config.tokens_per_step is not None
    limit = config.tokens_per_step * config.bucket_steps
    blocks: list[list[int]] = []
    filled = limit
    for index in order:
        if filled + lengths[index] > limit:
            blocks.append([])
            filled = 0
        blocks[-1].append(index)
        filled += lengths[index]
    return blocks


def _cut(block: list[int], lengths: Sequence[int], config: BatchConfig) -> list[list[int]]:
    """Cut a sorted block into steps."""
    if config.examples_per_step is not None:
        size = config.examples_per_step
        return [block[i : i + size] for i in range(0, len(block), size)]
    assert config.tokens_per_step is not None
    return _fill(block, lengths, config.tokens_per_step, padded=False)


def _microbatches(share: list[int], lengths: Sequence[int], limit: int) -> list[list[int]]:
    ordered = sorted(share, key=lambda i: (lengths[i], i))
    return _fill(ordered, lengths, limit, padded=True)


def _fill(order: list[int], lengths: Sequence[int], limit: int, padded: bool) -> list[list[int]]:
    """Greedily fill groups of an ascending order up to a number of (padded) tokens."""
    groups: list[list[int]] = []
    total = 0
    for index in order:
        size = len(groups[-1]) + 1 if groups else 1
        grown = size * lengths[index] if padded else total + lengths[index]
        if groups and grown <= limit:
            groups[-1].append(index)
            total = total + lengths[index]
        else:
            groups.append([index])
            total = lengths[index]
    return groups
