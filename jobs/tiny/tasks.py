"""What the base model learns: captions, next turns, copying and matching; never query -> ids.

Matching is between things that stand in the dialogue: a turn and the turns and pictures that name
the same thing, a text and its place. Words alone (*probes*) are only compared with turns and
pictures by the matching head; no answer is written for them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ffr_core.dataset.synthetic.words import lexicon
from ffr_core.markup import escape, render_clusters, render_query, render_selection
from ffr_core.types import Dialogue, Selection
from jobs.tiny.sequences import Branch

SLOTS = ("thing", "action", "place", "color", "value")
SIDES = ("turns", "pictures", "both")
WORDS = ("where", "like", "copy", "describe", "topics", *SLOTS, *SIDES)
"""Words of prompts, for the tokenizer."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing, color, place, action or value that words name."""

    slot: str
    forms: tuple[str, ...]
    """Its words, the usual one first."""


@cache
def concepts(language: str = "en") -> dict[str, Concept]:
    """Word -> what it names."""
    words = lexicon(language)
    named = {
        "thing": words.objects.values(),
        "action": words.actions.values(),
        "place": words.places.values(),
        "color": words.colors.values(),
        "value": [(word,) for values in words.values.values() for word in values],
    }
    return {
        form: Concept(slot, forms)
        for slot, groups in named.items()
        for forms in groups
        for form in forms
    }


def content(text: str) -> list[Concept]:
    """The concepts that a text names, in order."""
    known = concepts()
    return [known[word] for word in _WORD.findall(text.lower()) if word in known]


