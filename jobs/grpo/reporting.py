"""Numbers and lines of one GRPO step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ffr_core.rollout import Filled, Group


def reward_means(groups: Sequence[Group]) -> dict[str, float]:
    """Mean of each reward over all rollouts of some groups, and the mean answer length."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if not rollouts:
        return {}
    sums: Counter[str] = Counter()
    for rollout in rollouts:
        sums.update(rollout.reward.breakdown)
        sums["length"] += len(rollout.token_ids)
        sums["cut_share"] += rollout.finish_reason == "length"
    return {name: value / len(rollouts) for name, value in sums.items()}


def step_values(
    filled: Filled,
    numbers: Mapping[str, float],
    version: int,
    roll_seconds: float,
    update_seconds: float,
) -> dict[str, float]:
    """What is logged of a step.

    Args:
        filled: Its groups.
        numbers: From `Updater.step`.
        version: Policy version that sampled the fresh groups.
        roll_seconds: Time of sampling and scoring.
        update_seconds: Time of the optimizer steps.
    """
    rolled = [*filled.batch, *filled.carried, *filled.dropped]
    fresh = [group for group in rolled if group.policy_version == version]
    num_rollouts = sum(len(group.rollouts) for group in fresh)
    ages = [version - group.policy_version for group in filled.batch]
    return {
        **{f"train/{name}": value for name, value in numbers.items()},
        **{f"reward/{name}": value for name, value in reward_means(fresh).items()},
        **{f"sampling/{name}": value for name, value in filled.counts.items()},
        "sampling/mean_age": sum(ages) / len(ages) if ages else 0.0,
        "speed/rollout_seconds": roll_seconds,
        "speed/update_seconds": update_seconds,
        "speed/rollouts_per_second": num_rollouts / max(1e-9, roll_seconds + update_seconds),
    }


def step_line(values: Mapping[str, float]) -> str:
    """The numbers of a step that a person watches."""

    def of(name: str) -> float:
        return values.get(name, 0.0)

    return (
        f"loss {of('train/loss'):+.4f} reward {of('reward/total'):.3f} (f1 {of('reward/f1'):.3f}"
        f" order {of('reward/order'):.3f} format {of('reward/format'):.2f})"
        f" kl {of('train/kl'):.4f} clipped {of('train/clipped'):.3f}"
        f" entropy {of('train/entropy'):.3f} groups {of('sampling/groups'):.0f}"
        f" dropped {of('sampling/groups_dropped'):.0f}"
        f" {of('speed/rollout_seconds'):.1f} + {of('speed/update_seconds'):.1f} s"
    )


def opening_line(num_prompts: int, num_samples: int, left_out: Mapping[str, int]) -> str:
    """What is trained on, and why samples are left out."""
    reasons = "".join(f", {n} left out as {why}" for why, n in sorted(left_out.items()))
    return f"{num_prompts} prompts of {num_samples} samples{reasons}"
