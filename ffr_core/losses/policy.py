"""GRPO: group advantages and the token-level clipped loss with its KL term, as pure functions.

The loss is a mean over all completion tokens of the global batch (DAPO), so functions here return
sums; the caller divides by the token count over all workers.

Three log-probabilities of each sampled token: *policy* (being trained, with gradient), *behavior*
(the policy when the optimizer step began), *reference* (frozen cold-start adapter). All three, and
the sampling, use the same masked vocabulary. A fourth, *sampler*, is what the engine reported; it
differs from behavior when a sample is older than the policy or the engine rounds differently.

Departures: k3 as the estimator of the KL, truncated importance weights for old samples, the
population standard deviation with eps 1e-4 (all our reading; the paper is silent).

Legend: T completion tokens of a batch in a flat row, V vocabulary, G group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOGPROB_LIMIT = 20.0
"""Differences of log-probabilities are cut here before `exp`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyLoss:
    """Sums over T tokens; divide by the global number of tokens."""

    loss: Tensor
    """Scalar with gradient: clipped policy loss plus beta x KL."""
    num_tokens: int
    clipped: float
    """Tokens whose ratio was clipped."""
    kl: float
    """Sum of k3 to the reference; 0 without one."""
    ratio: float
    """Sum of policy / behavior."""
    weight: float
    """Sum of importance weights; equals `num_tokens` on policy."""


def group_advantages(
    rewards_G: Sequence[float], eps: float = 1e-4, *, scale: bool = True
) -> list[float]:
    """A_i = (r_i - mean r) / (std r + eps) within one group; r_i - mean r without `scale`.

    The division weighs groups that nearly agree as much as open ones, so their sum is no gradient
    of the mean reward. Source: Sec 5.1.2, Eq 4, as stated; eps and the population standard
    deviation: our reading; without `scale`: Liu et al., "Understanding R1-Zero-Like Training"
    (2025).

    Example:
        Rewards 1 and 0 have mean 0.5 and deviation 0.5: advantages 1 and -1 (but for eps); without
        `scale` 0.5 and -0.5.
    """
    mean = sum(rewards_G) / len(rewards_G)
    if not scale:
        return [r - mean for r in rewards_G]
    std = (sum((r - mean) ** 2 for r in rewards_G) / len(rewards_G)) ** 0.5
    return [(r - mean) / (std + eps) for r in rewards_G]


def policy_loss(
    policy_T: Tensor,
    behavior_T: Tensor,
    advantages_T: Tensor,
    *,
    reference_T: Tensor | None = None,
    weights_T: Tensor | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    beta: float = 0.02,
) -> PolicyLoss:
    """Sum over tokens of -w min(r A, clip(r, 1 - low, 1 + high) A) + beta k3(policy, reference).

    r = exp(policy - behavior). Source: Sec 5.1.2 and DAPO (Yu et al., 2025), Eq 8; clip-higher
    0.2 / 0.28 and beta 0.02: authors' setting.

    Args:
        policy_T: [T] log-probabilities with gradient.
        behavior_T: [T], no gradient is taken.
        advantages_T: [T], the advantage of each token's rollout.
        reference_T: [T]; None leaves the KL term out.
        weights_T: [T] importance weights; None is 1.
        clip_low: Distance of the lower bound from 1.
        clip_high: Distance of the upper bound from 1.
        beta: Weight of the KL term.
    """
    ratio_T = _exp(policy_T - behavior_T.detach())
    clipped_T = ratio_T.clamp(1 - clip_low, 1 + clip_high)
    loss_T = -torch.minimum(ratio_T * advantages_T, clipped_T * advantages_T)
    if weights_T is not None:
        loss_T = loss_T * weights_T.detach()
    kl_T = torch.zeros_like(loss_T) if reference_T is None else k3_kl(policy_T, reference_T)
    bound_T = ((advantages_T > 0) & (ratio_T > 1 + clip_high)) | (
        (advantages_T < 0) & (ratio_T < 1 - clip_low)
    )
    return PolicyLoss(
        loss=(loss_T + beta * kl_T).sum(),
        num_tokens=policy_T.numel(),
        clipped=float(bound_T.sum()),
        kl=float(kl_T.detach().sum()),
        ratio=float(ratio_T.detach().sum()),
        weight=float(policy_T.numel() if weights_T is None else weights_T.sum()),
    )


