"""What the base model learns: captions, next turns, copying and matching; never query -> ids.

A probe is a few words of a turn or of a caption. The answer repeats the matching turns' text (or
the caption), so the model learns to look things up by content and in order, without gold labels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ffr_core.dataset.synthetic.words import lexicon
from ffr_core.markup import escape, render_clusters, render_query, render_selection
from ffr_core.types import Dialogue, Selection
from jobs.tiny.sequences import Branch

MAX_COPIES = 4
"""Texts that one answer repeats at most."""
COPIED_WORDS = 5
"""Words of each text that an enumeration repeats."""
_WORD = re.compile(r"\w+")


@cache
def concepts(language: str = "en") -> dict[str, tuple[str, ...]]:
    """Each single word that names a thing, color, place, action or value -> its synonyms."""
    words = lexicon(language)
    named = (words.objects, words.colors, words.places, words.actions)
    groups = [forms for group in named for forms in group.values()]
    groups += [(word,) for values in words.values.values() for word in values]
    return {form: forms for forms in groups for form in forms}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A dialogue with what its pictures show."""

    dialogue: Dialogue
    pictures: np.ndarray
    """[I, 56, 56, 3] uint8."""
    captions: tuple[str, ...]


def branches(item: Item, rng: random.Random, number: int) -> list[Branch]:
    """Draw `number` tasks about a dialogue."""
    makers = [copy_turn, copy_list, find_turns, find_turns]
    if item.captions:
        makers += [describe, describe, find_pictures, find_pictures]
    return [rng.choice(makers)(item, rng) for _ in range(number)]


def copy_turn(item: Item, rng: random.Random) -> Branch:
    """Turn id -> its text."""
    turn = rng.choice(item.dialogue.turns)
    return Branch(
        prompt=f"copy <|utt_id_start|>{turn.turn_id}<|utt_id_end|>", answer=escape(turn.text)
    )


def copy_list(item: Item, rng: random.Random) -> Branch:
    """A random list of ids -> the same list: how an answer is written, not what it says."""
    turns, images = len(item.dialogue.turns), len(item.dialogue.images)
    if rng.random() < 0.6:
        text = render_selection(
            Selection(
                utterance_ids=frozenset(rng.sample(range(turns), rng.randrange(min(turns, 9)))),
                image_ids=frozenset(rng.sample(range(images), rng.randrange(min(images, 3) + 1))),
            )
        )
    else:
        ids = rng.sample(range(turns), min(turns, 8))
        cut = rng.randrange(1, len(ids))
        text = render_clusters([ids[:cut], ids[cut:]])
    return Branch(prompt=f"copy {text}", answer=text)


def find_turns(item: Item, rng: random.Random) -> Branch:
    """Words of a turn -> the beginnings of all turns that hold them, in order."""
    turns = [turn for turn in item.dialogue.turns if _content(turn.text)]
    if not turns:
        return copy_turn(item, rng)
    chosen = _pick(_content(rng.choice(turns).text), rng)
    found = [t for t in item.dialogue.turns if set(chosen) <= set(_content(t.text))]
    answer = "\n".join(_beginning(turn.text) for turn in found[:MAX_COPIES])
    return Branch(
        prompt=render_query(_say(chosen, rng)) + "text",
        answer=escape(answer),
        turns=frozenset(turn.turn_id for turn in found),
        images=frozenset(),
    )


def describe(item: Item, rng: random.Random) -> Branch:
    """Image id -> its caption."""
    image_id = rng.randrange(len(item.captions))
    return Branch(
        prompt=f"describe <|img_id_start|>{image_id}<|img_id_end|>", answer=item.captions[image_id]
    )


def find_pictures(item: Item, rng: random.Random) -> Branch:
    """Words of a caption -> the captions of all pictures that they fit, in reading order."""
    chosen = _pick(_content(rng.choice(item.captions)), rng)
    found = [i for i, text in enumerate(item.captions) if set(chosen) <= set(_content(text))]
    return Branch(
        prompt=render_query(_say(chosen, rng)) + "picture",
        answer="\n".join(item.captions[i] for i in found[:MAX_COPIES]),
        turns=frozenset(),
        images=frozenset(found),
    )


def _content(text: str) -> list[tuple[str, ...]]:
    """The concepts that a text names, in order."""
    known = concepts()
    return [known[word] for word in _WORD.findall(text.lower()) if word in known]


def _pick(named: Sequence[tuple[str, ...]], rng: random.Random) -> list[tuple[str, ...]]:
    distinct = list(dict.fromkeys(named))
    chosen = rng.sample(distinct, min(len(distinct), rng.choice((1, 2, 2, 3))))
    if rng.random() < 0.5:
        chosen.sort(key=distinct.index)
    return chosen


def _say(chosen: Sequence[tuple[str, ...]], rng: random.Random) -> str:
    return " ".join(rng.choice(forms) for forms in chosen)


def _beginning(text: str) -> str:
    return " ".join(text.split()[:COPIED_WORDS])