def usual_words(named: Iterable[Concept]) -> tuple[str, ...]:
    """The usual word of each concept, once each."""
    return tuple(dict.fromkeys(concept.forms[0] for concept in named))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A dialogue with what its pictures show."""

    dialogue: Dialogue
    pictures: np.ndarray
    """[I, 56, 56, 3] uint8."""
    captions: tuple[str, ...]


def element_words(item: Item) -> list[tuple[str, ...]]:
    """What each turn, then each picture, is about.

    A turn that names no thing, action or place goes on from the turn before it.
    """
    words: list[tuple[str, ...]] = []
    before: list[Concept] = []
    for turn in item.dialogue.turns:
        named = content(turn.text)
        if not turn.images and all(concept.slot == "value" for concept in named):
            named = [*named, *before]
        words.append(usual_words(named))
        before = named
    return words + [usual_words(content(caption)) for caption in item.captions]


def branches(item: Item, rng: random.Random, number: int) -> list[Branch]:
    """Draw `number` tasks about a dialogue."""
    makers: list[Callable[[Item, random.Random], Branch]] = [
        copy_turn,
        copy_list,
        *[locate_text] * 2,
        *[find_alike] * 8,
        *[probe_turns] * 2,
    ]
    if item.captions:
        makers += [describe, *[locate_caption] * 2, *[probe_pictures] * 2]
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
        text = _ids(
            rng.sample(range(turns), rng.randrange(min(turns, 9))),
            rng.sample(range(images), rng.randrange(min(images, 3) + 1)),
        )
    else:
        ids = rng.sample(range(turns), min(turns, 8))
        cut = rng.randrange(1, len(ids))
        text = render_clusters([ids[:cut], ids[cut:]])
    return Branch(prompt=f"copy {text}", answer=text)


def locate_text(item: Item, rng: random.Random) -> Branch:
    """The text of a turn -> where it stands."""
    text = rng.choice(item.dialogue.turns).text
    found = frozenset(turn.turn_id for turn in item.dialogue.turns if turn.text == text)
    return Branch(
        prompt=f"where {escape(text)}",
        answer=_ids(found, ()),
        turns=found,
        images=frozenset(),
        words=usual_words(content(text)),
    )


def locate_caption(item: Item, rng: random.Random) -> Branch:
    """A caption -> the pictures that it fits."""
    named = set(content(rng.choice(item.captions)))
    found = frozenset(i for i, text in enumerate(item.captions) if set(content(text)) == named)
    caption = item.captions[min(found)]
    return Branch(
        prompt=f"where {caption}",
        answer=_ids((), found),
        turns=frozenset(),
        images=found,
        words=usual_words(content(caption)),
    )


def find_alike(item: Item, rng: random.Random) -> Branch:
    """A turn or picture and slots -> all turns, pictures or both that name the same there.

    It stands for itself by its id, or by its text or caption.
    """
    turns = [content(turn.text) for turn in item.dialogue.turns]
    shown = [content(caption) for caption in item.captions]
    elements = [("utt", i, named) for i, named in enumerate(turns) if named]
    if shown and (not elements or rng.random() < 0.4):
        elements = [("img", i, named) for i, named in enumerate(shown)]
    if not elements:
        return copy_turn(item, rng)
    kind, number, named = rng.choice(elements)
    chosen = set(_pick(named, rng, (1, 1, 2)))
    side = rng.choice(SIDES) if shown else "turns"
    alike = [chosen <= set(other) for other in turns], [chosen <= set(other) for other in shown]
    found = [frozenset(i for i, yes in enumerate(part) if yes) for part in alike]
    found = [
        part if side in (name, "both") else frozenset()
        for name, part in zip(SIDES, found, strict=False)
    ]
    if rng.random() < 0.4:
        said = f"<|{kind}_id_start|>{number}<|{kind}_id_end|>"
    else:
        texts = {"utt": [turn.text for turn in item.dialogue.turns], "img": item.captions}
        said = escape(texts[kind][number])
    slots = dict.fromkeys(concept.slot for concept in named if concept in chosen)
    return Branch(
        prompt=f"like {said} {' '.join(slots)} {side}",
        answer=_ids(*found),
        turns=found[0],
        images=found[1],
        words=usual_words(chosen),
    )


def probe_turns(item: Item, rng: random.Random) -> Branch:
    """Words of a turn, for the matching head: which turns name all of them?"""
    texts = [content(turn.text) for turn in item.dialogue.turns]
    named = [one for one in texts if one]
    if not named:
        return copy_turn(item, rng)
    chosen = _pick(rng.choice(named), rng)
    found = frozenset(i for i, other in enumerate(texts) if set(chosen) <= set(other))
    return Branch(
        prompt=render_query(_say(chosen, item, rng)),
        answer=None,
        turns=found,
        images=frozenset(),
        words=usual_words(chosen),
    )


def probe_pictures(item: Item, rng: random.Random) -> Branch:
    """Words of a caption, for the matching head: which pictures do they fit?"""
    shown = [content(caption) for caption in item.captions]
    chosen = _pick(rng.choice(shown), rng)
    found = frozenset(i for i, other in enumerate(shown) if set(chosen) <= set(other))
    return Branch(
        prompt=render_query(f"{_say(chosen, item, rng)} pictures"),
        answer=None,
        turns=frozenset(),
        images=found,
        words=usual_words(chosen),
    )


def describe(item: Item, rng: random.Random) -> Branch:
    """Image id -> its caption."""
    image_id = rng.randrange(len(item.captions))
    return Branch(
        prompt=f"describe <|img_id_start|>{image_id}<|img_id_end|>", answer=item.captions[image_id]
    )


def _ids(turns: Sequence[int] | frozenset[int], images: Sequence[int] | frozenset[int]) -> str:
    return render_selection(Selection(utterance_ids=frozenset(turns), image_ids=frozenset(images)))


def _pick(
    named: Sequence[Concept], rng: random.Random, counts: Sequence[int] = (1, 2, 2, 3)
) -> list[Concept]:
    distinct = list(dict.fromkeys(named))
    return rng.sample(distinct, min(len(distinct), rng.choice(counts)))


def _say(chosen: Sequence[Concept], item: Item, rng: random.Random) -> str:
    """Their words, now and then with other words of the dialogue in between."""
    known = concepts()
    fillers = [w for w in rng.choice(item.dialogue.turns).text.split() if w not in known]
    said = []
    for concept in chosen:
        said += rng.sample(fillers, min(len(fillers), rng.choice((0, 0, 1, 2))))
        said.append(rng.choice(concept.forms))
    return escape(" ".join(said))
