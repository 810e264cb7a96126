"""Decompose the fragments of a long dialogue into question-answer pairs, by an engine.

Each pair is one communicative intent (a question, a request for clarification, a reference to a
picture) and what answers it; FEM contrasts the answers of one fragment (Eq 9). Source: Sec 5.3, as
stated. Checks (our reading): a pair names turns and images of its fragment, a fragment has at least
two pairs with different answers, since one alone has nothing to be contrasted with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ffr_core.dataset.asking import AnswerError, Assignment, json_phrase, listed, phrase_of
from ffr_core.dataset.dataset_prompts import LANGUAGE_NAMES, DatasetPrompts
from ffr_core.dataset.long_dialogue import LongDialogue, QaPair
from ffr_core.markup import unescape
from ffr_core.types import Dialogue

MIN_PAIRS = 2
MAX_PAIRS = 6
"""Of a fragment, in answers under a grammar."""
MAX_CHARACTERS = 200
"""Of a question or an answer, likewise."""


def qa_assignments(
    item: LongDialogue, prompts: DatasetPrompts, *, structured: bool = False
) -> list[Assignment[LongDialogue]]:
    """A question for each fragment; its answer is the long dialogue with the pairs of that one.

    Each fragment is asked for by itself, so that one with a wrong answer does not take the others
    with it. `with_all_pairs` puts the answers together.
    """
    dialogue = item.dialogue

    def question(number: int, turn_ids: tuple[int, ...]) -> Assignment[LongDialogue]:
        payload = {
            "language": LANGUAGE_NAMES.get(dialogue.language or "", "the language of the input"),
            "fragments": [{"fragment": number, "turns": _turns(dialogue, turn_ids)}],
        }
        return Assignment(
            key=dialogue.dialogue_id,
            part=f"/{number}",
            messages=prompts.messages("qa", payload),
            check=lambda answer: replace(item, qa={number: check_qa(dialogue, number, answer)}),
            grammar=qa_grammar(dialogue, number) if structured else None,
        )

    return [question(number, ids) for number, ids in enumerate(dialogue.fragments or ())]


def with_all_pairs(items: Sequence[LongDialogue]) -> list[LongDialogue]:
    """One item of each long dialogue, with the pairs of all items of it, in their order."""
    joined: dict[str, LongDialogue] = {}
    for item in items:
        before = joined.get(item.dialogue.dialogue_id, item)
        joined[item.dialogue.dialogue_id] = replace(before, qa={**before.qa, **item.qa})
    return list(joined.values())


def qa_grammar(dialogue: Dialogue, number: int) -> str:
    """A regular expression of answers with pairs of one fragment, about its own ids.

    The pairs that it needs are about one stretch of the fragment each, so that answers differ.
    """
    turn_ids = _turn_ids(dialogue, number)
    images = [i for i, turn in enumerate(dialogue.turn_of_image) if turn in turn_ids]
    fewest = max(1, min(MIN_PAIRS, len(turn_ids) - 1))
    ends = [len(turn_ids) * i // fewest for i in range(fewest + 1)]
    needed = ", ".join(_pair(number, turn_ids[a:b], images) for a, b in pairwise(ends))
    more = f"(?:, {_pair(number, turn_ids, images)}){{0,{MAX_PAIRS - fewest}}}"
    return rf'\{{"pairs": \[{needed}{more}\]\}}'


def _turn_ids(dialogue: Dialogue, number: int) -> tuple[int, ...]:
    assert dialogue.fragments is not None
    return dialogue.fragments[number]


def _pair(number: int, turn_ids: Sequence[int], images: Sequence[int]) -> str:
    text = json_phrase(MAX_CHARACTERS)
    image_list = rf"\[(?:{_id_list(images)})?\]" if images else r"\[\]"
    return (
        rf'\{{"fragment": {number}, "turns": \[{_id_list(turn_ids)}\], "images": {image_list},'
        rf' "question": {text}, "answer": {text}\}}'
    )


def _id_list(ids: Sequence[int]) -> str:
    one = f"(?:{'|'.join(map(str, ids))})"
    return rf"{one}(?:, {one}){{0,{len(ids) - 1}}}"


def _turns(dialogue: Dialogue, turn_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    return [
        {
            "turn": turn.turn_id,
            "speaker": turn.speaker,
            "text": turn.text,
            "images": [{"image": i.image_id, "caption": i.caption or ""} for i in turn.images],
        }
        for turn in (dialogue.turns[turn_id] for turn_id in turn_ids)
    ]


def check_qa(dialogue: Dialogue, number: int, answer: Any) -> tuple[QaPair, ...]:
    """The pairs of fragment `number`.

    Raises:
        AnswerError: `unknown_fragment`, `outside_fragment`, `too_few_pairs`.
    """
    turns = set(_turn_ids(dialogue, number))
    images = {i for i, turn in enumerate(dialogue.turn_of_image) if turn in turns}
    pairs: list[QaPair] = []
    for entry in listed(answer, "pairs"):
        found = entry.get("fragment")
        if not isinstance(found, int) or isinstance(found, bool) or found != number:
            raise AnswerError("unknown_fragment", f"{found!r:.20} is no fragment of the input")
        pairs.append(
            QaPair(
                question=unescape(phrase_of(entry, "question")),
                answer=unescape(phrase_of(entry, "answer")),
                utterance_ids=_ids(entry, "turns", turns),
                image_ids=_ids(entry, "images", images),
            )
        )
    num_answers = len({pair.answer for pair in pairs})
    fewest = min(MIN_PAIRS, len(turns) - 1)
    if num_answers < fewest:
        raise AnswerError(
            "too_few_pairs",
            f"the {len(pairs)} pairs of fragment {number} have {num_answers} different answers; it"
            f" needs {fewest}, about different turns",
        )
    return tuple(pairs)


def _ids(entry: Mapping[str, Any], key: str, allowed: set[int]) -> tuple[int, ...]:
    ids = entry.get(key) or []
    fits = isinstance(ids, list) and all(
        isinstance(i, int) and not isinstance(i, bool) and i in allowed for i in ids
    )
    if not fits or (key == "turns" and not ids):
        raise AnswerError(
            "outside_fragment",
            f"{key} {ids!r:.60} of a pair of fragment {entry['fragment']} must be ids of it",
        )
    return tuple(sorted(set(ids)))
