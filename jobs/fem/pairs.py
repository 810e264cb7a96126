"""What the fragment embedding model learns from: queries with gold turns, question-answer pairs.

A *unit* is what one vector stands for while mining and validating: a turn or a whole fragment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffr_core.errors import InputError, RecordError
from ffr_core.passages import passage_of, turn_text
from ffr_core.records import read_json_lines, read_jsonl
from ffr_core.types import Dialogue, Passage, Query

Unit = Literal["turn", "fragment"]
EXCLUDED = frozenset({"qa_adversarial", "negative"})
"""Kinds of queries without a fragment that answers them."""
_QUESTION_MARKS = ("?", "？")


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentRef:
    """A gold fragment of a corpus."""

    dialogue: Dialogue
    fragment_id: int
    turn_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRef:
    """A query with its gold fragment and the turns in it that answer."""

    query: Query
    fragment: int
    """Position in `Corpus.fragments`."""
    gold_turns: frozenset[int]

    @property
    def text(self) -> str:
        """What is asked."""
        return self.query.query


@dataclass(frozen=True, slots=True, kw_only=True)
class QaPair:
    """A question about a fragment and its answer."""

    question: str
    answer: Passage
    answer_turn: int
    """First turn of the fragment that the answer stands in."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One data set, or the part of it that a split keeps."""

    name: str
    fragments: list[FragmentRef]
    queries: list[QueryRef]
    left_out: dict[str, int]
    """Reason -> number of queries that cannot be used."""

    @cached_property
    def siblings(self) -> dict[str, list[int]]:
        """Dialogue id -> positions of its fragments."""
        found: dict[str, list[int]] = {}
        for position, fragment in enumerate(self.fragments):
            found.setdefault(fragment.dialogue.dialogue_id, []).append(position)
        return found

    def units(self, unit: Unit) -> list[tuple[int, tuple[int, ...]]]:
        """(fragment, turn ids) of every unit, fragment by fragment."""
        if unit == "fragment":
            return [(i, f.turn_ids) for i, f in enumerate(self.fragments)]
        return [(i, (t,)) for i, f in enumerate(self.fragments) for t in f.turn_ids]

    def passage(self, fragment: int, turn_ids: Sequence[int]) -> Passage:
        """The passage of some turns."""
        return passage_of(self.fragments[fragment].dialogue, turn_ids)


def build_corpus(name: str, dialogues: Sequence[Dialogue]) -> Corpus:
    """Collect gold fragments and the queries that name one; the others are counted."""
    fragments: list[FragmentRef] = []
    queries: list[QueryRef] = []
    left_out: dict[str, int] = {}
    for dialogue in dialogues:
        place: dict[int, int] = {}
        for fragment_id, turn_ids in enumerate(dialogue.fragments or ()):
            if turn_ids:
                place[fragment_id] = len(fragments)
                ids = tuple(sorted(set(turn_ids)))
                fragments.append(
                    FragmentRef(dialogue=dialogue, fragment_id=fragment_id, turn_ids=ids)
                )
        for query in dialogue.queries or ():
            kind = query.source_kind or query.kind
            turns = set(query.relevance.utterance_ids)
            turns |= {dialogue.turn_of_image[i] for i in query.relevance.image_ids}
            reason = None
            if kind in EXCLUDED:
                reason = "nothing answers it"
            elif query.fragment_id not in place:
                reason = "no gold fragment"
            elif not turns & set(fragments[place[query.fragment_id]].turn_ids):
                reason = "no gold turn in its fragment"
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            position = place[query.fragment_id or 0]
            gold = turns & set(fragments[position].turn_ids)
            queries.append(QueryRef(query=query, fragment=position, gold_turns=frozenset(gold)))
    return Corpus(name=name, fragments=fragments, queries=queries, left_out=left_out)


def split_dialogues(
    dialogues: Sequence[Dialogue], validation: float, test: float, seed: int
) -> tuple[list[Dialogue], list[Dialogue], list[Dialogue]]:
    """Train, validation and test dialogues; shares of the dialogues, drawn by seed alone."""
    order = np.random.default_rng(seed).permutation(len(dialogues))
    num_test, num_val = round(test * len(dialogues)), round(validation * len(dialogues))
    parts = order[:num_test], order[num_test : num_test + num_val], order[num_test + num_val :]
    test_part, val_part, train_part = ([dialogues[i] for i in sorted(part)] for part in parts)
    return train_part, val_part, test_part


