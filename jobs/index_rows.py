"""Rows of the index job, and what becomes of a raw record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ffr_core.errors import ForbiddenError, InputError, NotFoundError, RecordError
from ffr_core.images import ImageReader
from ffr_core.records import dialogue_from_record
from ffr_core.types import Dialogue

Row = dict[str, Any]
Batch = dict[str, Any]
CHUNK = 32
"""Records that travel together out of the reader."""


def empty_row(source: str, position: int, consumed: int) -> Row:
    """A row with every column, so that all blocks have one schema."""
    return {
        "source": source,
        "position": position,
        "consumed": consumed,
        "dialogue_id": "",
        "status": "",
        "change": "",
        "reason": "",
        "message": "",
        "sha256": "",
        "fragments": 0,
        "passages": 0,
        "turns": 0,
        "tokens": 0,
        "bad_images": "",
        "item": b"",
    }


def rows_of(batch: Batch) -> list[Row]:
    """Columns to rows."""
    names = list(batch)
    return [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def batch_of(rows: list[Row]) -> Batch:
    """Rows to columns."""
    names = rows[0] if rows else empty_row("", 0, 0)
    return {name: [row[name] for row in rows] for name in names}


def dead(row: Row, reason: str, message: str) -> Row:
    """Finish a row as a dead letter; messages name ids and values of the form, not texts."""
    return {**row, "status": "dead", "reason": reason, "message": message, "item": b""}


def parse_record(raw: bytes, base: str) -> Dialogue:
    """JSON bytes -> dialogue; RecordError with a reason for everything that can be wrong."""
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecordError("bad_encoding", f"the record is not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
        position = getattr(error, "pos", "?")
        raise RecordError("bad_json", f"the record is not JSON, at byte {position}") from error
    return dialogue_from_record(record, base=base)


def check_images(dialogue: Dialogue, reader: ImageReader) -> tuple[Dialogue, dict[str, str]]:
    """Refuse a dialogue that points outside the roots; drop images that cannot be read.

    Returns:
        The dialogue, unreadable images without their URI, and {image id: reason} for those.

    Raises:
        RecordError: `image_outside_roots`.
    """
    bad: dict[str, str] = {}
    for image in dialogue.images:
        if image.uri is None:
            continue
        try:
            reader.check_readable(image.uri)
        except ForbiddenError as error:
            raise RecordError("image_outside_roots", str(error)) from error
        except (NotFoundError, InputError) as error:
            bad[str(image.image_id)] = f"{type(error).__name__}: {error}"
    if not bad:
        return dialogue, bad
    turns = tuple(
        replace(
            turn,
            images=tuple(
                replace(image, uri=None) if str(image.image_id) in bad else image
                for image in turn.images
            ),
        )
        for turn in dialogue.turns
    )
    return replace(dialogue, turns=turns), bad
