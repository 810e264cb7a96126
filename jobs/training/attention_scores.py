"""What a head of a Qwen2-VL's attention scores between chosen tokens, before the softmax.

A loss on these scores teaches the model itself where to look, without a head beside it.
Legend: B rows, L tokens, D hidden size, E pairs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def attention_scores(
    language_model: Any,
    layer: int,
    hidden_BLD: Tensor,
    positions_3BL: Tensor,
    row_E: Tensor,
    query_E: Tensor,
    key_E: Tensor,
) -> Tensor:
    """Scores [E] of the first head, fp32: rotated query times rotated key over sqrt(head size).

    Args:
        language_model: Text half of a Qwen2-VL, with or without LoRA layers inside.
        layer: Whose attention, from 0.
        hidden_BLD: Input of that layer, `hidden_states[layer]`.
        positions_3BL: M-RoPE positions of the tokens.
        row_E: Row of each pair.
        query_E: Token that looks.
        key_E: Token that is looked at.
    """
    from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb

    attention = language_model.layers[layer].self_attn
    inner_BLD = language_model.layers[layer].input_layernorm(hidden_BLD)
    size = attention.head_dim
    cos, sin = language_model.rotary_emb(inner_BLD, positions_3BL)
    query_B1LH, key_B1LH = (
        part(inner_BLD)[..., :size].unsqueeze(1) for part in (attention.q_proj, attention.k_proj)
    )
    query_B1LH, key_B1LH = apply_rotary_pos_emb(query_B1LH, key_B1LH, cos, sin)
    query_EH, key_EH = query_B1LH[row_E, 0, query_E].float(), key_B1LH[row_E, 0, key_E].float()
    return (query_EH * key_EH).sum(-1) * attention.scaling
