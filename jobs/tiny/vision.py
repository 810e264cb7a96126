"""Teach the vision tower of a tiny Qwen2-VL what drawn pictures show, before the language model.

A head reads the words of the caption (thing, color, place) from the mean of a picture's image
tokens. A thing that never comes in a color or at a place cannot be ruled out by them: the loss
compares only what training shows together. Otherwise the tower learns that a red thing is no
bicycle, and fails on the combinations of the held-out side. For the same reason half of the
pictures get other colors and another picture shining through, and only their thing is asked for.
The tower is frozen afterwards, so the language model learns from stored features.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ffr_core.dataset.synthetic import PictureSpec, SynthConfig, draw_picture, generate
from ffr_core.dataset.synthetic.write import to_palette
from jobs.tiny.sequences import IMAGE_TOKENS, SIDE, patches
from jobs.tiny.training import learning_rate

BATCH = 96
PICTURES = 40_000
PEAK = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Drawn pictures with what they show."""

    pictures: np.ndarray
    """[I, 56, 56, 3] uint8."""
    labels_IS: Tensor
    """Class of thing, color and place."""


def draw(
    count: int, seed: int, split: Any, names: Sequence[Sequence[str]], from_files: float
) -> Shown:
    """Draw the pictures of fresh dialogues of one side.

    Args:
        count: How many.
        seed: Of the dialogues.
        split: Side.
        names: Things, colors and places; the classes.
        from_files: Share that looks as `ffrs synth` writes it and the image processor reads it.
    """
    specs: list[PictureSpec] = []
    config = SynthConfig(dialogues=count, seed=seed, split=split, turns=(24, 30), topics=(3, 4))
    for made in generate(config):
        specs += made.pictures
        if len(specs) >= count:
            break
    labels = [
        [names[0].index(s.object), names[1].index(s.color), names[2].index(s.place)] for s in specs
    ]
    cut = round(len(specs) * from_files)
    pictures = [_as_read(spec) for spec in specs[:cut]]
    pictures += [np.asarray(draw_picture(spec, SIDE)) for spec in specs[cut:]]
    return Shown(pictures=np.stack(pictures), labels_IS=torch.tensor(labels))


def _as_read(spec: PictureSpec) -> np.ndarray:
    """Few colors and scaled down, as a picture in a file is."""
    from PIL.Image import Resampling

    small = to_palette(draw_picture(spec, 4 * SIDE)).convert("RGB")
    return np.asarray(small.resize((SIDE, SIDE), Resampling.BICUBIC))


class PictureHead(nn.Module):
    """Scores each thing, color and place; training only."""

    def __init__(self, hidden_size: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.slots = nn.ModuleList(nn.Linear(hidden_size, size) for size in sizes)

    def forward(self, mean_ID: Tensor) -> list[Tensor]:
        """[I, D] -> logits [I, C] of each slot."""
        normed = self.norm(mean_ID)
        return [slot(normed) for slot in self.slots]


def features(model: Any, pictures: np.ndarray) -> Tensor:
    """[I, 56, 56, 3] -> the tower's output [I * 4, D]."""
    size = model.config.text_config.hidden_size
    if not len(pictures):
        return torch.zeros((0, size))
    grid = torch.tensor([[1, 4, 4]] * len(pictures))
    return torch.cat(list(model.model.get_image_features(patches(pictures), grid).pooler_output))


def train_tower(model: Any, minutes: float, seed: int) -> dict[str, float]:
    """Train `model.model.visual` in place.

    Returns:
        Accuracy for thing, color and place on combinations that training never showed.
    """
    from ffr_core.dataset.synthetic.words import COLORS, OBJECTS, PLACES

    names = (OBJECTS, COLORS, PLACES)
    data = draw(PICTURES, seed + 31, "train", names, 0.3)
    partners = together(names)
    head = PictureHead(model.config.text_config.hidden_size, [len(n) for n in names])
    parameters = [*model.model.visual.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK, weight_decay=0.05, fused=True)
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    started, step = time.monotonic(), 0
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, PEAK)
        chosen = rng.sample(range(len(data.pictures)), BATCH)
        labels_IS = data.labels_IS[chosen]
        pictures = data.pictures[chosen]
        half = BATCH // 2
        pictures[:half] = disguise(
            pictures[:half], data.pictures[rng.sample(range(len(data.pictures)), half)], noise
        )
        shown = possible(labels_IS, *partners)
        scores = zip(_read(model, head, pictures), shown, strict=True)
        thing, color, place = (
            functional.cross_entropy(
                logits.masked_fill(~known, -1e4), labels_IS[:, slot], reduction="none"
            )
            for slot, (logits, known) in enumerate(scores)
        )
        loss = thing.mean() + color[half:].mean() + place[half:].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 200 == 0:
            print(f"vision, step {step}: loss {float(loss.detach()):.3f}", flush=True)
    held_out = draw(1_000, seed + 32, "heldout", names, 1.0)
    with torch.no_grad():
        logits_of = _read(model, head, held_out.pictures)
    return {
        name: float((logits.argmax(-1) == labels_I).float().mean())
        for name, logits, labels_I in zip(
            ("thing", "color", "place"), logits_of, held_out.labels_IS.unbind(1), strict=True
        )
    }


def disguise(pictures: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute, invert and scale the channels of each picture, and blend in another one.

    Args:
        pictures: [I, H, W, 3] uint8.
        others: The same shape; at most 35 % of each shows.
        rng: Source of chance.
    """
    count = len(pictures)
    orders = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
    mixed = np.take_along_axis(pictures, orders[:, None, None, :], axis=3).astype(np.float32)
    mixed = np.where(rng.random((count, 1, 1, 3)) < 0.2, 255 - mixed, mixed)
    mixed *= rng.uniform(0.6, 1.2, (count, 1, 1, 3))
    share = rng.uniform(0.65, 1.0, (count, 1, 1, 1))
    return (share * mixed + (1 - share) * others).clip(0, 255).astype(np.uint8)


def together(names: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """[O, C] and [O, P]: which colors and places training shows a thing in."""
    from ffr_core.dataset.synthetic.words import colors_of, places_of

    colors = [[color in colors_of(thing, "train") for color in names[1]] for thing in names[0]]
    places = [[place in places_of(thing, "train") for place in names[2]] for thing in names[0]]
    return torch.tensor(colors), torch.tensor(places)


def possible(labels_IS: Tensor, colors_OC: Tensor, places_OP: Tensor) -> tuple[Tensor, ...]:
    """For each slot, the classes that occur with the other labels of each picture."""
    thing, color, place = labels_IS.unbind(1)
    return colors_OC[:, color].T & places_OP[:, place].T, colors_OC[thing], places_OP[thing]


def _read(model: Any, head: PictureHead, pictures: np.ndarray) -> list[Tensor]:
    rows_KD = features(model, pictures)
    mean_ID = rows_KD.reshape(len(pictures), IMAGE_TOKENS, -1).mean(1)
    return list(head(mean_ID))