def k3_kl(policy_T: Tensor, reference_T: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference - policy, [T]: not negative, unbiased under the policy.

    Source: Schulman, "Approximating KL divergence" (2020); the estimator is our reading.
    """
    difference_T = reference_T.detach() - policy_T
    return _exp(difference_T) - difference_T.clamp(-LOGPROB_LIMIT, LOGPROB_LIMIT) - 1


def importance_weights(behavior_T: Tensor, sampler_T: Tensor, cap: float = 2.0) -> Tensor:
    """min(behavior / sampler, cap), [T], without gradient: corrects old samples, bounded.

    Both log-probabilities are at sampling temperature 1 over the vocabulary without banned tokens.
    """
    return _exp(behavior_T.detach() - sampler_T).clamp(max=cap)


def token_logprobs(
    logits_TV: Tensor,
    token_ids_T: Tensor,
    *,
    banned_token_ids: Sequence[int] = (),
    sampling_temperature: float = 1.0,
    allowed_TV: Tensor | None = None,
) -> Tensor:
    """Log-probability of each token over the masked vocabulary, [T], fp32.

    Args:
        logits_TV: [T, V].
        token_ids_T: [T]; a sampled token is always part of its own mask.
        banned_token_ids: Never drawn, probability 0.
        sampling_temperature: Divides the logits.
        allowed_TV: [T, V] bool, `top_p_mask` of the behavior; None allows everything.
    """
    logits_TV = ban(logits_TV.float(), banned_token_ids) / sampling_temperature
    if allowed_TV is not None:
        allowed_TV = allowed_TV.scatter(1, token_ids_T[:, None], True)
        logits_TV = logits_TV.masked_fill(~allowed_TV, -torch.inf)
    chosen_T = logits_TV.gather(1, token_ids_T[:, None])[:, 0]
    return chosen_T - logits_TV.logsumexp(1)


def top_p_mask(
    logits_TV: Tensor,
    top_p: float,
    *,
    banned_token_ids: Sequence[int] = (),
    sampling_temperature: float = 1.0,
) -> Tensor:
    """The smallest set of most likely tokens that holds `top_p` of the mass, [T, V] bool.

    The rule of transformers and vLLM: in ascending order, tokens are left out while the cumulated
    mass is at most 1 - top_p; one token always stays.
    """
    logits_TV = ban(logits_TV.detach().float(), banned_token_ids) / sampling_temperature
    sorted_TV, order_TV = logits_TV.sort(dim=1)
    left_out_TV = sorted_TV.softmax(1).cumsum(1) <= 1 - top_p
    left_out_TV[:, -1] = False
    return ~torch.zeros_like(left_out_TV).scatter(1, order_TV, left_out_TV)


def token_entropies(logits_TV: Tensor, banned_token_ids: Sequence[int] = ()) -> Tensor:
    """Entropy of each token's distribution over the vocabulary without banned tokens, [T], nats."""
    logprobs_TV = ban(logits_TV.float(), banned_token_ids).log_softmax(1)
    return -(logprobs_TV.exp() * logprobs_TV.clamp(min=torch.finfo(torch.float32).min)).sum(1)


def mean_entropy(logits_TV: Tensor, banned_token_ids: Sequence[int] = ()) -> float:
    """Mean per-token entropy of one completion, nats; does not grow with its length.

    Source: Sec 5.1.3, as stated (the authors' script sums over the whole sequence).
    """
    return float(token_entropies(logits_TV, banned_token_ids).mean()) if len(logits_TV) else 0.0


def ban(logits_TV: Tensor, banned_token_ids: Sequence[int]) -> Tensor:
    """Give banned tokens probability 0."""
    if not banned_token_ids:
        return logits_TV
    ids = torch.tensor(sorted(banned_token_ids), device=logits_TV.device)
    return logits_TV.index_fill(1, ids, -torch.inf)


def _exp(difference_T: Tensor) -> Tensor:
    return difference_T.clamp(-LOGPROB_LIMIT, LOGPROB_LIMIT).exp()
