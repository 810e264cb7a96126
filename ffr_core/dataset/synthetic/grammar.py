"""Sentence templates of one language and one side of the split, and how they are filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from ffr_core.dataset.synthetic.words import Lexicon, Split, lexicon

SYNONYM_RATE = 0.3
"""Share of mentions that use a synonym, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectTemplates:
    """What can be said and asked about one aspect of a topic."""

    statements: tuple[str, ...]
    """`{s}` and `{v}`."""
    questions: tuple[str, ...]
    """`{s}`."""
    answers: tuple[str, ...]
    """`{v}` only: an answer directly follows its question."""
    queries: tuple[str, ...]
    """`{s}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """All templates of one language and side."""

    things: Mapping[str, tuple[str, ...]]
    """Slots, in the order c a o p -> subject phrases."""
    plain: tuple[str, ...]
    """Turns about a topic that mention no aspect."""
    aspects: Mapping[str, AspectTemplates]
    replies: tuple[str, ...]
    """Generic turns that answer the turn before."""
    sharing: tuple[str, ...]
    """Texts of turns with a picture; they reveal nothing."""
    coarse: tuple[str, ...]
    """Queries for the turns of a topic."""
    everything: tuple[str, ...]
    """Queries for turns and pictures of a thing."""
    colored: tuple[str, ...]
    """The same where a color chooses the pictures."""
    pictures: tuple[str, ...]
    """Queries for pictures alone."""
    captions: tuple[str, ...]

    def templates(self) -> Iterator[str]:
        """Every template, subject phrases included."""
        for group in self.things.values():
            yield from group
        for aspect in self.aspects.values():
            yield from (*aspect.statements, *aspect.questions, *aspect.answers, *aspect.queries)
        yield from (*self.plain, *self.replies, *self.sharing, *self.coarse, *self.everything)
        yield from (*self.colored, *self.pictures, *self.captions)


def grammar(language: str, split: Split) -> Grammar:
    """The templates of a language and side."""
    if language == "zh":
        from ffr_core.dataset.synthetic import chinese

        return chinese.HELDOUT if split == "heldout" else chinese.TRAIN
    from ffr_core.dataset.synthetic import english

    return english.HELDOUT if split == "heldout" else english.TRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Concepts that a phrase names; None leaves one out."""

    object: str | None = None
    action: str | None = None
    place: str | None = None
    color: str | None = None

    @property
    def slots(self) -> str:
        """The named slots in the order c a o p."""
        named = (("c", self.color), ("a", self.action), ("o", self.object), ("p", self.place))
        return "".join(slot for slot, key in named if key is not None)


def phrase(subject: Subject, templates: Grammar, words: Lexicon, rng: Random) -> str:
    """Words for a subject, synonyms now and then."""
    return rng.choice(templates.things[subject.slots]).format(
        o=_form(words.objects, subject.object, rng),
        a=_form(words.actions, subject.action, rng),
        p=_form(words.places, subject.place, rng),
        c=_form(words.colors, subject.color, rng),
    )


def _form(forms: Mapping[str, tuple[str, ...]], key: str | None, rng: Random) -> str:
    if key is None:
        return ""
    known = forms[key]
    return rng.choice(known[1:]) if len(known) > 1 and rng.random() < SYNONYM_RATE else known[0]


def vocabulary(language: str) -> tuple[str, ...]:
    """Every word that may occur, both sides together, sorted.

    English: words and punctuation marks, separated by blanks in all texts. Chinese, which is
    written without blanks: every word of the lexicon and every single character.
    """
    if language == "mixed":
        return tuple(sorted({*vocabulary("en"), *vocabulary("zh")}))
    words = lexicon(language)
    found: set[str] = set()
    for forms in (words.objects, words.colors, words.places, words.actions, words.values):
        found.update(form for group in forms.values() for form in group)
    found.update(name for side in words.names.values() for name in side)
    for side in ("train", "heldout"):
        for template in grammar(language, side).templates():
            text = template
            for slot in ("{s}", "{v}", "{o}", "{a}", "{p}", "{c}"):
                text = text.replace(slot, " ")
            found.update(text.replace(" ", "") if language == "zh" else text.split())
    if language == "zh":
        found.update(character for word in tuple(found) for character in word)
    return tuple(sorted(found))
