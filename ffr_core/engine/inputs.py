"""Messages to model inputs of the Qwen2-VL family: token ids, image patches, padded batches.

Engines and trainers share this, so that a model is trained on exactly what it sees later. Pictures
are scaled here, once, to the size that the vision tower reads; every engine then sees the same
pixels. Shapes: B batch, L tokens, P patches over all pictures, C values per patch, N pictures.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ffr_core.errors import ConfigError, InputError
from ffr_core.generation import Message, has_bytes
from ffr_core.markup import escape
from ffr_core.types import Image

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

T = TypeVar("T")
VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Tokens that stand for pictures; an answer never holds one."""
OUTPUT_MARKERS = ("<|utt_ids_start|>", "<|utt_ids_end|>", "<|img_ids_start|>", "<|img_ids_end|>")
CACHE_BYTES = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedPrompt:
    """One prompt, and its answer when one was given."""

    input_ids: list[int]
    """[L], image placeholders expanded."""
    pixel_values: Tensor | None
    """[P, C] float32; None without pictures."""
    image_grid_thw: Tensor | None
    """[N, 3] patches in time, height and width."""
    mm_token_type_ids: list[int]
    """[L], 1 at image placeholders, else 0."""
    num_prompt_tokens: int
    """Tokens before the answer."""
    images_left_out: int = 0
    """Images without bytes or beyond `max_images`; their markers stay in the text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RenderedPrompt:
    """A prompt before image placeholders are expanded, as vLLM takes it."""

    text: str
    input_ids: list[int]
    """One placeholder token a picture."""
    images: tuple[Image, ...]
    """Pictures in reading order."""
    images_left_out: int
    max_pixels: int
    """Largest size of one of these pictures."""


def picture_settings(
    sizes: tuple[int, int],
    max_pixels: int | None,
    max_images: int | None,
    max_total_pixels: int | None,
) -> str:
    """Everything that changes the output of a `PromptEncoder`, for fingerprints.

    Args:
        sizes: Fewest and most pixels of a picture that the image processor gives.
        max_pixels: As for `PromptEncoder`.
        max_images: As there.
        max_total_pixels: As there.
    """
    return f"{_largest(sizes, max_pixels)},{max_images},{max_total_pixels}"


def _largest(sizes: tuple[int, int], max_pixels: int | None) -> int:
    fewest, most = sizes
    return max(fewest, min(most, max_pixels or most))


class PromptEncoder:
    """Chat template, tokenizer and image processor in one, with a bounded cache of pictures.

    A picture is opened once per URI and size; a file that changes under its URI is not read again.
    Safe to use from several threads.
    """

    def __init__(
        self,
        processor: Any,
        images: Callable[[str], PIL.Image.Image],
        max_pixels: int | None = None,
        max_images: int | None = None,
        max_total_pixels: int | None = None,
    ) -> None:
        """Check that typed text cannot forge a token of this tokenizer.

        Args:
            processor: A `Qwen2VLProcessor` or one with the same parts.
            images: URI to RGB picture, such as `ImageReader.open`; its errors pass through.
            max_pixels: Larger pictures are scaled down; the processor's own limit when left out.
            max_images: Further pictures of a prompt are left out, their markers stay.
            max_total_pixels: Pictures of one prompt share this many pixels evenly.

        Raises:
            ConfigError: `markup.escape` does not cover a special token of the tokenizer.
        """
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._images = images
        size = processor.image_processor.size
        sizes: tuple[int, int] = (size["shortest_edge"], size["longest_edge"])
        self._min_pixels, self._max_pixels = sizes[0], _largest(sizes, max_pixels)
        self._max_images, self._max_total_pixels = max_images, max_total_pixels
        self.settings = picture_settings(sizes, max_pixels, max_images, max_total_pixels)
        """Everything that changes its output, for fingerprints."""
        self._merge: int = processor.image_processor.merge_size
        self._factor: int = processor.image_processor.patch_size * self._merge
        self._image_token_id: int = self.tokenizer.convert_tokens_to_ids(processor.image_token)
        self._pictures: _Cache[PIL.Image.Image] = _Cache(CACHE_BYTES)
        self._patches: _Cache[tuple[Tensor, Tensor]] = _Cache(CACHE_BYTES)
        self._texts: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        """Prompts rendered, images in them, images left out."""
        self.end_of_turn_id: int = self.tokenizer.eos_token_id
        check_escaping(self.tokenizer)

    def encode(self, messages: Sequence[Message], answer: str | None = None) -> EncodedPrompt:
        """Apply the chat template with the generation prompt, then `answer` and end of turn.

        Raises:
            InputError: A picture cannot be read (or what `images` raises).
        """
        return self.expand(self.render(messages), answer)

    def num_tokens(self, prompt: RenderedPrompt) -> int:
        """Length of a prompt with its image placeholders expanded."""
        sizes = [self.picture(image, prompt.max_pixels).size for image in prompt.images]
        return len(prompt.input_ids) + sum(w * h // self._factor**2 - 1 for w, h in sizes)

    def expand(self, prompt: RenderedPrompt, answer: str | None = None) -> EncodedPrompt:
        """As `encode`, of a rendered prompt."""
        import torch

        read = [self._read_patches(image, prompt.max_pixels) for image in prompt.images]
        lengths = iter([int(grid.prod()) // self._merge**2 for _, grid in read])
        ids: list[int] = []
        for token in prompt.input_ids:
            ids.extend([token] * next(lengths) if token == self._image_token_id else [token])
        num_prompt_tokens = len(ids)
        if answer is not None:
            ids += [*self.answer_ids(answer), self.end_of_turn_id]
        return EncodedPrompt(
            input_ids=ids,
            pixel_values=torch.cat([pixels for pixels, _ in read]) if read else None,
            image_grid_thw=torch.stack([grid for _, grid in read]) if read else None,
            mm_token_type_ids=[int(token == self._image_token_id) for token in ids],
            num_prompt_tokens=num_prompt_tokens,
            images_left_out=prompt.images_left_out,
        )

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer, without end of turn; vision tokens in it raise InputError."""
        ids: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if set(ids) & set(banned_token_ids(self.tokenizer)):
            raise InputError(f"answer {answer!r:.80} holds a vision token; it may hold text only")
        return ids

    def token_texts(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Text of each token alone, special tokens as they are written."""
        for token in set(token_ids) - self._texts.keys():
            self._texts[token] = self.tokenizer.decode([token])
        return tuple(self._texts[token] for token in token_ids)

    def render(self, messages: Sequence[Message]) -> RenderedPrompt:
        """Apply the chat template; pictures stay references."""
        chat: list[dict[str, Any]] = []
        kept: list[Image] = []
        left_out = 0
        for message in messages:
            content: list[dict[str, str]] = []
            for part in message.parts:
                if isinstance(part, str):
                    content.append({"type": "text", "text": part})
                elif not has_bytes(part) or len(kept) == self._max_images:
                    left_out += 1
                else:
                    content.append({"type": "image"})
                    kept.append(part)
            chat.append({"role": message.role, "content": content})
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if ids.count(self._image_token_id) != len(kept):
            raise InputError(
                f"the prompt holds {ids.count(self._image_token_id)} image placeholders for"
                f" {len(kept)} images; escape typed text with markup.escape"
            )
        self.counts.update(prompts=1, images=len(kept), images_left_out=left_out)
        limit = self._max_pixels
        if self._max_total_pixels and kept:
            limit = max(self._min_pixels, min(limit, self._max_total_pixels // len(kept)))
        return RenderedPrompt(
            text=text,
            input_ids=ids,
            images=tuple(kept),
            images_left_out=left_out,
            max_pixels=limit,
        )

    def picture(self, image: Image, max_pixels: int | None = None) -> PIL.Image.Image:
        """The RGB picture at the size that the vision tower reads."""
        assert image.uri is not None
        limit = max_pixels or self._max_pixels
        key = (image.uri, limit)
        if (found := self._pictures.get(key)) is not None:
            return found
        picture = self._images(image.uri)
        height, width = self._fit(picture.height, picture.width, limit, image.uri)
        if picture.size != (width, height):
            picture = picture.resize((width, height), _bicubic())
        self._pictures.put(key, picture, 3 * width * height)
        return picture

    def _fit(self, height: int, width: int, limit: int, uri: str) -> tuple[int, int]:
        """Height and width that the processor leaves as they are.

        Where its limits are so narrow that no rectangle of this shape fits, a square.
        """
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        bounds = (self._factor, self._min_pixels, limit)
        try:
            size: tuple[int, int] = smart_resize(height, width, *bounds)
        except ValueError as error:
            raise InputError(f"image {uri!r:.200} cannot be used: {error}") from error
        if smart_resize(*size, *bounds) == size:
            return size
        side = max(1, math.isqrt(limit) // self._factor) * self._factor
        return side, side

    def _read_patches(self, image: Image, max_pixels: int) -> tuple[Tensor, Tensor]:
        """Patches [P, C] and grid [3] of one picture."""
        assert image.uri is not None
        key = (image.uri, max_pixels)
        if (found := self._patches.get(key)) is not None:
            return found
        picture = self.picture(image, max_pixels)
        read = self.processor.image_processor(
            images=[picture], do_resize=False, return_tensors="pt"
        )
        pixels: Tensor = read["pixel_values"]
        result = (pixels, read["image_grid_thw"][0])
        self._patches.put(key, result, pixels.nbytes)
        return result


def collate(
    prompts: Sequence[EncodedPrompt], pad_token_id: int, side: Literal["right", "left"] = "right"
) -> dict[str, Tensor]:
    """Pad prompts to one batch: keyword arguments of the model's forward.

    Returns:
        `input_ids`, `attention_mask`, `mm_token_type_ids` [B, L] int64; with pictures also
        `pixel_values` [P, C] and `image_grid_thw` [N, 3] over the whole batch.
    """
    import torch

    length = max(len(prompt.input_ids) for prompt in prompts)
    shape = (len(prompts), length)
    batch = {
        "input_ids": torch.full(shape, pad_token_id, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "mm_token_type_ids": torch.zeros(shape, dtype=torch.long),
    }
    for row, prompt in enumerate(prompts):
        size = len(prompt.input_ids)
        place = slice(0, size) if side == "right" else slice(length - size, length)
        batch["input_ids"][row, place] = torch.tensor(prompt.input_ids)
        batch["attention_mask"][row, place] = 1
        batch["mm_token_type_ids"][row, place] = torch.tensor(prompt.mm_token_type_ids)
    pixels = [prompt.pixel_values for prompt in prompts if prompt.pixel_values is not None]
    grids = [prompt.image_grid_thw for prompt in prompts if prompt.image_grid_thw is not None]
    if pixels:
        batch |= {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.cat(grids)}
    return batch


def banned_token_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of the vision tokens that this tokenizer knows, ascending; they are never sampled."""
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    return tuple(sorted(vocabulary[token] for token in VISION_TOKENS if token in vocabulary))


def marker_token_ids(tokenizer: Any) -> dict[str, tuple[int, ...]]:
    """Token ids of each output marker: one token for the tiny models, several for large ones."""
    return {
        marker: tuple(tokenizer(marker, add_special_tokens=False)["input_ids"])
        for marker in OUTPUT_MARKERS
    }


def check_escaping(tokenizer: Any) -> None:
    """Raise ConfigError if escaped text could still become a control token of this tokenizer."""
    control = {
        str(token.content): int(token_id)
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special or str(token.content).startswith("<")
    }
    ids = set(control.values())
    for token in control:
        if ids.intersection(tokenizer(escape(token), add_special_tokens=False)["input_ids"]):
            raise ConfigError(
                f"typed text could forge the token {token!r} of this tokenizer; use a tokenizer"
                " whose control tokens look like <|name|>"
            )


def _bicubic() -> Any:
    from PIL.Image import Resampling

    return Resampling.BICUBIC


class _Cache(Generic[T]):
    """Least recently used values, up to a number of bytes; safe in threads."""

    def __init__(self, max_bytes: int) -> None:
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        with self._lock:
            self._bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, size)
            while self._bytes > self._max_bytes and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