def read_dialogues(
    path: Path, at_most: int | None, seed: int, left_out: Counter[str] | None = None
) -> list[Dialogue]:
    """Dialogues of a corpus file that have gold fragments; a sample by seed when too many.

    Args:
        path: JSONL file.
        at_most: Size of the sample.
        seed: Draws it.
        left_out: Counts the queries of dialogues without gold fragments.

    Raises:
        RecordError: A record that is not a dialogue.
        InputError: A dialogue_id occurs twice; one of the two could be validated on the other.
    """
    dialogues: list[Dialogue] = []
    seen: set[str] = set()
    for dialogue in read_jsonl(path):
        if dialogue.dialogue_id in seen:
            raise InputError(
                f"dialogue {dialogue.dialogue_id!r} occurs twice in {path}; give each an id of"
                " its own"
            )
        seen.add(dialogue.dialogue_id)
        if dialogue.fragments:
            dialogues.append(dialogue)
        elif left_out is not None and dialogue.queries:
            left_out["dialogue without gold fragments"] += len(dialogue.queries)
    if at_most is not None and len(dialogues) > at_most:
        chosen = np.random.default_rng(seed).permutation(len(dialogues))[:at_most]
        dialogues = [dialogues[i] for i in sorted(chosen)]
    return dialogues


Written = Mapping[str, Sequence[Mapping[str, Any]]]
"""Dialogue id -> its `qa_pairs`, as `jobs.build_dataset` and `ffrs synth` write them."""


def read_written_pairs(path: Path) -> Written:
    """The question-answer pairs that a corpus file carries; most files have none."""
    return {
        record["dialogue_id"]: record["qa_pairs"]
        for _, record in read_json_lines(path)
        if record.get("qa_pairs")
    }


def question_answers(corpus: Corpus, written: Written) -> dict[int, list[QaPair]]:
    """Fragment -> its question-answer pairs; only fragments with two different answers.

    A dialogue with written pairs has those (Sec 5.3.2). Otherwise a pair is a turn that ends in a
    question mark and the next turn of the fragment by another speaker, our choice.

    Raises:
        RecordError: A written pair names no fragment or no turn of its dialogue.
    """
    found: dict[int, list[QaPair]] = {}
    for position, fragment in enumerate(corpus.fragments):
        its_pairs = written.get(fragment.dialogue.dialogue_id)
        pairs = _asked(fragment) if its_pairs is None else _written(fragment, its_pairs)
        if len({pair.answer for pair in pairs}) >= 2:
            found[position] = pairs
    return found


def _written(fragment: FragmentRef, pairs: Sequence[Mapping[str, Any]]) -> list[QaPair]:
    dialogue = fragment.dialogue
    try:
        return [
            QaPair(
                question=pair["question"],
                answer=Passage(
                    text=pair["answer"],
                    images=tuple(dialogue.images[i] for i in pair.get("answer_images", ())),
                ),
                answer_turn=next(t for t in pair["answer_turns"] if t in fragment.turn_ids),
            )
            for pair in pairs
            if pair["fragment_id"] == fragment.fragment_id
        ]
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise RecordError(
            "bad_qa_pairs",
            f"qa_pairs of {dialogue.dialogue_id!r}, fragment {fragment.fragment_id}: each needs"
            " question, answer, fragment_id and answer_turns of that fragment; build it again",
        ) from error


def _asked(fragment: FragmentRef) -> list[QaPair]:
    turns = [fragment.dialogue.turns[i] for i in fragment.turn_ids]
    pairs = []
    for number, turn in enumerate(turns[:-1]):
        if not turn.text.rstrip().endswith(_QUESTION_MARKS):
            continue
        answer = next((t for t in turns[number + 1 :] if t.speaker != turn.speaker), None)
        if answer is not None and (answer.text or answer.images):
            pairs.append(
                QaPair(
                    question=" ".join(turn.text.split()),
                    answer=Passage(text=turn_text(answer), images=answer.images),
                    answer_turn=answer.turn_id,
                )
            )
    return pairs


def window_around(
    corpus: Corpus, fragment: int, turn_id: int, lengths: dict[int, int], limit: int
) -> tuple[int, ...]:
    """Turns of the fragment around `turn_id`, growing to both sides while `limit` tokens hold."""
    ids = corpus.fragments[fragment].turn_ids
    low = high = ids.index(turn_id)
    room = limit - lengths[turn_id]
    grows = True
    while grows:
        grows = False
        if low > 0 and lengths[ids[low - 1]] <= room:
            low -= 1
            room -= lengths[ids[low]]
            grows = True
        if high + 1 < len(ids) and lengths[ids[high + 1]] <= room:
            high += 1
            room -= lengths[ids[high]]
            grows = True
    return ids[low : high + 1]
