"""Attention for sequences with branches that computes little of what is masked.

The head of a batch (tokens before the first branch of any row) is plain causal attention, the fast
kernel; only the tail takes a mask. Registered in transformers under `NAME`; batches without
branches go to transformers' own SDPA. Legend: B rows, H heads, L tokens, P head, S = L - P tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "prefix-branches"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BranchMask:
    """Who sees whom in a batch with branches."""

    prefix: int
    """P."""
    tail_B1SL: Tensor
    """True where a tail token sees a token."""

    def to(self, device: torch.device) -> BranchMask:
        """Move the mask."""
        return BranchMask(prefix=self.prefix, tail_B1SL=self.tail_B1SL.to(device))


def make_branch_mask(branch_BL: Tensor) -> BranchMask:
    """Earlier tokens of the prefix and of the own branch are seen.

    Args:
        branch_BL: 0 for the prefix, k > 0 for branch k, negative for padding.
    """
    length = branch_BL.shape[1]
    prefix = int((branch_BL == 0).sum(1).min())
    tail_BS = branch_BL[:, prefix:]
    earlier_SL = torch.ones(length, length, dtype=torch.bool).tril()[prefix:]
    own_BSL = tail_BS[:, :, None] == branch_BL[:, None, :]
    shared_B1L = branch_BL[:, None, :] == 0
    return BranchMask(prefix=prefix, tail_B1SL=(earlier_SL & (own_BSL | shared_B1L))[:, None])


def branch_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BranchMask | Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[B, H, L, D] queries, keys and values -> [B, L, H, D], as transformers' attentions do."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa

    if not isinstance(attention_mask, BranchMask):
        return sdpa(module, query, key, value, attention_mask, **kwargs)
    p = attention_mask.prefix
    if query.device.type == "cpu":
        return _plain(query, key, value, attention_mask, kwargs.get("scaling")), None
    kwargs["is_causal"] = None
    tail, _ = sdpa(module, query[:, :, p:], key, value, attention_mask.tail_B1SL, **kwargs)
    if not p:
        return tail, None
    kwargs["is_causal"] = True
    head, _ = sdpa(module, query[:, :, :p], key[:, :, :p], value[:, :, :p], None, **kwargs)
    return torch.cat([head, tail], dim=1), None


def _plain(
    query: Tensor, key: Tensor, value: Tensor, mask: BranchMask, scaling: float | None
) -> Tensor:
    """Products and softmax, [B, L, H, D]; twice as fast as the flash kernel of CPUs in bfloat16."""
    heads, p = query.shape[1] // key.shape[1], mask.prefix
    key, value = (part.repeat_interleave(heads, dim=1) for part in (key, value))
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    sizes = [p, query.shape[2] - p]
    (query_P, query_S), (key_P, _), (value_P, _) = (
        part.split(sizes, dim=2) for part in (query, key, value)
    )
    causal_PP = torch.full((p, p), float("-inf"), dtype=query.dtype).triu(1)
    bias_B1SL = torch.zeros_like(mask.tail_B1SL, dtype=query.dtype)
    bias_B1SL = bias_B1SL.masked_fill(~mask.tail_B1SL, torch.finfo(query.dtype).min)
    head = (query_P @ key_P.transpose(-1, -2) + causal_PP).softmax(-1) @ value_P
    tail = (query_S @ key.transpose(-1, -2) + bias_B1SL).softmax(-1) @ value
    return torch.cat([head, tail], dim=2).transpose(1, 2)


def use_branch_attention(language_model: Any) -> None:
    """Switch a language model with SDPA to this attention."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, branch_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    language_model.config._attn_implementation = NAME
