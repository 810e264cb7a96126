"""Draw tokens from logits. Shapes: B rows, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unbanned_logprobs(logits_BV: Tensor, banned_BV: Tensor) -> Tensor:
    """Log-probabilities [B, V] at temperature 1 over what is not banned; -inf where banned."""
    return logits_BV.float().masked_fill(banned_BV, float("-inf")).log_softmax(dim=-1)


def draw(
    logprobs_BV: Tensor,
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    uniforms: Sequence[float],
) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution.

    A row's token depends on its own number in [0, 1) alone, so a seeded request gives the same
    answer in any batch. Temperature 0 takes the most probable token.

    Args:
        logprobs_BV: Log-probabilities, -inf where a token is not allowed.
        temperatures: B sampling temperatures.
        top_ps: B nucleus masses; the smallest set of tokens that reaches it is kept.
        uniforms: B numbers in [0, 1), unused where the temperature is 0.

    Returns:
        [B] token ids.

    Example:
        Probabilities (0.5, 0.3, 0.2), temperature 1: 0.49 draws token 0, 0.79 token 1, 0.81
        token 2; with top_p 0.6 the first two remain with 0.625 and 0.375.
    """
    import torch

    greedy_B = logprobs_BV.argmax(dim=-1)
    if not any(temperatures):
        return greedy_B
    device = logprobs_BV.device
    heat = torch.tensor([t or 1.0 for t in temperatures], dtype=torch.float64, device=device)
    mass = torch.tensor(top_ps, dtype=torch.float64, device=device)
    u = torch.tensor(uniforms, dtype=torch.float64, device=device)
    probs, order = (logprobs_BV.double() / heat[:, None]).softmax(dim=-1).sort(-1, descending=True)
    before = probs.cumsum(dim=-1) - probs
    probs = probs.masked_fill((before >= mass[:, None]) & (mass[:, None] < 1), 0.0)
    cumulative = probs.cumsum(dim=-1)
    total = cumulative[:, -1:]
    place = torch.searchsorted(cumulative, u[:, None] * total, right=True)
    last = (probs > 0).sum(dim=-1, keepdim=True) - 1
    sampled_B = order.gather(-1, torch.minimum(place, last))[:, 0]
    warm = torch.tensor([t > 0 for t in temperatures], device=device)
    return torch.where(warm, sampled_B, greedy_B)
