"""The text encoder as a fragment embedding model that can be trained: LoRA on the upper layers.

The lower layers are frozen, so their output for a text never changes: it is computed once and kept,
which saves the larger half of the work on a processor. Only the upper layers run with a graph.

Shapes: B batch, L tokens, D embedding, I inputs and O outputs of a linear layer, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ffr_core.embedding.bert import Bert, padded_length
from ffr_core.embedding.lora import TARGETS, Adapter, module_name, write_adapter
from ffr_core.embedding.sentence import SentenceEncoder
from ffr_core.errors import ConfigError


class LoraBert(nn.Module):
    """A frozen BERT whose layers from `first_layer` on carry adapters; only these are parameters.

    A is drawn as in PEFT (Kaiming, a = sqrt 5) and B is zero, so training starts at the base.
    """

    def __init__(
        self, bert: Bert, *, first_layer: int, rank: int, alpha: float, seed: int = 0
    ) -> None:
        """Add adapters; ConfigError when `first_layer` is not a layer."""
        super().__init__()
        self._bert = bert
        layers = bert.layers
        if not 0 <= first_layer < len(layers):
            raise ConfigError(f"first_layer is {first_layer}; expected 0 to {len(layers) - 1}")
        self._first, self._rank, self._alpha = first_layer, rank, alpha
        self.lora = nn.ParameterDict()
        generator = torch.Generator().manual_seed(seed)
        for number in range(first_layer, len(layers)):
            dim = layers[number]["out.weight"].shape[0]
            inner = layers[number]["up.weight"].shape[0]
            for short in TARGETS:
                wide_in = inner if short == "down" else dim
                wide_out = inner if short == "up" else dim
                bound = wide_in**-0.5
                a_rI = (2 * torch.rand(rank, wide_in, generator=generator) - 1) * bound
                self.lora[f"{number}_{short}_A"] = nn.Parameter(a_rI)
                self.lora[f"{number}_{short}_B"] = nn.Parameter(torch.zeros(wide_out, rank))

    @torch.no_grad()
    def lower(self, rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
        """Output of the frozen layers [B, L, D] for rows of one padded length."""
        x_BLD, mask_BL = self._bert.embedded(rows, pad_id)
        for layer in self._bert.layers[: self._first]:
            x_BLD = self._bert.forward_layer(x_BLD, mask_BL[:, None, None, :], layer)
        return x_BLD

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Upper layers and mean over the tokens: [B, D], unit norm, float32."""
        for number in range(self._first, len(self._bert.layers)):
            x_BLD = self._layer(x_BLD, mask_BL[:, None, None, :], number)
        sum_BD = (x_BLD.float() * mask_BL[..., None]).sum(dim=1)
        return functional.normalize(sum_BD, dim=-1)

    def _layer(self, x_BLD: Tensor, mask: Tensor, number: int) -> Tensor:
        layer = self._bert.layers[number]
        batch, width, dim = x_BLD.shape
        flat = x_BLD.reshape(-1, dim)
        mixed = functional.linear(flat, layer["qkv.weight"], layer["qkv.bias"])
        mixed = mixed + torch.cat([self._delta(flat, number, s) for s in "qkv"], dim=-1)
        heads = self._bert.num_heads
        q, k, v = mixed.view(batch, width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        context = context.transpose(1, 2).reshape(-1, dim)
        out = self._linear(context, layer, number, "out")
        epsilon = self._bert.epsilon
        flat = functional.layer_norm(
            flat + out, (dim,), layer["norm1.weight"], layer["norm1.bias"], epsilon
        )
        inner = functional.gelu(self._linear(flat, layer, number, "up"))
        out = self._linear(inner, layer, number, "down")
        return functional.layer_norm(
            flat + out, (dim,), layer["norm2.weight"], layer["norm2.bias"], epsilon
        ).view(batch, width, dim)

    def _linear(self, x: Tensor, layer: dict[str, Tensor], number: int, short: str) -> Tensor:
        base = functional.linear(x, layer[f"{short}.weight"], layer[f"{short}.bias"])
        return base + self._delta(x, number, short)

    def _delta(self, x: Tensor, number: int, short: str) -> Tensor:
        a_rI, b_Or = self.lora[f"{number}_{short}_A"], self.lora[f"{number}_{short}_B"]
        scale = self._alpha / self._rank
        return functional.linear(functional.linear(x, a_rI.to(x.dtype)), (scale * b_Or).to(x.dtype))

    def adapter(self) -> Adapter:
        """The adapters under their BERT names."""
        tensors = {}
        for key, value in self.lora.items():
            number, short, side = key.split("_")
            name = f"{module_name(int(number), short)}.lora_{side}.weight"
            tensors[name] = value.detach().float().numpy().copy()
        return Adapter(rank=self._rank, alpha=self._alpha, tensors=tensors)


class TextFem:
    """Texts to vectors with a graph; remembers what the frozen layers say about each text."""

    def __init__(self, encoder: SentenceEncoder, model: LoraBert, batch_tokens: int) -> None:
        """`encoder` gives tokenizer and prefixes, `batch_tokens` bounds one forward pass."""
        self.encoder, self.model, self._batch_tokens = encoder, model, batch_tokens
        self._lower: dict[tuple[int, ...], Tensor] = {}

    def rows(self, texts: Sequence[str], *, are_queries: bool) -> list[tuple[int, ...]]:
        """Token ids of texts with the encoder's prefix for their role."""
        return [tuple(row) for row in self.encoder.token_rows(texts, are_queries=are_queries)]

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Unit vectors [len(rows), D], in order; equal rows are computed once."""
        unique = list(dict.fromkeys(rows))
        self._remember([row for row in unique if row not in self._lower])
        place: dict[tuple[int, ...], int] = {}
        vectors = []
        for batch in self._batches(unique):
            hidden = [self._lower[row] for row in batch]
            lengths_B = torch.tensor([len(row) for row in batch])
            mask_BL = torch.arange(padded_length(len(batch[0])))[None, :] < lengths_B[:, None]
            vectors.append(self.model(torch.stack(hidden), mask_BL))
            place.update({row: len(place) + i for i, row in enumerate(batch)})
        return torch.cat(vectors)[torch.tensor([place[row] for row in rows])]

    def save(self, folder: Path) -> None:
        """Write the adapter as a PEFT folder."""
        write_adapter(folder, self.model.adapter(), self.encoder.fingerprint)

    def _remember(self, rows: Sequence[tuple[int, ...]]) -> None:
        for batch in self._batches(rows):
            for row, hidden_LD in zip(
                batch, self.model.lower(batch, self.encoder.pad_id), strict=True
            ):
                self._lower[row] = hidden_LD.clone()

    def _batches(self, rows: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
        """Rows of one padded length together, at most `batch_tokens` tokens."""
        groups: dict[int, list[tuple[int, ...]]] = {}
        for row in rows:
            groups.setdefault(padded_length(len(row)), []).append(row)
        return [
            members[start : start + step]
            for width, members in groups.items()
            for step in (max(1, self._batch_tokens // width),)
            for start in range(0, len(members), step)
        ]
