"""Many short tasks behind one dialogue, as one sequence: the dialogue is computed once.

Layout: the dialogue (prefix), then branches, each a prompt and its answer. A branch sees the prefix
and itself, not the other branches; its positions start where the prefix ends. Legend: B sequences,
L tokens, T turns, I images, R branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ffr_core.markup import render_dialogue
from ffr_core.types import Dialogue, Image
from jobs.tiny.attention import make_layout

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 56
IMAGE_TOKENS = 4
ANSWER_FRAME = "<|im_end|>\n<|im_start|>assistant\n"
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One task about a dialogue."""

    prompt: str
    answer: str | None
    """None: the prompt is only compared with turns and images."""
    turns: frozenset[int] | None = None
    """Turns that match the prompt, for the matching loss."""
    images: frozenset[int] | None = None
    """Images that match it; None on either side leaves the loss out."""
    words: tuple[str, ...] = ()
    """What the prompt's end should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """A position, and the words that its hidden state should know."""

    row: int
    position: int
    token_ids: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A tokenized dialogue."""

    ids: list[int]
    turn_ends: list[int]
    """Position of the last token of each turn."""
    image_ends: list[int]
    """Position of each image's closing token."""
    image_starts: list[int]
    """Position of each image's first image token."""
    features_KD: Tensor
    """What the vision tower makes of the images, 4 rows each."""
    bags: list[Bag]
    """What turn ends and image ends stand for."""

    def labels(self) -> list[int]:
        """The next token of each position; -100 before image tokens and at the end."""
        silent = {i - 1 for start in self.image_starts for i in range(start, start + IMAGE_TOKENS)}
        return [-100 if i in silent else token for i, token in enumerate([*self.ids[1:], -100])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Padded sequences, ready for the model."""

    inputs: dict[str, Any]
    labels_BL: Tensor
    """Token to predict *at* each position; -100 where nothing is."""
    weights_BL: Tensor
    image_BL: Tensor
    """True at image tokens."""
    features_KD: Tensor
    """Their features, row by row."""
    matches: list[Match] = field(default_factory=list)
    bags: list[Bag] = field(default_factory=list)
    num_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A position and the elements that it may match, inside one sequence."""

    row: int
    position: int
    """Of the prompt's last token, or of a token of the answer that an id may follow."""
    ends: list[int]
    gold: list[bool]


class SequenceBuilder:
    """Tokenizes dialogues and packs tasks behind them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        token = tokenizer.convert_tokens_to_ids
        self._image = [token("<|vision_start|>")] + [token("<|image_pad|>")] * IMAGE_TOKENS
        self._image_end = token("<|vision_end|>")
        self._turn_start = token("<|utt_id_start|>")
        self._end = token("<|im_end|>")
        self._sides = {token("<|utt_ids_start|>"): "turns", token("<|img_ids_start|>"): "images"}
        self._closing = {token("<|utt_ids_end|>"), token("<|img_ids_end|>")}
        self._cache: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Token ids of a short text, cached."""
        found = self._cache.get(text)
        if found is None:
            if len(self._cache) > 200_000:
                self._cache.clear()
            found = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            self._cache[text] = found
        return found

    def prefix(
        self, dialogue: Dialogue, features_KD: Tensor, words: Sequence[Sequence[str]] = ()
    ) -> Prefix:
        """Tokenize the user message up to the end of the dialogue.

        Args:
            dialogue: Its images are in the order of the features.
            features_KD: Output of the vision tower, 4 rows an image.
            words: What the ends of the turns, then of the images, should know beside their ids.
        """
        ids = list(self.tokens("<|im_start|>user\n"))
        image_ends: list[int] = []
        image_starts: list[int] = []
        for part in render_dialogue(dialogue):
            if isinstance(part, Image):
                image_starts.append(len(ids) + 1)
                ids += [*self._image, self._image_end]
                image_ends.append(len(ids) - 1)
            else:
                for line in part.splitlines(keepends=True):
                    ids += self.tokens(line)
        starts = [i for i, token in enumerate(ids) if token == self._turn_start]
        ends = [start - 1 for start in starts[1:]] + [len(ids) - 1]
        numbers = [*(turn.turn_id for turn in dialogue.turns), *range(len(image_ends))]
        bags = [
            Bag(
                row=0,
                position=end,
                token_ids=[*self.tokens(str(number)), *self._tokens_of(known)],
            )
            for end, number, known in zip([*ends, *image_ends], numbers, words, strict=False)
        ]
        return Prefix(
            bags=bags,
            ids=ids,
            turn_ends=ends,
            image_ends=image_ends,
            image_starts=image_starts,
            features_KD=features_KD,
        )

    def _tokens_of(self, words: Iterable[str]) -> list[int]:
        return [self.tokens(" " + word)[0] for word in words]

    def pack(
        self,
        items: Sequence[tuple[Prefix, Sequence[Branch]]],
        prefix_weight: float = 0.0,
    ) -> Batch:
        """Pad dialogues and their branches to one batch.

        Args:
            items: Dialogues with their tasks.
            prefix_weight: Weight of the dialogue's own next tokens; answer tokens weigh 1.
        """
        rows = [self._row(prefix, branches) for prefix, branches in items]
        lengths = [len(prefix.ids) for prefix, _ in items]
        num_branches = max(len(row) for row in rows)
        size = max((len(body.ids) for row in rows for body in row), default=0)
        layout = make_layout(lengths, num_branches, size)
        total = layout.prefix + num_branches * size
        ids = torch.zeros((len(rows), total), dtype=torch.long)
        labels = torch.full((len(rows), total), -100, dtype=torch.long)
        weights = torch.zeros((len(rows), total))
        positions = torch.zeros((3, len(rows), total), dtype=torch.long)
        image = torch.zeros((len(rows), total), dtype=torch.bool)
        matches: list[Match] = []
        bags: list[Bag] = []
        for i, ((prefix, branches), row) in enumerate(zip(items, rows, strict=True)):
            n = lengths[i]
            ids[i, :n] = torch.tensor(prefix.ids)
            labels[i, :n] = torch.tensor(prefix.labels())
            weights[i, :n] = prefix_weight
            for begin in prefix.image_starts:
                image[i, begin : begin + IMAGE_TOKENS] = True
            bags += [replace(bag, row=i) for bag in prefix.bags if bag.token_ids]
            columns, start = _prefix_positions(n, prefix.image_starts)
            positions[:, i, :n] = torch.from_numpy(columns)
            for j, body in enumerate(row):
                at = layout.prefix + j * size
                end = at + len(body.ids)
                ids[i, at:end] = torch.tensor(body.ids)
                labels[i, at:end] = torch.tensor(body.labels)
                weights[i, at:end] = 1.0
                positions[:, i, at : at + size] = torch.arange(start, start + size)
                matches += _matches(i, at, body, prefix, branches[j])
                if words := self._tokens_of(branches[j].words):
                    known_at = [body.prompt_end, *(point for point, _ in body.points)]
                    bags += [Bag(row=i, position=at + k, token_ids=words) for k in known_at]
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": {"full_attention": layout},
            "position_ids": positions,
        }
        return Batch(
            inputs=inputs,
            labels_BL=labels,
            weights_BL=weights,
            image_BL=image,
            features_KD=torch.cat([prefix.features_KD for prefix, _ in items]),
            matches=matches,
            bags=bags,
            num_tokens=sum(lengths) + sum(len(body.ids) for row in rows for body in row),
        )

    def _row(self, prefix: Prefix, branches: Sequence[Branch]) -> list[_Body]:
        frame = self.tokens(ANSWER_FRAME)
        bodies = []
        for branch in branches:
            prompt = self.tokens(branch.prompt)
            if branch.answer is None:
                silent = [-100] * len(prompt)
                bodies.append(
                    _Body(ids=prompt, labels=silent, prompt_end=len(prompt) - 1, points=[])
                )
                continue
            answer = [*self.tokens(branch.answer), self._end]
            silent = [-100] * (len(prompt) + len(frame) - 1)
            bodies.append(
                _Body(
                    ids=[*prompt, *frame, *answer],
                    labels=[*silent, *answer, -100],
                    prompt_end=len(prompt) - 1,
                    points=self._points(answer, len(prompt) + len(frame)),
                )
            )
        return bodies

    def _points(self, answer: Sequence[int], offset: int) -> list[tuple[int, str]]:
        """Positions inside the id lists of an answer, each with its side."""
        points: list[tuple[int, str]] = []
        side = None
        for i, token in enumerate(answer):
            if token in self._closing:
                points.pop()  # the bracket before it
                side = None
            elif side is not None:
                points.append((offset + i, side))
            side = self._sides.get(token, side)
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    ids: list[int]
    labels: list[int]
    prompt_end: int
    points: list[tuple[int, str]]
    """Positions inside the answer's id lists, and which list."""


