"""Answers as JSON records (the service's response form) and as text for a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ffr_core.types import Dialogue, DialogueAnswer, Image, Turn

ImageUrl = Callable[[Image], str | None]
CONTEXT = 1
"""Turns shown around a span."""


def answer_record(
    answer: DialogueAnswer,
    dialogue: Dialogue,
    image_url: ImageUrl | None = None,
) -> dict[str, Any]:
    """One dialogue of a response: spans, and the turns of each span with one turn of context.

    Args:
        answer: What was found.
        dialogue: The dialogue it was found in.
        image_url: Gives the address of an image; None leaves its stored URI.
    """
    return {
        "dialogue_id": answer.dialogue_id,
        "title": dialogue.title,
        "score": round(answer.score, 6),
        "spans": [list(span) for span in answer.spans],
        "turns": [
            turn_record(dialogue.turns[turn_id], answer, image_url)
            for turn_id in shown_turns(answer, len(dialogue.turns))
        ],
    }


def turn_record(
    turn: Turn,
    answer: DialogueAnswer | None = None,
    image_url: ImageUrl | None = None,
) -> dict[str, Any]:
    """One turn with what matched; `confidence` is null where nothing matched."""
    utterances = answer.localization.utterances if answer else {}
    images = answer.localization.images if answer else {}
    return {
        "turn_id": turn.turn_id,
        "speaker": turn.speaker,
        "timestamp": turn.timestamp.isoformat() if turn.timestamp else turn.timestamp_text,
        "text": turn.text,
        "matched": turn.turn_id in utterances,
        "confidence": _rounded(utterances.get(turn.turn_id)),
        "images": [
            {
                "image_id": image.image_id,
                "url": image_url(image) if image_url else image.uri,
                "caption": image.caption,
                "matched": image.image_id in images,
                "confidence": _rounded(images.get(image.image_id)),
            }
            for image in turn.images
        ],
    }


def shown_turns(answer: DialogueAnswer, num_turns: int) -> list[int]:
    """Turn ids of all spans and of their context, ascending."""
    return sorted(
        {
            turn_id
            for start, end in answer.spans
            for turn_id in range(max(0, start - CONTEXT), min(num_turns, end + CONTEXT))
        }
    )


def describe_answer(answer: DialogueAnswer, dialogue: Dialogue) -> str:
    """The answer as a person wants to read it: matched turns are marked with `>`.

    Times are those of this machine's zone, see `local_time`.
    """
    return describe_record(answer_record(answer, dialogue))


def describe_record(record: dict[str, Any]) -> str:
    """The text form of one dialogue of a response; each picture with the place to open it at."""
    title = record["title"] or record["dialogue_id"]
    lines = [f"{title}  [{record['dialogue_id']}]  score {record['score']:.2f}"]
    before: int | None = None
    for turn in record["turns"]:
        if before is not None and turn["turn_id"] > before + 1:
            lines.append("   ...")
        before = turn["turn_id"]
        matched_image = any(image["matched"] for image in turn["images"])
        mark = ">" if turn["matched"] or matched_image else " "
        when = f" ({local_time(turn['timestamp'])})" if turn["timestamp"] else ""
        sure = f"  {turn['confidence']:.0%}" if turn["confidence"] is not None else ""
        text = turn["text"].replace("\n", "\n     ")
        lines.append(f" {mark} {turn['speaker']}{when}: {text}{sure}")
        for image in turn["images"]:
            sure = f"  {image['confidence']:.0%}" if image["confidence"] is not None else ""
            name = f": {image['caption']}" if image["caption"] else ""
            place = image["url"] or "(no file)"
            lines.append(f"     [image {image['image_id']}{name}] {place}{sure}")
    return "\n".join(lines)


def local_time(text: str) -> str:
    """A turn's time to the minute in the zone of this machine; text that is no time stays.

    The offset is shown where the time was written down in another one: in Paris,
    `2022-01-01T00:00:00+00:00` is `2022-01-01 01:00+01:00`.
    """
    try:
        written = datetime.fromisoformat(text)
        if written.tzinfo is None:
            return text
        local = written.astimezone()
    except (ValueError, OverflowError):  # OverflowError: the first or last day of the calendar
        return text
    zone = "" if local.utcoffset() == written.utcoffset() else local.isoformat()[-6:]
    return f"{local:%Y-%m-%d %H:%M}{zone}"


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)
