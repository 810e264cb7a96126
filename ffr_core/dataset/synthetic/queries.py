"""Queries of a synthetic dialogue: a meaning, its words, and the gold that follows from both.

The gold is computed from the meaning alone (`relevance`), so it can be decided from the dialogue:
a picture word asks for pictures only; a color, or a word like *everything*, asks for turns and
pictures; anything else asks for turns. An aspect narrows the turns to those that mention it.
Pictures are chosen by what they show: object, color, place; turns by their topic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ffr_core.dataset.synthetic.grammar import Grammar, Subject, phrase
from ffr_core.dataset.synthetic.pictures import PictureSpec
from ffr_core.dataset.synthetic.topics import Topic
from ffr_core.dataset.synthetic.turns import Piece
from ffr_core.dataset.synthetic.words import (
    ACTIONS,
    ASPECTS,
    COLORS,
    OBJECTS,
    PLACES,
    Lexicon,
    Split,
    allowed,
)
from ffr_core.types import Query, QueryKind, Selection

MAX_GOLD_PICTURES = 3
_KINDS = (QueryKind.MULTI_MODAL, QueryKind.UTTERANCE_ONLY, QueryKind.IMAGE_ONLY, QueryKind.NEGATIVE)
_WEIGHTS = (30, 30, 20, 20)
_SEVERAL = 0.5
"""Share of drawn queries with several gold pictures that are kept; guessing all is rarely right."""
_TRIES = 30
_RECOMBINED = 0.5
"""Share of negatives made of words that occur in the dialogue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a query asks for."""

    subject: Subject
    aspect: str | None = None
    turns: bool = True
    pictures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A finished dialogue as the gold needs it."""

    topics: tuple[Topic, ...]
    pieces: Sequence[Piece]
    """One a turn."""
    fragment_of_topic: dict[int, int]


def relevance(meaning: Meaning, scene: Scene) -> Selection:
    """The gold selection of a meaning."""
    subject = meaning.subject
    turns: set[int] = set()
    pictures: set[int] = set()
    topics = {i for i, topic in enumerate(scene.topics) if _about(subject, topic)}
    num_pictures = 0
    for turn_id, piece in enumerate(scene.pieces):
        if piece.picture is not None:
            if meaning.pictures and _shows(subject, piece.picture):
                pictures.add(num_pictures)
            num_pictures += 1
        elif meaning.turns and piece.topic in topics and meaning.aspect in (None, piece.aspect):
            turns.add(turn_id)
    return Selection(utterance_ids=frozenset(turns), image_ids=frozenset(pictures))


def _about(subject: Subject, topic: Topic) -> bool:
    return (
        subject.object in (None, topic.object)
        and subject.action in (None, topic.action)
        and subject.place in (None, topic.place)
    )


def _shows(subject: Subject, picture: PictureSpec) -> bool:
    return (
        subject.object in (None, picture.object)
        and subject.color in (None, picture.color)
        and subject.place in (None, picture.place)
    )


def write_query(meaning: Meaning, templates: Grammar, words: Lexicon, rng: Random) -> str:
    """Words for a meaning."""
    if not meaning.turns:
        frames = templates.pictures
    elif meaning.aspect:
        frames = templates.aspects[meaning.aspect].queries
    elif meaning.subject.color:
        frames = templates.colored
    else:
        frames = templates.everything if meaning.pictures else templates.coarse
    return rng.choice(frames).format(s=phrase(meaning.subject, templates, words, rng))


