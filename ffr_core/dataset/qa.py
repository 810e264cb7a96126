"""Decompose the fragments of a long dialogue into question-answer pairs, by an engine.

Each pair is one communicative intent (a question, a request for clarification, a reference to a
picture) and what answers it; FEM contrasts the answers of one fragment (Eq 9). Source: Sec 5.3, as
stated. Checks (our reading): a pair names turns and images of its fragment, a fragment has at least
two pairs with different answers, since one alone has nothing to be contrasted with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ffr_core.dataset.asking import AnswerError, Assignment, json_string, listed, text_of
from ffr_core.dataset.dataset_prompts import LANGUAGE_NAMES, DatasetPrompts
from ffr_core.dataset.long_dialogue import LongDialogue, QaPair
from ffr_core.markup import unescape
from ffr_core.types import Dialogue

MIN_PAIRS = 2
MAX_PAIRS = 6
"""Of a fragment, in answers under a grammar."""
MAX_CHARACTERS = 200
"""Of a question or an answer, likewise."""


def qa_assignment(
    item: LongDialogue, prompts: DatasetPrompts, *, structured: bool = False
) -> Assignment[LongDialogue]:
    """The question for all fragments of one long dialogue."""
    dialogue = item.dialogue
    payload = {
        "language": LANGUAGE_NAMES.get(dialogue.language or "", "the language of the input"),
        "fragments": [
            {"fragment": number, "turns": _turns(dialogue, ids)}
            for number, ids in enumerate(dialogue.fragments or ())
        ],
    }

    def check(answer: Any) -> LongDialogue:
        return replace(item, qa=check_qa(dialogue, answer))

    return Assignment(
        key=dialogue.dialogue_id,
        messages=prompts.messages("qa", payload),
        check=check,
        grammar=qa_grammar(dialogue) if structured else None,
    )


def qa_grammar(dialogue: Dialogue) -> str:
    """A regular expression of answers with pairs for each fragment, in order, about its own ids."""
    text = json_string(MAX_CHARACTERS)
    blocks = []
    for number, turn_ids in enumerate(dialogue.fragments or ()):
        images = [i for i, turn in enumerate(dialogue.turn_of_image) if turn in turn_ids]
        image_list = rf"\[(?:{_id_list(images)})?\]" if images else r"\[\]"
        pair = (
            rf'\{{"fragment": {number}, "question": {text}, "answer": {text},'
            rf' "turns": \[{_id_list(turn_ids)}\], "images": {image_list}\}}'
        )
        fewest = max(1, min(MIN_PAIRS, len(turn_ids) - 1))
        blocks.append(rf"{pair}(?:, {pair}){{{fewest - 1},{MAX_PAIRS - 1}}}")
    return r'\{"pairs": \[' + ", ".join(blocks) + r"\]\}"


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


def check_qa(dialogue: Dialogue, answer: Any) -> dict[int, tuple[QaPair, ...]]:
    """Pairs by fragment id.

    Raises:
        AnswerError: `unknown_fragment`, `outside_fragment`, `too_few_pairs`.
    """
    fragments = dialogue.fragments or ()
    pairs: dict[int, list[QaPair]] = {number: [] for number in range(len(fragments))}
    for entry in listed(answer, "pairs"):
        number = entry.get("fragment")
        if not isinstance(number, int) or isinstance(number, bool) or number not in pairs:
            raise AnswerError("unknown_fragment", f"{number!r:.20} is no fragment of the input")
        turns = set(fragments[number])
        images = {i for i, turn in enumerate(dialogue.turn_of_image) if turn in turns}
        pairs[number].append(
            QaPair(
                question=unescape(text_of(entry, "question")),
                answer=unescape(text_of(entry, "answer")),
                utterance_ids=_ids(entry, "turns", turns),
                image_ids=_ids(entry, "images", images),
            )
        )
    for number, found in pairs.items():
        if len({pair.answer for pair in found}) < min(MIN_PAIRS, len(fragments[number]) - 1):
            raise AnswerError(
                "too_few_pairs",
                f"fragment {number} has {len(found)} pairs; it needs {MIN_PAIRS} with different"
                " answers",
            )
    return {number: tuple(found) for number, found in pairs.items()}


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
