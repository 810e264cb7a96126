"""Merge three short dialogues into one long dialogue with an engine, and check its answer.

The engine keeps every turn and image, polishes the wording, adds transitions between the parts and
writes everything in the target language. Source: App. B.1 (long-form generation), as stated.
Captions of parts in another language are translated in the same answer (our reading).
Checks (our reading): every turn of the answer names its source turn or `transition`; every source
turn is there once and in order, with its images; transitions stand between two parts, are few and
have no image; every caption to translate is there once. Each failure has a reason: `missing_turn`,
`repeated_turn`, `unknown_turn`, `out_of_order`, `lost_image`, `unknown_image`,
`misplaced_transition`, `missing_caption`, `repeated_caption`, `unknown_caption`, `empty_text`,
`wrong_language`, `bad_shape`, `not_json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ffr_core.dataset.asking import AnswerError, Assignment, json_string, listed, text_of
from ffr_core.dataset.dataset_prompts import LANGUAGE_NAMES, DatasetPrompts
from ffr_core.dataset.long_dialogue import LongDialogue
from ffr_core.markup import unescape
from ffr_core.types import Dialogue, Image, Turn

TRANSITION = "transition"
MAX_TRANSITIONS = 4
"""Turns of transition between two parts."""
_LETTERS = "ABCDEFGHIJ"
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")


def merge_assignment(
    key: str,
    parts: Sequence[Dialogue],
    image_keys: Sequence[Sequence[str]],
    prompts: DatasetPrompts,
    *,
    target_language: str | None,
    structured: bool = False,
) -> Assignment[LongDialogue]:
    """The question for one triplet.

    Args:
        key: Id of the long dialogue.
        parts: The short dialogues, in order.
        image_keys: Identity of each image of each part.
        prompts: Texts.
        target_language: `en` or `zh`; None keeps the language of the parts.
        structured: Hand the engine a grammar that admits well-formed answers only.
    """
    language = LANGUAGE_NAMES[target_language] if target_language else "the language of the input"
    payload: dict[str, Any] = {
        "target_language": language,
        "dialogues": [_part_payload(number, part) for number, part in enumerate(parts)],
    }
    if captions := foreign_captions(parts, target_language):
        payload["captions"] = list(captions)

    def check(answer: Any) -> LongDialogue:
        return check_merge(key, parts, image_keys, answer, target_language=target_language)

    return Assignment(
        key=key,
        messages=prompts.messages("merge", payload),
        check=check,
        grammar=merge_grammar(parts, target_language) if structured else None,
    )


def speaker_names(dialogue: Dialogue) -> dict[str, str]:
    """User1, User2, ... in the order of first turns, so that the parts share two people."""
    return {name: f"User{i}" for i, name in enumerate(dialogue.participants, start=1)}


def _part_payload(number: int, part: Dialogue) -> dict[str, Any]:
    names = speaker_names(part)
    return {
        "part": _LETTERS[number],
        "turns": [
            {
                "source": f"{_LETTERS[number]}{turn.turn_id}",
                "speaker": names[turn.speaker],
                "text": turn.text,
                "images": [
                    {"id": _image_label(number, image.image_id), "caption": image.caption or ""}
                    for image in turn.images
                ],
            }
            for turn in part.turns
        ],
    }


def _image_label(number: int, image_id: int) -> str:
    return f"{_LETTERS[number]}.img{image_id}"


def foreign_captions(parts: Sequence[Dialogue], target_language: str | None) -> dict[str, str]:
    """Label -> caption of the captioned images of the parts that are not in the target language.

    Args:
        parts: The short dialogues, in order; a language that is not known is another one.
        target_language: `en` or `zh`; None translates nothing.
    """
    if target_language is None:
        return {}
    return {
        _image_label(number, image.image_id): image.caption
        for number, part in enumerate(parts)
        if part.language != target_language
        for image in part.images
        if image.caption and image.caption.strip()
    }


def merge_grammar(parts: Sequence[Dialogue], target_language: str | None = None) -> str:
    """A regular expression of exactly the answers whose structure is right (language aside)."""
    transition = (
        rf'(?:\{{"source": "{TRANSITION}", "speaker": "User[12]", "text": {json_string(200)},'
        rf' "images": \[\]\}}, ){{0,{MAX_TRANSITIONS}}}'
    )
    blocks = []
    for number, part in enumerate(parts):
        names, turns = speaker_names(part), []
        for turn in part.turns:
            labels = ", ".join(f'"{_image_label(number, i.image_id)}"' for i in turn.images)
            text = json_string(_longest(turn.text)) if turn.text else '""'
            source, speaker = f"{_LETTERS[number]}{turn.turn_id}", names[turn.speaker]
            turns.append(
                rf'\{{"source": "{source}", "speaker": "{speaker}",'
                rf' "text": {text}, "images": \[{re.escape(labels)}\]\}}'
            )
        blocks.append(", ".join(turns))
    turns_list = r'\{"turns": \[' + (", " + transition).join(blocks) + r"\]"
    entries = [
        rf'\{{"id": "{re.escape(label)}", "caption": {json_string(_longest(caption))}\}}'
        for label, caption in foreign_captions(parts, target_language).items()
    ]
    captions = rf', "captions": \[{", ".join(entries)}\]' if entries else ""
    return turns_list + captions + r"\}"


def _longest(text: str) -> int:
    """Characters that a polished or translated text may have: Chinese in English is longer."""
    return 60 + 2 * len(text) + 6 * len(_HAN.findall(text))


def check_merge(
    key: str,
    parts: Sequence[Dialogue],
    image_keys: Sequence[Sequence[str]],
    answer: Any,
    *,
    target_language: str | None,
) -> LongDialogue:
    """The long dialogue that an answer describes; AnswerError when it breaks a rule."""
    entries = listed(answer, "turns")
    order = [(number, turn.turn_id) for number, part in enumerate(parts) for turn in part.turns]
    sources = _sources(entries, order)
    captions = _captions(answer, foreign_captions(parts, target_language))
    turns: list[Turn] = []
    keys: list[str] = []
    for entry, source in zip(entries, sources, strict=True):
        if source is None:
            turns.append(_transition(entry, len(turns)))
            continue
        part = parts[source[0]]
        original = part.turns[source[1]]
        _check_images(entry, source[0], original)
        images = _images(original, source[0], len(keys), captions)
        keys.extend(image_keys[source[0]][image.image_id] for image in original.images)
        turns.append(
            Turn(
                turn_id=len(turns),
                speaker=speaker_names(part)[original.speaker],
                text=unescape(text_of(entry, "text")) if original.text else "",
                images=images,
            )
        )
    if target_language:
        _check_language("texts", [turn.text for turn in turns], target_language)
        _check_language("captions", list(captions.values()), target_language)
    dialogue = Dialogue(
        dialogue_id=key,
        turns=tuple(turns),
        language=target_language or parts[0].language,
        fragments=_topics(sources, len(parts)),
    )
    return LongDialogue(
        dialogue=dialogue,
        members=tuple(part.dialogue_id for part in parts),
        image_keys=tuple(keys),
        sources=tuple((parts[s[0]].dialogue_id, s[1]) if s else None for s in sources),
        utterance_tags={},
        image_tags={},
        qa={},
    )


def _sources(
    entries: Sequence[Mapping[str, Any]], order: Sequence[tuple[int, int]]
) -> list[tuple[int, int] | None]:
    """(part, turn) of each entry, None for a transition; the heart of the check."""
    known = {f"{_LETTERS[number]}{turn_id}": (number, turn_id) for number, turn_id in order}
    sources: list[tuple[int, int] | None] = []
    for entry in entries:
        label = entry.get("source")
        if label == TRANSITION:
            sources.append(None)
        elif isinstance(label, str) and label in known:
            sources.append(known[label])
        else:
            raise AnswerError("unknown_turn", f"source {label!r:.40} is no turn of the input")
    named = [source for source in sources if source is not None]
    label_of = {source: label for label, source in known.items()}
    for source in order:
        times = named.count(source)
        if times != 1:
            reason = "missing_turn" if times == 0 else "repeated_turn"
            raise AnswerError(reason, f"source {label_of[source]} stands {times} times, not once")
    if named != list(order):
        at = next(i for i, (a, b) in enumerate(zip(named, order, strict=True)) if a != b)
        raise AnswerError(
            "out_of_order", f"{label_of[named[at]]} stands where {label_of[order[at]]} belongs"
        )
    _check_transitions(sources)
    return sources


def _check_transitions(sources: Sequence[tuple[int, int] | None]) -> None:
    before: tuple[int, int] | None = None
    run = 0
    for source in sources:
        if source is None:
            run += 1
            continue
        if run and (before is None or before[0] == source[0]):
            raise AnswerError(
                "misplaced_transition", "a transition may stand between two parts only"
            )
        if run > MAX_TRANSITIONS:
            raise AnswerError(
                "misplaced_transition", f"{run} transitions in a row; at most {MAX_TRANSITIONS}"
            )
        before, run = source, 0
    if run:
        raise AnswerError("misplaced_transition", "a transition may not stand at the end")


def _check_images(entry: Mapping[str, Any], number: int, original: Turn) -> None:
    expected = [_image_label(number, image.image_id) for image in original.images]
    found = entry.get("images") or []
    if found == expected:
        return
    label = entry["source"]
    if isinstance(found, list) and all(image in expected for image in found):
        raise AnswerError("lost_image", f"{label} must have the images {expected}, found {found}")
    raise AnswerError("unknown_image", f"{label} has no images but {expected}, found {found!r:.80}")


def _images(
    original: Turn, number: int, first: int, captions: Mapping[str, str]
) -> tuple[Image, ...]:
    """The images of a turn of part `number`, numbered from `first`, with translated captions."""
    return tuple(
        replace(
            image,
            image_id=first + i,
            caption=captions.get(_image_label(number, image.image_id), image.caption),
        )
        for i, image in enumerate(original.images)
    )


def _transition(entry: Mapping[str, Any], turn_id: int) -> Turn:
    if entry.get("images"):
        raise AnswerError("unknown_image", "a transition has no images of its own")
    speaker = entry.get("speaker")
    if speaker not in ("User1", "User2"):
        raise AnswerError(
            "bad_shape", f"a transition's speaker is User1 or User2, not {speaker!r:.20}"
        )
    return Turn(turn_id=turn_id, speaker=speaker, text=unescape(text_of(entry, "text")))


def _captions(answer: Any, wanted: Mapping[str, str]) -> dict[str, str]:
    """Translated caption of each wanted label; nothing is read when none is wanted."""
    found: dict[str, str] = {}
    for entry in listed(answer, "captions") if wanted else ():
        label = entry.get("id")
        if not isinstance(label, str) or label not in wanted:
            raise AnswerError("unknown_caption", f"{label!r:.40} has no caption to translate")
        if label in found:
            raise AnswerError("repeated_caption", f"{label} has two captions, not one")
        found[label] = unescape(text_of(entry, "caption"))
    missing = [label for label in wanted if label not in found]
    if missing:
        raise AnswerError("missing_caption", f"captions that are lost: {', '.join(missing)}")
    return found


def _check_language(what: str, texts: Sequence[str], language: str) -> None:
    """At least half of the texts with letters must be in the language: names may stay foreign."""
    written = [text for text in texts if _HAN.search(text) or _LATIN_WORD.search(text)]
    chinese = sum(bool(_HAN.search(text)) for text in written)
    right = chinese if language == "zh" else len(written) - chinese
    if written and right * 2 < len(written):
        raise AnswerError(
            "wrong_language",
            f"{len(written) - right} of {len(written)} {what} are not in"
            f" {LANGUAGE_NAMES[language]}",
        )


def _topics(
    sources: Sequence[tuple[int, int] | None], num_parts: int
) -> tuple[tuple[int, ...], ...]:
    """Turn ids of each part; a transition goes with the part that follows it (our reading)."""
    topics: list[list[int]] = [[] for _ in range(num_parts)]
    for turn_id, source in enumerate(sources):
        following = source or next(s for s in sources[turn_id:] if s is not None)
        topics[following[0]].append(turn_id)
    return tuple(tuple(ids) for ids in topics)
