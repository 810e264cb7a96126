"""Ask an engine for JSON, check every answer, ask again with the problem named, then give up.

An `Assignment` is one prompt with its own check. An answer that fails is asked for again with
another seed and the problem; the last attempts name the problem without the failed answer, which
some models copy. After the last attempt it comes back as a `Refusal`, which belongs in the dead
letter. The order of the results is that of the assignments.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ffr_core.generation import Completion, GenerationRequest, Message, Sampling
from ffr_core.protocols import Engine

T = TypeVar("T")
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_END_TOKEN = re.compile(r"<\|(?:im_end|endoftext|eot_id)\|>\s*$")
_CUT_OFF_SHOWN = 300
_JSON_CHARACTER = r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))'
_WORD_BEGINNING = "[0-9A-Za-z\u00c0-\u1ffc\u3041-\ud7a3]"


class AnswerError(ValueError):
    """An answer breaks a rule; `reason` is a stable word for counts and dead letters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Generic[T]):
    """One question to the engine."""

    key: str
    """Names it in request ids and dead letters."""
    part: str = ""
    """Follows the key in request ids where several questions have the same key."""
    messages: tuple[Message, ...]
    check: Callable[[Any], T]
    """Parsed JSON -> result; raises AnswerError."""
    grammar: str | None = None
    """Regular expression of a well-formed answer, for engines that decode under one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No valid answer after all attempts."""

    key: str
    reason: str
    """Of the last attempt."""
    message: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[T]):
    """Results in the order of the assignments."""

    results: tuple[T | Refusal, ...]
    refused: tuple[tuple[str, ...], ...]
    """Reasons of the answers of each assignment that failed, retried ones included."""

    @property
    def faults(self) -> Mapping[str, int]:
        """Number of failed answers by reason."""
        return Counter(reason for reasons in self.refused for reason in reasons)


def ask(
    engine: Engine,
    assignments: Sequence[Assignment[T]],
    *,
    retry_text: str,
    sampling: Sampling,
    max_attempts: int = 3,
) -> Answers[T]:
    """Ask until every assignment has a valid answer or `max_attempts` are used up.

    Args:
        engine: Answers the requests.
        assignments: What to ask.
        retry_text: Follows the first failed answer, later the prompt; `$problem` in it is replaced
            by what was wrong.
        sampling: Of the first attempt; each retry has its own seed, and a sampling temperature of
            at least 0.3 that rises, so that a greedy engine does not repeat itself.
        max_attempts: Answers asked for in all.
    """
    results: list[T | Refusal | None] = [None] * len(assignments)
    refused: list[list[str]] = [[] for _ in assignments]
    open_numbers = list(range(len(assignments)))
    messages = [assignment.messages for assignment in assignments]
    for attempt in range(max_attempts):
        requests = [
            GenerationRequest(
                request_id=f"{assignments[n].key}{assignments[n].part}/{attempt}",
                messages=messages[n],
                sampling=_sampling(sampling, attempt, n),
                grammar=assignments[n].grammar,
            )
            for n in open_numbers
        ]
        failed: list[int] = []
        for n, completion in zip(open_numbers, engine.generate(requests), strict=True):
            try:
                if completion.error:
                    raise AnswerError("engine_error", completion.error)
                if completion.finish_reason == "length":
                    raise AnswerError("too_long", "the answer was cut off; it must be shorter")
                results[n] = assignments[n].check(parse_json(completion.text))
            except AnswerError as error:
                refused[n].append(error.reason)
                results[n] = Refusal(
                    key=assignments[n].key,
                    reason=error.reason,
                    message=str(error),
                    attempts=attempt + 1,
                )
                failed.append(n)
                if completion.error is None:
                    problem = retry_text.replace("$problem", str(error))
                    messages[n] = _asked_again(
                        assignments[n].messages, completion, problem, attempt
                    )
        open_numbers = failed
        if not failed:
            break
    assert all(result is not None for result in results)
    return Answers(
        results=tuple(result for result in results if result is not None),
        refused=tuple(map(tuple, refused)),
    )


def json_string(max_characters: int) -> str:
    """A JSON string of 1 to `max_characters` characters, for grammars.

    The bound ends the string of a model that repeats itself, which would fill the whole answer.
    """
    return f'"{_JSON_CHARACTER}{{1,{max_characters}}}"'


def json_phrase(max_characters: int) -> str:
    """As `json_string`, but it begins with a letter or digit: no "..." copied from a form."""
    return f'"{_WORD_BEGINNING}{_JSON_CHARACTER}{{0,{max_characters - 1}}}"'


def parse_json(text: str) -> Any:
    """The JSON object of an answer; thoughts, code fences and words around it are left out.

    Raises:
        AnswerError: `not_json`.
    """
    text = _END_TOKEN.sub("", _THOUGHT.sub("", text)).strip()
    start = text.find("{")
    if start >= 0:
        try:
            return json.JSONDecoder().raw_decode(text[start:])[0]
        except (json.JSONDecodeError, RecursionError):
            pass
    raise AnswerError(
        "not_json", "the answer holds no JSON object; answer with one and nothing else"
    )


def listed(answer: Any, key: str) -> list[Mapping[str, Any]]:
    """The list of objects under `key`; AnswerError `bad_shape` for anything else."""
    items = answer.get(key) if isinstance(answer, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise AnswerError(
            "bad_shape", f"the answer must be an object with a list {key!r} of objects"
        )
    return items


def text_of(item: Mapping[str, Any], key: str) -> str:
    """A text that is not blank; AnswerError `empty_text` for anything else."""
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise AnswerError("empty_text", f"{key!r} is missing or blank in {_short(item)}")
    return " ".join(value.split())


def phrase_of(item: Mapping[str, Any], key: str) -> str:
    """A text with at least one letter or digit; AnswerError `empty_text` for anything else."""
    text = text_of(item, key)
    if not any(character.isalnum() for character in text):
        raise AnswerError("empty_text", f"{key!r} has no word in {_short(item)}: {text!r:.40}")
    return text


def _asked_again(
    messages: tuple[Message, ...], completion: Completion, problem: str, attempt: int
) -> tuple[Message, ...]:
    """The prompt of the next attempt: after the failed answer at first, then afresh."""
    if attempt == 0:
        return (
            *messages,
            Message(role="assistant", parts=(_quoted(completion),)),
            Message(role="user", parts=(problem,)),
        )
    *before, last = messages
    return (*before, replace(last, parts=(*last.parts, f"\n\n{problem}")))


def _quoted(completion: Completion) -> str:
    """The failed answer; of one that was cut off the beginning, so that the next one has room."""
    if completion.finish_reason == "length":
        return completion.text[:_CUT_OFF_SHOWN] + " ..."
    return completion.text or "(no answer)"


def _short(item: Mapping[str, Any]) -> str:
    names = {key: item[key] for key in ("source", "id", "fragment") if key in item}
    return json.dumps(names, ensure_ascii=False) if names else "an entry"


def _sampling(sampling: Sampling, attempt: int, number: int) -> Sampling:
    if attempt == 0:
        return sampling
    return replace(
        sampling,
        sampling_temperature=max(0.3 * attempt, sampling.sampling_temperature),
        seed=None if sampling.seed is None else sampling.seed + 1_000_003 * attempt + number,
    )