class QueryWriter:
    """Draws the queries of one dialogue."""

    def __init__(
        self, scene: Scene, split: Split, templates: Grammar, words: Lexicon, rng: Random
    ) -> None:
        self.scene, self.split = scene, split
        self.templates, self.words, self.rng = templates, words, rng
        self.shown = [piece.picture for piece in scene.pieces if piece.picture is not None]
        self.said = {
            (piece.topic, piece.aspect) for piece in scene.pieces if piece.aspect is not None
        }

    def write(self, count: int) -> tuple[Query, ...]:
        """At most `count` queries, all different in words; kinds as the weights say."""
        queries: dict[str, Query] = {}
        for _ in range(count):
            kinds, weights = (_KINDS, _WEIGHTS) if self.shown else (_KINDS[1::2], _WEIGHTS[1::2])
            kind = self.rng.choices(kinds, weights)[0]
            draw = self._drawers()[kind]
            for _ in range(_TRIES):
                query = self._attempt(kind, draw())
                if query is not None and query.query not in queries:
                    queries[query.query] = query
                    break
        return tuple(queries.values())

    def _drawers(self) -> dict[QueryKind, Callable[[], Meaning]]:
        recombine = self.rng.random() < _RECOMBINED
        return {
            QueryKind.MULTI_MODAL: self._both,
            QueryKind.UTTERANCE_ONLY: self._turns,
            QueryKind.IMAGE_ONLY: self._pictures,
            QueryKind.NEGATIVE: self._recombined if recombine else self._foreign,
        }

    def _attempt(self, kind: QueryKind, meaning: Meaning) -> Query | None:
        """The query of a meaning, or None where it is not of that kind or not well posed."""
        subject = meaning.subject
        if not allowed(self.split, subject.object, subject.action, subject.place, subject.color):
            return None
        gold = relevance(meaning, self.scene)
        fragments = self._fragments(gold)
        if len(gold.image_ids) > MAX_GOLD_PICTURES or _kind(gold) is not kind:
            return None
        if len(gold.image_ids) > 1 and self.rng.random() > _SEVERAL:
            return None
        if gold.utterance_ids and len(fragments) > 1:
            return None
        return Query(
            query=write_query(meaning, self.templates, self.words, self.rng),
            relevance=gold,
            kind=kind,
            fragment_id=fragments.pop() if len(fragments) == 1 else None,
        )

    def _fragments(self, gold: Selection) -> set[int]:
        pictures = [piece for piece in self.scene.pieces if piece.picture is not None]
        topics = {self.scene.pieces[i].topic for i in gold.utterance_ids}
        topics |= {pictures[i].topic for i in gold.image_ids}
        return {self.scene.fragment_of_topic[topic] for topic in topics}

    def _turns(self) -> Meaning:
        position = self.rng.randrange(len(self.scene.topics))
        topic = self.scene.topics[position]
        known = [aspect for aspect in ASPECTS if (position, aspect) in self.said]
        aspect = self.rng.choice(known) if known and self.rng.random() < 0.5 else None
        return Meaning(subject=self._of(topic), aspect=aspect)

    def _of(self, topic: Topic, color: str | None = None) -> Subject:
        """The key of a topic, mostly with other slots of it."""
        extra = self.rng.choices(("", "a", "o", "p", "ao"), (15, 30, 20, 20, 15))[0]
        if color is not None:
            extra = self.rng.choices(("o", "op", "ao"), (70, 15, 15))[0]
        slots = set(topic.key) | set(extra)
        return Subject(
            object=topic.object if "o" in slots else None,
            action=topic.action if "a" in slots else None,
            place=topic.place if "p" in slots else None,
            color=color,
        )

    def _both(self) -> Meaning:
        picture = self.rng.choice(self.shown)
        about = [i for i, topic in enumerate(self.scene.topics) if topic.object == picture.object]
        position = self.rng.choice(about)
        topic = self.scene.topics[position]
        if self.rng.random() < 0.2:
            return Meaning(subject=Subject(object=topic.object), pictures=True)
        known = [aspect for aspect in ASPECTS if (position, aspect) in self.said]
        aspect = self.rng.choice(known) if known and self.rng.random() < 0.25 else None
        subject = self._of(topic, picture.color)
        return Meaning(subject=subject, aspect=aspect, pictures=True)

    def _pictures(self) -> Meaning:
        picture = self.rng.choice(self.shown)
        named = self.rng.choices(("co", "op", "cop", "c"), (54, 20, 10, 16))[0]
        return picture_of(named, picture.object, picture.color, picture.place)

    def _foreign(self) -> Meaning:
        """Something that is most likely not in the dialogue."""
        key = self.rng.choice(OBJECTS)
        if self.shown and self.rng.random() < 0.4:
            named = self.rng.choices(("co", "op", "c"), (60, 25, 15))[0]
            color, place = self.rng.choice(COLORS), self.rng.choice(PLACES)
            return picture_of(named, key, color, place)
        extra = self.rng.choice(("", "a", "p"))
        subject = Subject(
            object=key,
            action=self.rng.choice(ACTIONS) if extra == "a" else None,
            place=self.rng.choice(PLACES) if extra == "p" else None,
        )
        aspect = self.rng.choice(ASPECTS) if self.rng.random() < 0.4 else None
        return Meaning(subject=subject, aspect=aspect)

    def _recombined(self) -> Meaning:
        """Words of the dialogue that do not belong together in it."""
        one, two = self.rng.choice(self.scene.topics), self.rng.choice(self.scene.topics)
        if self.shown and self.rng.random() < 0.5:
            first, second = self.rng.choice(self.shown), self.rng.choice(self.shown)
            named = self.rng.choices(("co", "op"), (70, 30))[0]
            return picture_of(named, first.object, second.color, second.place)
        slot = self.rng.choice(("a", "p", "aspect"))
        if slot == "aspect":
            return Meaning(subject=self._of(one), aspect=self.rng.choice(ASPECTS))
        subject = Subject(
            object=one.object,
            action=two.action if slot == "a" else None,
            place=two.place if slot == "p" else None,
        )
        return Meaning(subject=subject)


def picture_of(named: str, key: str, color: str, place: str) -> Meaning:
    """Asks for pictures alone; `named` holds the slots (c, o, p) that are said."""
    subject = Subject(
        object=key if "o" in named else None,
        color=color if "c" in named else None,
        place=place if "p" in named else None,
    )
    return Meaning(subject=subject, turns=False, pictures=True)


def _kind(gold: Selection) -> QueryKind:
    if gold.utterance_ids:
        return QueryKind.MULTI_MODAL if gold.image_ids else QueryKind.UTTERANCE_ONLY
    return QueryKind.IMAGE_ONLY if gold.image_ids else QueryKind.NEGATIVE
