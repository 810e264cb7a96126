"""The turns of a dialogue: what each topic says, and how topics and pictures interleave."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from ffr_core.dataset.synthetic.grammar import Grammar, Subject, phrase
from ffr_core.dataset.synthetic.pictures import PictureSpec
from ffr_core.dataset.synthetic.topics import Topic
from ffr_core.dataset.synthetic.words import ASPECTS, Lexicon

INTERLEAVED = 0.4
"""Share of dialogues whose topics alternate freely; the others come in blocks."""
REPLY_RATE = 0.2
"""Share of plain turns that a generic reply follows."""
OFF_KEY = 0.07
"""Share of plain turns that name the topic by another word than its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One turn before it has a position."""

    topic: int
    text: str
    answers: bool = False
    """Whether it answers the turn before, by another speaker."""
    aspect: str | None = None
    slots: str = ""
    """Slots of the topic that the text names."""
    picture: PictureSpec | None = None


Unit = tuple[Piece, ...]
"""Turns that stay together: a question and its answer, a turn and its reply."""


def subject_of(topic: Topic, slots: str) -> Subject:
    """A topic as far as some of its slots (a, o, p) name it."""
    named = {slot: topic.value(slot) if slot in slots else None for slot in "aop"}
    return Subject(object=named["o"], action=named["a"], place=named["p"])


class TopicWriter:
    """Writes the units of one topic."""

    def __init__(
        self, position: int, topic: Topic, templates: Grammar, words: Lexicon, rng: Random
    ) -> None:
        self.position, self.topic = position, topic
        self.templates, self.words, self.rng = templates, words, rng
        self.aspects = rng.sample(ASPECTS, rng.choice((2, 2, 3)))
        self.values = {aspect: rng.choice(words.values[aspect]) for aspect in self.aspects}

    def write(self, num_turns: int) -> list[Unit]:
        """Units of `num_turns` turns in all; the first names the whole topic."""
        units: list[Unit] = [(self._plain("aop"),)]
        waiting = list(self.aspects)
        left = num_turns - 1
        while left > 0:
            if waiting and left >= 2 and self.rng.random() < 0.7:
                unit = self._question(waiting.pop())
            elif waiting and self.rng.random() < 0.5:
                unit = (self._statement(waiting.pop()),)
            elif left >= 2 and self.rng.random() < REPLY_RATE * 1.5:
                unit = (self._plain(self._slots()), self._reply())
            elif self.rng.random() < 0.15:
                unit = (self._statement(self.rng.choice(self.aspects)),)
            else:
                unit = (self._plain(self._slots()),)
            units.append(unit)
            left -= len(unit)
        return units

    def _slots(self, faithful: bool = False) -> str:
        """Key slots, often with others; rarely another slot alone."""
        key = self.topic.key
        if not faithful and key == "o" and self.rng.random() < OFF_KEY:
            return "ap"
        extra = self.rng.choices(("", "o", "a", "p"), (35, 25, 25, 15))[0]
        return "".join(slot for slot in "aop" if slot in key or slot == extra)

    def _subject(self, slots: str) -> str:
        return phrase(subject_of(self.topic, slots), self.templates, self.words, self.rng)

    def _piece(self, template: str, slots: str, aspect: str | None = None) -> Piece:
        value = self.values[aspect] if aspect else ""
        text = template.format(s=self._subject(slots), v=value)
        return Piece(topic=self.position, text=text, slots=slots, aspect=aspect)

    def _plain(self, slots: str) -> Piece:
        return self._piece(self.rng.choice(self.templates.plain), slots)

    def _statement(self, aspect: str) -> Piece:
        template = self.rng.choice(self.templates.aspects[aspect].statements)
        return self._piece(template, self._slots(faithful=True), aspect)

    def _question(self, aspect: str) -> Unit:
        templates = self.templates.aspects[aspect]
        asked = self.rng.choice(templates.questions)
        said = self.rng.choice(templates.answers).format(v=self.values[aspect])
        answer = Piece(topic=self.position, text=said, answers=True, aspect=aspect)
        return self._piece(asked, self._slots(faithful=True), aspect), answer

    def _reply(self) -> Piece:
        text = self.rng.choice(self.templates.replies)
        return Piece(topic=self.position, text=text, answers=True)


def interleave(units_of_topics: list[list[Unit]], shared: list[Unit], rng: Random) -> list[Piece]:
    """Order all units; those of a topic keep their order, pictures go anywhere."""
    if rng.random() < INTERLEAVED:
        order = [i for i, units in enumerate(units_of_topics) for _ in units]
        rng.shuffle(order)
        waiting = [iter(units) for units in units_of_topics]
        merged = [next(waiting[i]) for i in order]
    else:
        merged = _blocks(units_of_topics, rng)
    # A picture stands at a random place, so that its neighbors do not tell what it shows.
    for unit in shared:
        merged.insert(rng.randint(0, len(merged)), unit)
    return [piece for unit in merged for piece in unit]


def _blocks(units_of_topics: list[list[Unit]], rng: Random) -> list[Unit]:
    blocks: list[tuple[float, list[Unit]]] = []
    for units in units_of_topics:
        count = min(len(units), rng.choice((1, 1, 2, 3)))
        cuts = [0, *sorted(rng.sample(range(1, len(units)), count - 1)), len(units)]
        times = sorted(rng.random() for _ in range(count))
        parts = [units[a:b] for a, b in pairwise(cuts)]
        blocks.extend(zip(times, parts, strict=True))
    blocks.sort(key=lambda block: block[0])
    return [unit for _, part in blocks for unit in part]


def assign_speakers(pieces: list[Piece], names: tuple[str, ...], rng: Random) -> list[str]:
    """A speaker for each turn; an answer never comes from the one who was answered."""
    present = rng.sample(names, rng.choice((2, 2, 3, 4)))
    speakers: list[str] = []
    for piece in pieces:
        last = speakers[-1] if speakers else None
        others = [name for name in present if name != last]
        # The second turn is by another speaker, so that nobody talks alone.
        stay = len(speakers) > 1 and not piece.answers and rng.random() < 0.2
        speakers.append(last if stay and last else rng.choice(others))
    return speakers
