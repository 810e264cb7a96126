"""The two encoders that can be trained, behind one face: rows in, vectors with a graph out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ffr_core.types import Passage
from jobs.fem.config import FemConfig

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ffr_core.engine.inputs import RenderedPrompt
    from ffr_core.protocols import Encoder

Row = str | Passage
"""A query (or question) or a passage (or answer)."""


class Backbone(Protocol):
    """What the loop needs of a model."""

    module: nn.Module
    """Holds the adapter; its parameters with `requires_grad` are trained."""
    dim: int

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row."""

    def embed(self, rows: Sequence[Row]) -> Tensor:
        """Unit vectors [len(rows), D], with a graph when grad is enabled."""

    def plain(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Vectors of the encoder without any adapter."""

    def save(self, folder: Path) -> None:
        """Write the adapter as a PEFT folder."""


def build_backbone(config: FemConfig, device: torch.device) -> Backbone:
    """Load the model and add a fresh adapter."""
    return (
        VisionBackbone(config, str(device))
        if config.model.kind == "qwen2vl"
        else TextBackbone(config)
    )


class TextBackbone:
    """multilingual-e5-small or all-MiniLM-L6-v2."""

    def __init__(self, config: FemConfig) -> None:
        """Load the encoder and adapt its upper layers."""
        from ffr_core.embedding.cache import CachedEncoder
        from ffr_core.embedding.fem_text import LoraBert, TextFem
        from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder

        model = config.model
        kind = MiniLmEncoder if model.kind == "minilm" else E5Encoder
        self._encoder = kind(precision=model.dtype, max_tokens=model.max_tokens, threads=1)
        self.module = LoraBert(
            self._encoder.bert,
            first_layer=model.first_layer,
            rank=config.lora.rank,
            alpha=config.lora.alpha,
            seed=config.seed,
        )
        self._fem = TextFem(self._encoder, self.module, config.tokens_per_pass)
        self._plain: Encoder = (
            CachedEncoder(self._encoder, config.cache) if config.cache else self._encoder
        )
        self.dim = self._encoder.dim
        self._rows: dict[Row, tuple[int, ...]] = {}

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self._ids(rows)]

    def embed(self, rows: Sequence[Row]) -> Tensor:
        """Unit vectors with a graph."""
        import torch

        return self._fem.embed(self._ids(rows)) if rows else torch.zeros(0, self.dim)

    def plain(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Vectors of the encoder without the adapter."""
        texts = [row for row in rows if isinstance(row, str)]
        passages = [row for row in rows if isinstance(row, Passage)]
        queries_QD = iter(self._plain.encode_queries(texts))
        passages_PD = iter(self._plain.encode_passages(passages))
        vectors = [next(queries_QD if isinstance(row, str) else passages_PD) for row in rows]
        return np.stack(vectors) if vectors else np.zeros((0, self.dim), np.float32)

    def save(self, folder: Path) -> None:
        """Write the adapter."""
        self._fem.save(folder)

    def _ids(self, rows: Sequence[Row]) -> list[tuple[int, ...]]:
        for row in dict.fromkeys(rows):
            if row not in self._rows:
                is_query = isinstance(row, str)
                text = row if isinstance(row, str) else row.text
                self._rows[row] = self._fem.rows([text], are_queries=is_query)[0]
        return [self._rows[row] for row in rows]


class VisionBackbone:
    """Qwen2-VL with LoRA on its language half; the vector is the last token's."""

    def __init__(self, config: FemConfig, device: str) -> None:
        """Load the model and attach an adapter named `fem`."""
        import torch

        from ffr_core.adapters import attach
        from ffr_core.embedding.fem import FemInputs, FemTemplate
        from ffr_core.engine.inputs import PromptEncoder
        from ffr_core.engine.loading import load_model, load_processor
        from ffr_core.images import ImageLimits, ImageReader

        model = config.model
        assert model.path is not None
        images = ImageReader(limits=ImageLimits(roots=config.image_roots)).open
        encoder = PromptEncoder(
            load_processor(model.path), images, model.max_pixels, model.max_images
        )
        template = FemTemplate(
            query_instruction=model.query_instruction,
            passage_instruction=model.passage_instruction,
            max_tokens=model.max_tokens,
        )
        self._encoder, self._inputs = encoder, FemInputs(encoder, template)
        torch.manual_seed(config.seed)
        self.module: Any = attach(load_model(model.path, model.dtype, device), config.lora, "fem")
        self.dim = int(self.module.get_input_embeddings().embedding_dim)
        self._pad_id = int(encoder.tokenizer.pad_token_id)
        self._tokens = config.tokens_per_pass

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row, image tokens included."""
        return [self._encoder.num_tokens(self._render(row)) for row in rows]

    def embed(self, rows: Sequence[Row]) -> Tensor:
        """Unit vectors, in passes of similar length; only one pass's patches are in memory."""
        import torch

        from ffr_core.embedding.fem import batches_by_length, last_token_vectors

        if not rows:
            return torch.zeros(0, self.dim, device=self.module.device)
        prompts = [self._render(row) for row in rows]
        batches = batches_by_length([self._encoder.num_tokens(p) for p in prompts], self._tokens)
        vectors = [
            last_token_vectors(
                self.module, [self._encoder.expand(prompts[i]) for i in batch], self._pad_id
            )
            for batch in batches
        ]
        order = torch.tensor([i for batch in batches for i in batch])
        joined = torch.cat(vectors)
        return joined[torch.argsort(order).to(joined.device)]

    def plain(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Vectors with the adapter switched off."""
        import torch

        if not rows:
            return np.zeros((0, self.dim), np.float32)
        with torch.no_grad(), self.module.disable_adapter():
            return np.asarray(self.embed(rows).cpu().numpy(), np.float32)

    def save(self, folder: Path) -> None:
        """Write the adapter."""
        from ffr_core.adapters import save_adapter

        save_adapter(self.module, "fem", folder)

    def _render(self, row: Row) -> RenderedPrompt:
        """Its prompt; pictures stay references, for their patches are large."""
        if isinstance(row, str):
            return self._inputs.render_query(row)
        return self._inputs.render_passage(row)