def _matches(row: int, at: int, body: _Body, prefix: Prefix, branch: Branch) -> list[Match]:
    """The prompt's end against all elements, each point of the answer against those of its list."""
    if branch.turns is None or branch.images is None:
        return []
    turns = [i in branch.turns for i in range(len(prefix.turn_ends))]
    images = [i in branch.images for i in range(len(prefix.image_ends))]
    both = (prefix.turn_ends + prefix.image_ends, turns + images)
    pairs = {"turns": (prefix.turn_ends, turns), "images": (prefix.image_ends, images)}
    points = [(body.prompt_end, both), *((i, pairs[side]) for i, side in body.points)]
    return [
        Match(row=row, position=at + position, ends=ends, gold=gold)
        for position, (ends, gold) in points
        if ends
    ]


def patches(pictures: np.ndarray) -> Tensor:
    """[I, 56, 56, 3] uint8 -> [I * 16, 1176], as `Qwen2VLImageProcessor` does it."""
    x = torch.from_numpy(pictures).float() / 255
    x = ((x - _MEAN) / _STD).permute(0, 3, 1, 2)
    n = len(pictures)
    x = x.reshape(n, 3, 2, 2, 14, 2, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7)
    x = x.reshape(n * 16, 3, 1, 14, 14).expand(-1, -1, 2, -1, -1)
    return x.reshape(n * 16, 1176).contiguous()


def _prefix_positions(length: int, image_starts: Iterable[int]) -> tuple[np.ndarray, int]:
    """M-RoPE positions [3, L] and the next free position; an image covers 2 x 2 cells."""
    out = np.zeros((3, length), dtype=np.int64)
    starts = set(image_starts)
    position, i = 0, 0
    while i < length:
        if i in starts:
            out[0, i : i + 4] = position
            out[1, i : i + 4] = position + np.array([0, 0, 1, 1])
            out[2, i : i + 4] = position + np.array([0, 1, 0, 1])
            position, i = position + 2, i + IMAGE_TOKENS
        else:
            out[:, i] = position
            position, i = position + 1, i + 1
    return out, position
