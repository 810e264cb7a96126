"""FEM on a Qwen2-VL backbone (GME-Qwen2-VL is one): the last token's state, scaled to unit norm.

The model is loaded as plain Qwen2-VL, without the remote code of GME; its template is written here:
an instruction as system message, the content as user message, then the assistant's opening and one
end-of-text token, whose last hidden state is the vector. Source: Sec 5.3; GME's template.

Shapes: B batch, L tokens, D embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.embedding.lora import adapter_hash
from ffr_core.generation import Message
from ffr_core.markup import escape
from ffr_core.types import Image, Passage

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray
    from torch import Tensor

    from ffr_core.engine.inputs import EncodedPrompt, PromptEncoder, RenderedPrompt

POOL_TOKEN = "<|endoftext|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class FemTemplate:
    """Instructions of the two roles, and how long a content may be."""

    query_instruction: str = "Find the dialogue fragment that answers the query."
    passage_instruction: str = "You are a helpful assistant."
    max_tokens: int = 2048


class FemInputs:
    """Queries and passages to model inputs."""

    def __init__(self, encoder: PromptEncoder, template: FemTemplate) -> None:
        """`encoder` reads pictures and applies the chat template."""
        self._encoder, self._template = encoder, template
        self._pool_id = int(encoder.tokenizer.convert_tokens_to_ids(POOL_TOKEN))

    def query(self, text: str) -> EncodedPrompt:
        """Inputs of a query."""
        return self._encoder.expand(self.render_query(text))

    def passage(self, passage: Passage) -> EncodedPrompt:
        """Inputs of a passage: its pictures, then its text.

        What is too long loses its last pictures until the text has a quarter of the tokens, or all
        that it needs; then the end of the text is cut. Pictures left out are counted.
        """
        return self._encoder.expand(self.render_passage(passage))

    def render_query(self, text: str) -> RenderedPrompt:
        """As `query`, before image placeholders are expanded."""
        return self._render(self._template.query_instruction, text, ())

    def render_passage(self, passage: Passage) -> RenderedPrompt:
        """As `passage`, before image placeholders are expanded."""
        return self._render(self._template.passage_instruction, passage.text, passage.images)

    def _render(self, instruction: str, text: str, images: tuple[Image, ...]) -> RenderedPrompt:
        tokenizer, limit = self._encoder.tokenizer, self._template.max_tokens
        text, shown = text[: limit * 24], images  # cut before the tokenizer sees it
        prompt = self._prompt(instruction, text, images)
        if prompt.images and self._encoder.num_tokens(prompt) >= limit:
            shown = self._fitting(instruction, text, prompt.images)
            self._encoder.counts["images_left_out"] += len(prompt.images) - len(shown)
            prompt = self._prompt(instruction, text, shown)
        while (size := self._encoder.num_tokens(prompt)) >= limit and text:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            kept = len(ids) - (size + 1 - limit)
            text = tokenizer.decode(ids[: max(0, min(kept, len(ids) - 1))])
            prompt = self._prompt(instruction, text, shown)
        return replace(
            prompt,
            input_ids=[*prompt.input_ids, self._pool_id],
            images_left_out=len(images) - len(prompt.images),
        )

    def _fitting(self, instruction: str, text: str, images: tuple[Image, ...]) -> tuple[Image, ...]:
        tokenizer, limit = self._encoder.tokenizer, self._template.max_tokens
        needed = len(tokenizer(escape(text), add_special_tokens=False)["input_ids"])
        room = limit - min(needed, limit // 4)

        def size(count: int) -> int:
            return self._encoder.num_tokens(self._prompt(instruction, "", images[:count]))

        return images[: bisect_left(range(1, len(images) + 1), room, key=size)]

    def _prompt(self, instruction: str, text: str, images: tuple[Image, ...]) -> RenderedPrompt:
        return self._encoder.render(
            [
                Message(role="system", parts=(instruction,)),
                Message(role="user", parts=(*images, escape(text))),
            ]
        )


def fem_fingerprint(
    path: str | Path,
    adapter: str | Path | None,
    dtype: str,
    encoder: PromptEncoder,
    template: FemTemplate,
) -> str:
    """Everything that changes the vectors; whoever computes them."""
    from ffr_core.engine.loading import model_fingerprint

    weights = model_fingerprint(path)
    if adapter is not None:
        weights += f":fem-{adapter_hash(Path(adapter))}"
    return f"fem:{weights}:{dtype}:{encoder.settings}:{template}"


def last_token_vectors(model: Any, prompts: Sequence[EncodedPrompt], pad_id: int) -> Tensor:
    """Unit vectors [B, D] in float32; padded on the left, so the last position is the pool token.

    Args:
        model: A Qwen2-VL model, with or without a PEFT adapter around it.
        prompts: B inputs.
        pad_id: Filler.
    """
    from torch.nn import functional

    from ffr_core.engine.inputs import collate

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    batch = {
        name: tensor.to(base.device) for name, tensor in collate(prompts, pad_id, "left").items()
    }
    states_BLD = base.model(**batch, use_cache=False).last_hidden_state
    vectors: Tensor = functional.normalize(states_BLD[:, -1].float(), dim=-1)
    return vectors


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions in batches of similar length; padded, a batch has at most `batch_tokens` tokens."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        widest = lengths[batches[-1][0]] if batches else 0
        if batches and widest * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


class FemBase(ABC):
    """What the engines of FEM share: prompts, sizes and the fingerprint; `_encode` is theirs."""

    def __init__(self, encoder: PromptEncoder, template: FemTemplate, fingerprint: str) -> None:
        """Keep what the prompts need; a subclass sets `_dim`."""
        self._encoder, self._inputs = encoder, FemInputs(encoder, template)
        self._max_tokens, self._fingerprint = template.max_tokens, fingerprint
        self._dim = self._tokens_read = 0

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Longer passages are cut."""
        return self._max_tokens

    @property
    def fingerprint(self) -> str:
        """Model, adapter hash, template and settings."""
        return self._fingerprint

    @property
    def tokens_read(self) -> int:
        """Tokens read so far, image tokens included, padding not."""
        return self._tokens_read

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm; pictures are read.

        Raises:
            InputError: A picture cannot be read.
        """
        return self._encode([self._inputs.render_passage(passage) for passage in passages])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""
        return self._encode([self._inputs.render_query(text) for text in texts])

    @abstractmethod
    def _encode(self, prompts: Sequence[RenderedPrompt]) -> NDArray[np.float32]:
        """Unit vectors [B, D] of B prompts, none included."""


class FemEncoder(FemBase):
    """An `Encoder` over a Qwen2-VL folder and, usually, a trained adapter."""

    def __init__(
        self,
        path: str | Path,
        images: Callable[[str], PIL.Image.Image],
        *,
        adapter: str | Path | None = None,
        template: FemTemplate | None = None,
        dtype: str = "auto",
        device: str = "cpu",
        max_pixels: int | None = None,
        max_images: int | None = 8,
        batch_tokens: int = 8192,
    ) -> None:
        """Load the model.

        Args:
            path: Folder in hub layout, or a hub id.
            images: URI to RGB picture, such as `ImageReader.open`.
            adapter: PEFT folder, as `jobs/train_fem.py` writes it.
            template: Instructions and length.
            dtype: One of `engine.loading.DTYPES`.
            device: A torch device.
            max_pixels: Larger pictures are scaled down.
            max_images: Further pictures of a passage are left out.
            batch_tokens: Tokens of one forward pass.
        """
        from ffr_core.engine.inputs import PromptEncoder
        from ffr_core.engine.loading import load_model, load_processor

        template = template or FemTemplate()
        encoder = PromptEncoder(load_processor(path), images, max_pixels, max_images)
        fingerprint = fem_fingerprint(path, adapter, dtype, encoder, template)
        super().__init__(encoder, template, fingerprint)
        self._model = load_model(path, dtype, device)
        self._dim = int(self._model.get_input_embeddings().embedding_dim)
        self._pad_id = int(encoder.tokenizer.pad_token_id)
        self._batch_tokens = batch_tokens
        if adapter is not None:
            from peft import PeftModel

            self._model = PeftModel.from_pretrained(
                self._model, str(adapter), adapter_name="fem"
            ).eval()

    def _encode(self, prompts: Sequence[RenderedPrompt]) -> NDArray[np.float32]:
        import torch

        vectors = np.zeros((len(prompts), self._dim), np.float32)
        lengths = [self._encoder.num_tokens(prompt) for prompt in prompts]
        self._tokens_read += sum(lengths)
        with torch.inference_mode() if prompts else nullcontext():
            for batch in batches_by_length(lengths, self._batch_tokens):
                # Patches take many times the room of a prompt: those of one pass are in memory.
                rows = [self._encoder.expand(prompts[i]) for i in batch]
                vectors[batch] = last_token_vectors(self._model, rows, self._pad_id).cpu().numpy()
        return vectors
