"""Attention for a dialogue with branches: each part is computed once, nothing masked is computed.

Layout of a row of L = P + R * S tokens: the padded prefix (P), then R branches of S tokens each.
A prefix token sees the prefix before it; a branch token sees the whole prefix and its own branch
before it. Plain products and softmax: the flash kernel of CPUs is slower with heads this small.
Registered in transformers under the name `branched`; the mask that it takes is the
`Layout`, given to the model as `attention_mask={"full_attention": layout}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

NAME = "branched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a batch is laid out."""

    prefix: int
    """P."""
    branches: int
    """R."""
    size: int
    """S."""
    mask_BSK: Tensor
    """[B, 1, S, P + S] additive: what a branch token may see of the prefix and its branch."""

    @property
    def length(self) -> int:
        """L."""
        return self.prefix + self.branches * self.size

    def to(self, device: torch.device) -> Layout:
        """Move the mask."""
        return replace(self, mask_BSK=self.mask_BSK.to(device))


def make_layout(lengths: list[int], branches: int, size: int) -> Layout:
    """Build the layout of B rows with prefixes of the given lengths."""
    prefix = max(lengths)
    mask = torch.zeros((len(lengths), 1, size, prefix + size))
    for row, length in enumerate(lengths):
        mask[row, 0, :, length:prefix] = float("-inf")
    mask[:, 0, :, prefix:] = torch.full((size, size), float("-inf")).triu(1)
    return Layout(prefix=prefix, branches=branches, size=size, mask_BSK=mask)


def branched_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """[B, H, L, D] queries, keys and values -> [B, L, H, D]."""
    layout = attention_mask
    p, r, s = layout.prefix, layout.branches, layout.size
    b, h, _, d = query.shape
    query = query * (d**-0.5 if scaling is None else scaling)
    (query_P, key_P, value_P), (query_T, key_T, value_T) = zip(
        *(part.split([p, r * s], dim=2) for part in (query, key, value)), strict=True
    )
    causal_PP = torch.full((p, p), float("-inf"), dtype=query.dtype).triu(1)
    head = (query_P @ key_P.transpose(-1, -2) + causal_PP).softmax(-1) @ value_P
    if not r:
        return head.transpose(1, 2), None
    mask_BSK = layout.mask_BSK.to(query.dtype)
    to_prefix = query_T @ key_P.transpose(-1, -2) + mask_BSK[:, :, :1, :p]
    own_query, own_key, own_value = (
        part.reshape(b, h, r, s, d) for part in (query_T, key_T, value_T)
    )
    to_own = own_query @ own_key.transpose(-1, -2) + mask_BSK[:, :, None, :, p:]
    weights = torch.cat([to_prefix, to_own.reshape(b, h, r * s, s)], -1).softmax(-1)
    prefix_weights, own_weights = weights.split([p, s], dim=-1)
    from_own = own_weights.reshape(b, h, r, s, s) @ own_value
    tail = prefix_weights @ value_P + from_own.reshape(b, h, r * s, d)
    return torch.cat([head, tail], dim=2).transpose(1, 2), None


def use_branched_attention(model: Any) -> None:
    """Switch the language model of a Qwen2-VL to this attention; the vision tower keeps its own."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, branched_attention)
    model.model.language_model.config._attn_implementation = NAME


@contextmanager
def branched(model: Any) -> Iterator[None]:
    """Use this attention for a while, then the one before."""
    config = model.model.language_model.config
    before = config._attn_implementation
    use_branched_attention(model)
    try:
        yield
    finally:
        config._attn_implementation = before
