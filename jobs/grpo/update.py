"""One GRPO step on a batch of groups: minibatches, weighted gradients, numbers for the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ffr_core.losses.policy import importance_weights, policy_loss
from jobs.grpo.config import PolicyConfig
from jobs.grpo.policy import Inputs, PolicyModel, TokenScores
from jobs.grpo.rows import Row, build_batch, microbatches, share_rows
from jobs.training.config import OptimizerConfig
from jobs.training.distributed import (
    all_reduce_sum,
    all_reduce_weighted,
    check_finite,
    clip_gradients,
)
from jobs.training.optimization import rate_share

if TYPE_CHECKING:
    from torch.optim import Optimizer

SUMS = ("loss", "tokens", "clipped", "kl", "ratio", "weight", "entropy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Updater:
    """The policy with its optimizer; `step` is the same on every worker."""

    policy: PolicyModel
    optimizer: Optimizer
    config: PolicyConfig
    course: OptimizerConfig
    """The rate's course, and the bound on gradients."""
    num_steps: int
    """The most steps that the run can have; the warm-up is a share of them."""
    pad_token_id: int
    rank: int = 0
    world_size: int = 1

    def step(self, groups: Sequence[Sequence[Row]], number: int, done: float) -> dict[str, float]:
        """Train on the groups of one step over all workers.

        The groups are dealt into `minibatches` optimizer steps. Behavior log-probabilities are
        those of the policy before the first of them; with one minibatch they are the policy's own,
        so no pass is spent on them.

        Args:
            groups: Rows of each group; all workers pass the same.
            number: Steps before this one.
            done: Share of the run that lies behind.

        Returns:
            Numbers over all workers: means per token, the gradient norm and the rate of the last
            minibatch.
        """
        parts = [groups[i :: self.config.minibatches] for i in range(self.config.minibatches)]
        mine = [self._microbatches(part) for part in parts if part]
        behaviors = [[None] * len(part) for part in mine[:1]] + [
            [self._behavior(rows) for rows in part] for part in mine[1:]
        ]
        sums: Counter[str] = Counter()
        norm = 0.0
        rate = 0.0
        for place, (part, behavior) in enumerate(zip(mine, behaviors, strict=True)):
            rate = self._set_rate(number * self.config.minibatches + place, done)
            self.optimizer.zero_grad(set_to_none=True)
            own: Counter[str] = Counter()
            for rows, scores in zip(part, behavior, strict=True):
                own.update(self._backward(rows, scores))
            parameters = self.policy.parameters
            all_reduce_weighted(parameters, own["tokens"])
            norm = clip_gradients(parameters, self.course.max_grad_norm)
            # The norm is of all workers' gradients; a loss that is not finite makes it so too.
            check_finite(number + 1, own["loss"] / max(1, own["tokens"]), norm)
            self.optimizer.step()
            sums.update(own)
        totals = dict(
            zip(SUMS, all_reduce_sum([sums[name] for name in SUMS], self._device), strict=True)
        )
        tokens = max(1.0, totals.pop("tokens"))
        return {
            **{name: value / tokens for name, value in totals.items()},
            "tokens": tokens,
            "gradient_norm": norm,
            "learning_rate": rate,
        }

    def _set_rate(self, step: int, done: float) -> float:
        """The rate of one optimizer step, of which every step has `minibatches`."""
        num_steps = self.num_steps * self.config.minibatches
        rate = self.course.learning_rate * rate_share(step, num_steps, self.course, done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    @property
    def _device(self) -> torch.device:
        return self.policy.parameters[0].device

    def _microbatches(self, groups: Sequence[Sequence[Row]]) -> list[list[Row]]:
        rows = share_rows(groups, self.rank, self.world_size)
        return list(microbatches(rows, self.config.tokens_per_microbatch))

    def _inputs(self, rows: Sequence[Row]) -> Inputs:
        batch = build_batch(rows, self.pad_token_id)
        return self.policy.inputs([row.prompt for row in rows], batch)

    @torch.no_grad()
    def _behavior(self, rows: Sequence[Row]) -> TokenScores:
        return self.policy.score(self._inputs(rows))

    def _backward(self, rows: Sequence[Row], behavior: TokenScores | None) -> dict[str, float]:
        """Add gradients of the summed loss of one microbatch."""
        inputs = self._inputs(rows)
        scores = self.policy.score(inputs, behavior.allowed_TV if behavior else None)
        config, batch = self.config, inputs.batch
        # On policy the behavior is the policy itself.
        behavior = behavior or scores
        loss = policy_loss(
            scores.logprobs_T,
            behavior.logprobs_T,
            batch.advantages_T.to(self._device),
            reference_T=self.policy.reference(inputs, scores.allowed_TV) if config.beta else None,
            weights_T=self._weights(behavior.plain_T, batch.sampler_T.to(self._device)),
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            beta=config.beta,
        )
        loss.loss.backward()  # type: ignore[no-untyped-call]
        return {
            "loss": float(loss.loss.detach()),
            "tokens": loss.num_tokens,
            "clipped": loss.clipped,
            "kl": loss.kl,
            "ratio": loss.ratio,
            "weight": loss.weight,
            "entropy": float(scores.entropies_T.sum()),
        }

    def _weights(self, behavior_T: Tensor, sampler_T: Tensor) -> Tensor | None:
        """Importance weights; 1 where the engine told no log-probability."""
        if self.config.importance_cap is None:
            return None
        known_T = torch.where(sampler_T.isnan(), behavior_T, sampler_T)
        return importance_weights(behavior_T, known_T, self.config.importance_cap)
