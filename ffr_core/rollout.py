"""Groups of rollouts, and dynamic sampling: drop groups without a signal, refill, carry surplus.

Source: DAPO (Yu et al., 2025), named in Sec 6.1.1. Departures (our reading): a group is dropped
when its total rewards spread over less than 1e-4, refilled from the current curriculum stage, in a
bounded number of rounds; what is too much for a batch starts the next one.

Legend: G rollouts of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from ffr_core.rewards import Reward

MIN_SPREAD = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled completion with its score."""

    text: str
    token_ids: tuple[int, ...]
    """Sampled tokens, the end-of-turn token included when it was drawn."""
    logprobs: tuple[float, ...]
    """What the engine reported for each token; empty where it cannot tell."""
    reward: Reward
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The rollouts of one prompt, all by the same policy."""

    sample_id: str
    stage: str
    """Curriculum stage that the prompt came from."""
    policy_version: int
    """Optimizer steps that the sampling policy had seen."""
    rollouts: tuple[Rollout, ...]

    @property
    def rewards(self) -> list[float]:
        """Total rewards, [G]."""
        return [rollout.reward.total for rollout in self.rollouts]

    @property
    def spread(self) -> float:
        """Largest minus smallest total reward; 0 without rollouts."""
        return max(self.rewards) - min(self.rewards) if self.rollouts else 0.0

    def advantages(self, scale: bool = True) -> list[float]:
        """Rewards against those of the group, [G]; see `group_advantages`."""
        from ffr_core.losses.policy import group_advantages

        return group_advantages(self.rewards, scale=scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """One batch of groups and how it came about."""

    batch: tuple[Group, ...]
    carried: tuple[Group, ...]
    """Surplus for the next batch."""
    dropped: tuple[Group, ...]
    """Groups without a signal."""
    rounds: int
    """How often prompts were rolled out; 0 when the carried groups were enough."""
    rolled: int
    """Groups rolled out."""
    exhausted: bool
    """The prompts ended before the batch was full."""

    @property
    def counts(self) -> Mapping[str, float]:
        """For logs; `zero_variance_share` is dropped groups per group rolled out."""
        return {
            "groups": len(self.batch),
            "groups_rolled": self.rolled,
            "groups_dropped": len(self.dropped),
            "groups_carried": len(self.carried),
            "rounds": self.rounds,
            "zero_variance_share": len(self.dropped) / self.rolled if self.rolled else 0.0,
        }


def fill_batch(
    draw: Callable[[int], Sequence[str]],
    roll: Callable[[Sequence[str]], Sequence[Group]],
    *,
    num_groups: int,
    carried: Sequence[Group] = (),
    max_rounds: int = 4,
    oversample: float = 1.0,
    min_spread: float = MIN_SPREAD,
) -> Filled:
    """Collect `num_groups` groups with a signal.

    Carried groups come first, then prompts are rolled out in at most `max_rounds` rounds. A batch
    that is still not full stays short: its groups are trained on, none is invented.

    Args:
        draw: Gives at most n prompts, all of the current stage; none at the end of the data.
        roll: Samples and scores one group for each prompt, in one go.
        num_groups: Size of the batch.
        carried: Surplus of the batch before.
        max_rounds: Bound on rounds.
        oversample: Prompts rolled out for each missing group; above 1 saves rounds.
        min_spread: Groups whose rewards spread over less are dropped; 0 keeps all.
    """
    kept = list(carried)
    dropped: list[Group] = []
    rounds = rolled = 0
    exhausted = False
    while len(kept) < num_groups and rounds < max_rounds:
        prompts = draw(ceil((num_groups - len(kept)) * oversample))
        if not prompts:
            exhausted = True
            break
        groups = roll(prompts)
        rounds += 1
        rolled += len(groups)
        kept.extend(group for group in groups if group.spread >= min_spread)
        dropped.extend(group for group in groups if group.spread < min_spread)
    return Filled(
        batch=tuple(kept[:num_groups]),
        carried=tuple(kept[num_groups:]),
        dropped=tuple(dropped),
        rounds=rounds,
        rolled=rolled,
        exhausted=exhausted,
    )
