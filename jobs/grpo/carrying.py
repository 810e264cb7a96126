"""Carried groups as JSON values, for checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ffr_core.rewards import Reward
from ffr_core.rollout import Group, Rollout


def to_json(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Plain values of groups."""
    return [asdict(group) for group in groups]


def from_json(values: Sequence[dict[str, Any]]) -> tuple[Group, ...]:
    """The groups that `to_json` got."""
    return tuple(
        Group(**{**value, "rollouts": tuple(_rollout(item) for item in value["rollouts"])})
        for value in values
    )


def _rollout(value: dict[str, Any]) -> Rollout:
    return Rollout(
        **{
            **value,
            "token_ids": tuple(value["token_ids"]),
            "logprobs": tuple(value["logprobs"]),
            "reward": Reward(**value["reward"]),
        }
    )
