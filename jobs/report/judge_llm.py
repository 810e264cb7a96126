"""A language model as judge, through the engine seam: JSON answers, checked, asked again, counted.

The judge sees what people see: the query, the conversation, the answers under letters. It never
learns which system answered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ffr_core.config import Config, read_toml
from ffr_core.dataset.asking import AnswerError, Assignment, Refusal, ask
from ffr_core.errors import ConfigError
from ffr_core.generation import Message, Sampling
from ffr_core.markup import escape
from ffr_core.passages import image_words
from ffr_core.protocols import Engine
from ffr_core.types import Dialogue, Image
from jobs.report.judging import CHOICES, LIKERT, Answer, Item, Rating

CONTEXT = 3
"""Turns shown around answers where a conversation is too long to be shown whole."""


class JudgeText(Config):
    """One task of the judge."""

    system: str
    user: str
    """Holds `$input` once (`[retry]`: `$problem`)."""


class RetryText(Config):
    """What follows an answer that fails a check."""

    user: str


class JudgePrompts(Config):
    """A prompt file: `[rate]`, `[choose]`, `[retry]`."""

    rate: JudgeText
    choose: JudgeText
    retry: RetryText

    @classmethod
    def open(cls, path: Path | None = None) -> JudgePrompts:
        """Read a file, or the one that ships; ConfigError where a slot is missing."""
        shipped = Path(str(resources.files("ffr_core"))) / "data" / "prompts" / "judge.toml"
        chosen = path or shipped
        prompts = cls.parse(read_toml(chosen), str(chosen))
        slots = [(prompts.rate.user, "$input"), (prompts.choose.user, "$input")]
        for text, slot in [*slots, (prompts.retry.user, "$problem")]:
            if text.count(slot) != 1:
                raise ConfigError(f"{chosen}: a user text needs {slot} exactly once")
        return prompts

    def messages(
        self, text: JudgeText, payload: Mapping[str, Any], images: Sequence[Image]
    ) -> tuple[Message, ...]:
        """System and user message; typed text is escaped, pictures stand after the input."""
        line = json.dumps(payload, ensure_ascii=False)
        before, after = text.user.split("$input")
        shown: list[str | Image] = []
        for image in images:
            shown += [f"\n[image {image.image_id}]", image]
        return (
            Message(role="system", parts=(text.system,)),
            Message(role="user", parts=(before + line, *shown, after)),
        )


@dataclass(frozen=True, kw_only=True)
class Judgment:
    """What the judge says about all items."""

    ratings: list[Rating]
    dead_letters: list[dict[str, Any]]
    """Questions without a valid answer: key, reason, attempts; no message text."""
    faults: dict[str, int]
    """Answers that failed a check, by reason, retried ones included."""


def judge_items(
    engine: Engine,
    items: Sequence[Item],
    dialogues: Mapping[str, Dialogue],
    *,
    name: str = "judge",
    prompts: JudgePrompts | None = None,
    max_attempts: int = 3,
    max_turns: int = 200,
    images: bool = False,
) -> Judgment:
    """Rate every answer, and choose the best ones of every item with at least two answers.

    Args:
        engine: The judge.
        items: Blind items.
        dialogues: By id.
        name: Of the rater.
        prompts: Texts; those that ship when left out.
        max_attempts: Answers asked for before a question goes to the dead letter.
        max_turns: Longer conversations are cut to the answers and the turns around them.
        images: Pictures go to the engine; else their captions only.
    """
    texts = prompts or JudgePrompts.open()
    rate = [
        _rate(texts, item, answer, dialogues, max_turns, images)
        for item in items
        for answer in item.answers
    ]
    choose = [
        _choose(texts, item, dialogues, max_turns, images)
        for item in items
        if len(item.answers) > 1
    ]
    sampling = Sampling(max_new_tokens=512, seed=0)
    found = ask(
        engine,
        [*rate, *choose],
        retry_text=texts.retry.user,
        sampling=sampling,
        max_attempts=max_attempts,
    )
    by_key = {a.key: result for a, result in zip([*rate, *choose], found.results, strict=True)}
    refused = [result for result in found.results if isinstance(result, Refusal)]
    return Judgment(
        ratings=_ratings(items, by_key, name),
        dead_letters=[{"key": r.key, "reason": r.reason, "attempts": r.attempts} for r in refused],
        faults=dict(Counter(found.faults)),
    )


def check_rating(answer: Any) -> dict[str, int]:
    """Relevance and coverage, whole numbers from 1 to 5.

    Raises:
        AnswerError: Anything else.
    """
    if not isinstance(answer, Mapping):
        raise AnswerError("bad_shape", "the answer must be an object")
    scores = {}
    for name in LIKERT:
        value = answer.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 5:
            raise AnswerError("not_1_to_5", f"{name!r} is {value!r:.40}, expected 1, 2, 3, 4 or 5")
        scores[name] = value
    return scores


def check_choice(answer: Any, letters: Sequence[str]) -> dict[str, list[str]]:
    """Letters of the best answers for each criterion, at least one each.

    Raises:
        AnswerError: Anything else.
    """
    if not isinstance(answer, Mapping):
        raise AnswerError("bad_shape", "the answer must be an object")
    chosen = {}
    for name in CHOICES:
        value = answer.get(name)
        best = [value] if isinstance(value, str) else value
        if not isinstance(best, list) or not best or any(b not in letters for b in best):
            raise AnswerError(
                "unknown_letter",
                f"{name!r} is {value!r:.40}, expected a list of letters out of {list(letters)}",
            )
        chosen[name] = sorted(set(best))
    return chosen


def _rate(
    prompts: JudgePrompts,
    item: Item,
    answer: Answer,
    dialogues: Mapping[str, Dialogue],
    max_turns: int,
    images: bool,
) -> Assignment[Any]:
    payload, pictures = _payload(item, [answer], dialogues, max_turns)
    payload["retrieved"] = payload.pop("answers")[answer.letter]
    return Assignment(
        key=f"{item.item_id}/{answer.letter}",
        messages=prompts.messages(prompts.rate, payload, pictures if images else ()),
        check=check_rating,
    )


def _choose(
    prompts: JudgePrompts,
    item: Item,
    dialogues: Mapping[str, Dialogue],
    max_turns: int,
    images: bool,
) -> Assignment[Any]:
    payload, pictures = _payload(item, item.answers, dialogues, max_turns)
    letters = [answer.letter for answer in item.answers]
    return Assignment(
        key=f"{item.item_id}/best",
        messages=prompts.messages(prompts.choose, payload, pictures if images else ()),
        check=lambda answer: check_choice(answer, letters),
    )


def _payload(
    item: Item, answers: Sequence[Answer], dialogues: Mapping[str, Dialogue], max_turns: int
) -> tuple[dict[str, Any], list[Image]]:
    """Query, conversations and answers as JSON, and the pictures that answers selected."""
    names = dict.fromkeys(name for answer in item.answers for name, _ in answer.found)
    pictures: dict[tuple[str, int], Image] = {}
    shown: dict[str, Any] = {}
    for answer in answers:
        parts = []
        for name, selection in answer.found:
            for i in sorted(selection.image_ids):
                pictures[name, i] = dialogues[name].images[i]
            parts.append(
                {
                    "conversation": escape(name),
                    "turns": sorted(selection.utterance_ids),
                    "images": sorted(selection.image_ids),
                }
            )
        shown[answer.letter] = parts
    conversations = {
        escape(name): _conversation(dialogues[name], item.answers, name, max_turns)
        for name in names
    }
    payload = {"query": escape(item.query), "conversations": conversations, "answers": shown}
    return payload, list(pictures.values())


def _conversation(
    dialogue: Dialogue, answers: Sequence[Answer], name: str, max_turns: int
) -> list[dict[str, Any]]:
    ids = set(range(len(dialogue.turns)))
    if len(ids) > max_turns:
        named = {
            turn
            for answer in answers
            for other, selection in answer.found
            if other == name
            for turn in (
                *selection.utterance_ids,
                *(dialogue.turn_of_image[i] for i in selection.image_ids),
            )
        }
        ids &= {t + step for t in named for step in range(-CONTEXT, CONTEXT + 1)}
    rows = []
    for turn_id in sorted(ids):
        turn = dialogue.turns[turn_id]
        row: dict[str, Any] = {
            "turn": turn_id,
            "speaker": escape(turn.speaker),
            "text": escape(turn.text),
        }
        if turn.images:
            row["images"] = {
                str(image.image_id): escape(image_words(image)) for image in turn.images
            }
        rows.append(row)
    return rows


def _ratings(items: Sequence[Item], results: Mapping[str, Any], name: str) -> list[Rating]:
    ratings = []
    for item in items:
        best = results.get(f"{item.item_id}/best")
        for answer in item.answers:
            scores = results[f"{item.item_id}/{answer.letter}"]
            chosen = (
                frozenset()
                if best is None or isinstance(best, Refusal)
                else frozenset(c for c in CHOICES if answer.letter in best[c])
            )
            known = {} if isinstance(scores, Refusal) else scores
            if known or chosen:
                ratings.append(
                    Rating(
                        item_id=item.item_id,
                        system=answer.system,
                        rater=name,
                        scores=known,
                        best=chosen,
                    )
                )
    return ratings
