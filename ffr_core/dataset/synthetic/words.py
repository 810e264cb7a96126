"""The closed vocabulary of synthetic dialogues: things, colors, places, actions, and their words.

A key (`bicycle`) names a concept in every language; its surface forms (`bicycle`, `bike`) are what
texts and queries say. The first form is the usual one, the others are synonyms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal
from zlib import crc32

Split = Literal["train", "heldout"]
Forms = Mapping[str, tuple[str, ...]]

OBJECTS = (
    "bicycle",
    "car",
    "boat",
    "plane",
    "cat",
    "fish",
    "bird",
    "tree",
    "flower",
    "cup",
    "bottle",
    "chair",
    "lamp",
    "hat",
    "shoe",
    "umbrella",
    "guitar",
    "kite",
    "key",
    "clock",
    "ball",
    "tent",
    "house",
    "ladder",
)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black")
PLACES = (
    "beach",
    "kitchen",
    "street",
    "forest",
    "glacier",
    "desert",
    "lake",
    "meadow",
    "city",
    "bedroom",
    "stage",
    "mountain",
)
ACTIONS = (
    "fixing",
    "painting",
    "buying",
    "selling",
    "cleaning",
    "carrying",
    "hiding",
    "wrapping",
    "borrowing",
    "finding",
    "measuring",
    "building",
    "testing",
    "decorating",
    "storing",
    "renting",
)
ASPECTS = ("price", "day", "helper", "state")

HELDOUT_EVERY = 3
"""One partner in this many belongs to the held-out side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """The words of one language."""

    objects: Forms
    colors: Forms
    places: Forms
    actions: Forms
    values: Mapping[str, tuple[str, ...]]
    """Aspect -> words that fill it (`day` -> weekdays)."""
    names: Mapping[Split, tuple[str, ...]]
    """Speakers; the two sides share none."""


@cache
def partners(kind: str, key: str, others: tuple[str, ...], split: Split) -> tuple[str, ...]:
    """Those of `others` that may be combined with `key` on one side of the split.

    The partners are ranked by a hash; the first third is held out, the rest is for training, so
    every key has partners on both sides and no pair is on both.
    """
    ranked = sorted(others, key=lambda other: crc32(f"{kind}|{key}|{other}".encode()))
    cut = len(others) // HELDOUT_EVERY
    return tuple(ranked[:cut] if split == "heldout" else ranked[cut:])


def colors_of(key: str, split: Split) -> tuple[str, ...]:
    """Colors in which an object occurs."""
    return partners("color", key, COLORS, split)


def places_of(key: str, split: Split) -> tuple[str, ...]:
    """Places at which an object occurs."""
    return partners("place", key, PLACES, split)


def actions_of(key: str, split: Split) -> tuple[str, ...]:
    """What may be done with an object."""
    return partners("action", key, ACTIONS, split)


@cache
def settings_of(key: str, split: Split) -> tuple[tuple[str, str], ...]:
    """Pairs (action, place) of an object whose own pair is on the same side as well."""
    return tuple(
        (action, place)
        for action in actions_of(key, split)
        for place in places_of(key, split)
        if place in partners("scene", action, PLACES, split)
    )


def allowed(
    split: Split, key: str | None, action: str | None, place: str | None, color: str | None
) -> bool:
    """Whether every pair among the given concepts belongs to a side."""
    if key is not None:
        if action is not None and action not in actions_of(key, split):
            return False
        if place is not None and place not in places_of(key, split):
            return False
        if color is not None and color not in colors_of(key, split):
            return False
    if action is None or place is None:
        return True
    return place in partners("scene", action, PLACES, split)


def lexicon(language: str) -> Lexicon:
    """The words of `en` or `zh`."""
    if language == "zh":
        from ffr_core.dataset.synthetic.chinese import LEXICON as chinese

        return chinese
    from ffr_core.dataset.synthetic.english_words import LEXICON as english

    return english
