"""Synthetic dialogues with their pictures at the model's size, held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ffr_core.dataset.synthetic import SynthConfig, describe_picture, draw_picture, generate
from ffr_core.types import Query
from jobs.tiny.sequences import SIDE
from jobs.tiny.tasks import Item


def load_items(
    dialogues: int,
    seed: int,
    *,
    turns: tuple[int, int] = (12, 40),
    topics: tuple[int, int] = (2, 4),
    split: Literal["train", "heldout"] = "train",
) -> list[Item]:
    """Generate and draw; about 15 ms a dialogue."""
    config = SynthConfig(dialogues=dialogues, seed=seed, turns=turns, topics=topics, split=split)
    items = []
    for made in generate(config):
        drawn = [np.asarray(draw_picture(spec, SIDE)) for spec in made.pictures]
        pictures = np.stack(drawn) if drawn else np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8)
        captions = tuple(describe_picture(spec, "en", i) for i, spec in enumerate(made.pictures))
        items.append(Item(dialogue=made.dialogue, pictures=pictures, captions=captions))
    return items


def texts(items: list[Item]) -> Iterator[str]:
    """What a tokenizer should know: turns, captions and queries."""
    for item in items:
        for turn in item.dialogue.turns:
            yield f"{turn.speaker}: {turn.text}"
        yield from item.captions
        queries: tuple[Query, ...] = item.dialogue.queries or ()
        for query in queries:
            yield query.query
