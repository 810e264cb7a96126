"""A BERT encoder for sentence vectors: just the forward pass, on plain torch.

Our own instead of `transformers.BertModel` because that import pulls in torchvision, and because
this one reads 4-bit word embeddings from disk. Rows are padded to a length that depends on the row
alone, so a vector never depends on what else is in the batch.

Shapes: B batch, L tokens, D embedding, A heads, F inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Precision = Literal["auto", "float32", "bfloat16"]
PAD_TO = 4
"""Row lengths are rounded up to a multiple of this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BertWeights:
    """What a checkpoint holds."""

    words: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    """Token ids [T] -> word embeddings [T, D]."""
    tensors: Mapping[str, NDArray[np.float32]]
    """State dict without the word embeddings and without a `bert.` prefix."""
    num_layers: int
    num_heads: int
    epsilon: float


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Bert:
    """Weights ready to run; stateless between calls."""

    def __init__(self, weights: BertWeights, precision: Precision = "auto") -> None:
        """Convert the weights once; `auto` is bfloat16 where the processor is made for it."""
        import torch

        low = precision == "bfloat16" or (precision == "auto" and native_bfloat16())
        self._dtype = torch.bfloat16 if low else torch.float32
        self._words = weights.words
        self.num_heads = weights.num_heads
        self.epsilon = weights.epsilon
        tensors = {name: torch.from_numpy(np.array(t)) for name, t in weights.tensors.items()}
        self._positions = tensors["embeddings.position_embeddings.weight"]
        self._type = tensors["embeddings.token_type_embeddings.weight"][0]
        self._norm = _pair(tensors, "embeddings.LayerNorm", torch.float32)
        self.layers = [
            _layer(tensors, f"encoder.layer.{i}", self._dtype) for i in range(weights.num_layers)
        ]

    def mean_pooled(self, rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.float32]:
        """Mean of the last hidden states of each row's tokens, scaled to unit norm.

        Args:
            rows: B rows of token ids whose lengths share one padded length.
            pad_id: Filler; never attended to.

        Returns:
            [B, D].
        """
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            x_BLD, mask_BL = self.embedded(rows, pad_id)
            for layer in self.layers:
                x_BLD = self.forward_layer(x_BLD, mask_BL[:, None, None, :], layer)
            sum_BD = (x_BLD.float() * mask_BL[..., None]).sum(dim=1)
            unit_BD: NDArray[np.float32] = functional.normalize(sum_BD, dim=-1).numpy()
        return unit_BD

    def embedded(
        self, rows: Sequence[Sequence[int]], pad_id: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input of the first layer [B, L, D] and which positions are tokens [B, L]."""
        import torch
        from torch.nn import functional

        lengths_B = torch.tensor([len(row) for row in rows])
        width = padded_length(int(lengths_B.max()))
        ids_BL = np.full((len(rows), width), pad_id, np.int64)
        for row, ids in zip(ids_BL, rows, strict=True):
            row[: len(ids)] = ids
        mask_BL = torch.arange(width)[None, :] < lengths_B[:, None]
        words = torch.from_numpy(self._words(ids_BL.reshape(-1)))
        x_BLD = words.view(len(rows), width, -1) + self._positions[:width] + self._type
        x_BLD = functional.layer_norm(x_BLD, x_BLD.shape[-1:], *self._norm, self.epsilon)
        return x_BLD.to(self._dtype), mask_BL

    def forward_layer(
        self, x_BLD: torch.Tensor, mask: torch.Tensor, layer: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """One layer; `mask` is [B, 1, 1, L], false where nothing may look."""
        from torch.nn import functional

        batch, width, dim = x_BLD.shape
        mixed = functional.linear(x_BLD.reshape(-1, dim), layer["qkv.weight"], layer["qkv.bias"])
        q, k, v = mixed.view(batch, width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        context = context.transpose(1, 2).reshape(-1, dim)
        out = functional.linear(context, layer["out.weight"], layer["out.bias"]).view_as(x_BLD)
        x_BLD = functional.layer_norm(
            x_BLD + out, (dim,), layer["norm1.weight"], layer["norm1.bias"], self.epsilon
        )
        inner = functional.linear(x_BLD.view(-1, dim), layer["up.weight"], layer["up.bias"])
        out = functional.linear(
            functional.gelu(inner), layer["down.weight"], layer["down.bias"]
        ).view_as(x_BLD)
        return functional.layer_norm(
            x_BLD + out, (dim,), layer["norm2.weight"], layer["norm2.bias"], self.epsilon
        )


def padded_length(length: int) -> int:
    """Round a row's length up to a multiple of `PAD_TO`."""
    return -(-length // PAD_TO) * PAD_TO


def _pair(
    tensors: Mapping[str, torch.Tensor], name: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{name}.weight"].to(dtype), tensors[f"{name}.bias"].to(dtype)


def _layer(
    tensors: Mapping[str, torch.Tensor], prefix: str, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """One layer's weights; query, key and value are joined into one product."""
    import torch

    names = {
        "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm2": "output.LayerNorm",
    }
    layer: dict[str, torch.Tensor] = {}
    for kind in ("weight", "bias"):
        parts = [
            tensors[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")
        ]
        layer[f"qkv.{kind}"] = torch.cat(parts).to(dtype)
        for short, name in names.items():
            layer[f"{short}.{kind}"] = tensors[f"{prefix}.{name}.{kind}"].to(dtype)
    return layer
