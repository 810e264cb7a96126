"""Corpus records: one JSON object a dialogue <-> `Dialogue`.

Two explicit forms are read. Ours: `turns[].images[]{image_id, uri, caption}`. The form of research
conversions: `turns[].images[]{image_id, path, ref, caption}`, chosen per image by what it holds.
Written records are always ours.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ffr_core.errors import NotFoundError, RecordError
from ffr_core.types import Dialogue, Image, Query, QueryKind, Selection, Turn

_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?$"
)
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://|(file|data):", re.IGNORECASE)
_UNAMBIGUOUS = (
    "%I:%M %p on %d %B, %Y",
    "%d %B %Y %H:%M",
    "%d %b %Y %H:%M",
    "%B %d, %Y %I:%M %p",
    "%b %d, %Y %I:%M %p",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y年%m月%d日 %H:%M",
)
"""Forms whose day and month cannot be confused."""


def parse_timestamp(value: object) -> tuple[datetime | None, str | None]:
    """Read an ISO 8601 time or another unambiguous form; the rest comes back as text, not guessed.

    A time without a zone is UTC. Returns `(timestamp, timestamp_text)`, at most one of them set.
    """
    if value is None or value == "":
        return None, None
    text = str(value).strip()
    parsed = _parse_date(text)
    if parsed is None:
        return None, _clean(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)), None


def _parse_date(text: str) -> datetime | None:
    if _ISO.match(text):
        try:
            return datetime.fromisoformat(text.replace(",", "."))
        except ValueError:
            return None
    for form in _UNAMBIGUOUS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def resolve_uri(uri: str | None, base: str | None) -> str | None:
    """Make a relative image path absolute against the folder or prefix of its corpus file.

    A colon alone makes no URI: `photo-10:30.png` is a name.
    """
    if not uri or base is None or _ABSOLUTE.match(uri):
        return uri or None
    return f"{base.rstrip('/')}/{uri}"


def dialogue_from_record(
    record: Mapping[str, Any], base: str | None = None, *, stored: bool = False
) -> Dialogue:
    """Build a `Dialogue` from a parsed record.

    Args:
        record: One JSON object.
        base: Folder or URI prefix that relative image paths refer to.
        stored: The record is one that was taken before: its id stands, whatever it is.

    Raises:
        RecordError: With a stable reason, when a field is missing, of a wrong type or inconsistent.
    """
    if not isinstance(record, Mapping):
        raise RecordError("not_an_object", "a record must be a JSON object; one line, one dialogue")
    try:
        turns = _list(record, "turns", "no_turns")
        fragments = record.get("fragments")
        queries = record.get("queries")
        return Dialogue(
            dialogue_id=_clean(record["dialogue_id"]) if stored else _dialogue_id(record),
            turns=tuple(_turn(turn, base) for turn in turns),
            title=_optional_text(record, "title"),
            language=_optional_text(record, "language"),
            fragments=None
            if fragments is None
            else tuple(tuple(sorted(int(i) for i in fragment)) for fragment in fragments),
            queries=None if queries is None else tuple(_query(query) for query in queries),
        )
    except RecordError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise RecordError("malformed", f"a record has a field of a wrong type: {error}") from error


def record_from_dialogue(dialogue: Dialogue) -> dict[str, Any]:
    """The JSON form of a dialogue; `dialogue_from_record` reads it back unchanged."""
    record: dict[str, Any] = {"dialogue_id": dialogue.dialogue_id}
    if dialogue.title is not None:
        record["title"] = dialogue.title
    if dialogue.language is not None:
        record["language"] = dialogue.language
    record["turns"] = [_turn_record(turn) for turn in dialogue.turns]
    if dialogue.fragments is not None:
        record["fragments"] = [list(fragment) for fragment in dialogue.fragments]
    if dialogue.queries is not None:
        record["queries"] = [_query_record(query) for query in dialogue.queries]
    return record


def content_hash(dialogue: Dialogue) -> str:
    """Hash (64 hex) of turns, title and language; not of gold labels, nor of what OCR read."""
    record = record_from_dialogue(dialogue)
    record.pop("fragments", None)
    record.pop("queries", None)
    for turn in record["turns"]:
        for image in turn["images"]:
            if image.pop("ocr", False):
                image.pop("text")
    data = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(data.encode()).hexdigest()


def read_jsonl(path: str | Path) -> Iterator[Dialogue]:
    """Read a trusted corpus file (`.jsonl`, `.jsonl.gz`); the first bad record raises RecordError.

    Jobs that must survive bad records read line by line themselves.
    """
    path = Path(path)
    for number, record in read_json_lines(path):
        try:
            yield dialogue_from_record(record, base=str(path.resolve().parent))
        except RecordError as error:
            raise RecordError(error.reason, f"{path} line {number}: {error}") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers, from 1, and parsed lines of a trusted corpus file; empty lines are skipped.

    Raises:
        NotFoundError: There is no such file.
        RecordError: A line is not UTF-8 or not JSON, or a compressed file is damaged.
    """
    for number, line in _lines(path):
        try:
            yield number, json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise RecordError(
                "bad_encoding", f"{path} line {number} is not UTF-8: {error.reason}; convert it"
            ) from error
        except (ValueError, RecursionError) as error:
            raise RecordError("bad_json", f"{path} line {number} is not JSON: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, numbered from 1."""
    if not path.is_file():
        raise NotFoundError(f"there is no corpus file {path}; check the path")
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise RecordError(
                "unreadable_file", f"{path} breaks off at line {number + 1}: {error}; copy it again"
            ) from error


def _dialogue_id(record: Mapping[str, Any]) -> str:
    """Refuse what no address can hold, so that all that is stored can be opened."""
    name = record.get("dialogue_id")
    if not isinstance(name, str):
        raise RecordError(
            "no_dialogue_id", f"a record's dialogue_id must be text, found {type(name).__name__}"
        )
    if not name.strip():
        raise RecordError("no_dialogue_id", "a record has a blank dialogue_id; give it a name")
    if name in (".", "..") or any(unicodedata.category(char) == "Cc" for char in name):
        raise RecordError(
            "bad_dialogue_id",
            f"dialogue_id {name[:40]!r} cannot stand in an address; take one other than . and .."
            " that holds no control characters",
        )
    return _clean(name)


def _clean(text: str) -> str:
    """Replace lone surrogates, which neither UTF-8 nor the index can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _list(record: Mapping[str, Any], key: str, reason: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise RecordError(reason, f"a record needs a list {key!r}, found {type(value).__name__}")
    return value


def _optional_text(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise RecordError("malformed", f"{key!r} must be text or null, found {value!r:.60}")
    return None if value is None else _clean(value)


def _turn(record: Mapping[str, Any], base: str | None) -> Turn:
    text, speaker = record.get("text"), record.get("speaker")
    if not isinstance(text, str | None) or not isinstance(speaker, str | None):
        raise RecordError("malformed", "a turn's text and speaker must be text")
    timestamp, timestamp_text = parse_timestamp(record.get("timestamp"))
    images = record.get("images") or []
    return Turn(
        turn_id=int(record["turn_id"]),
        speaker=_clean(speaker or "?"),
        text=_clean(text or ""),
        timestamp=timestamp,
        timestamp_text=timestamp_text or _optional_text(record, "timestamp_text"),
        reply_to=None if record.get("reply_to") is None else int(record["reply_to"]),
        images=tuple(_image(image, base) for image in images),
    )


def _image(record: Mapping[str, Any], base: str | None) -> Image:
    # By value, not by key: Parquet gives every record all keys.
    uri = _optional_text(record, "uri") or _optional_text(record, "path")
    if uri is None and "ref" in record:
        uri = _optional_text(record, "ref")
        base = None
    place = resolve_uri(uri, base)
    return Image(
        image_id=int(record["image_id"]),
        uri=None if place is None else _clean(place),  # the base may be no UTF-8
        caption=_optional_text(record, "caption"),
        text=_optional_text(record, "text"),
        ocr=record.get("ocr") is True and isinstance(record.get("text"), str),
    )


def _query(record: Mapping[str, Any]) -> Query:
    kind = record.get("kind")
    known = isinstance(kind, str) and kind in set(QueryKind)
    return Query(
        query=str(record["query"]),
        relevance=Selection(
            utterance_ids=frozenset(int(i) for i in record.get("utt_ids") or ()),
            image_ids=frozenset(int(i) for i in record.get("img_ids") or ()),
        ),
        kind=QueryKind(str(kind)) if known else None,
        source_kind=record.get("source_kind") or (None if known else kind),
        fragment_id=record.get("fragment"),
    )


def _turn_record(turn: Turn) -> dict[str, Any]:
    record: dict[str, Any] = {
        "turn_id": turn.turn_id,
        "speaker": turn.speaker,
        "text": turn.text,
        "timestamp": turn.timestamp.isoformat() if turn.timestamp else None,
    }
    if turn.timestamp_text is not None:
        record["timestamp_text"] = turn.timestamp_text
    if turn.reply_to is not None:
        record["reply_to"] = turn.reply_to
    record["images"] = [_image_record(image) for image in turn.images]
    return record


def _image_record(image: Image) -> dict[str, Any]:
    record: dict[str, Any] = {
        "image_id": image.image_id,
        "uri": image.uri,
        "caption": image.caption,
    }
    if image.text is not None:
        record["text"] = image.text
    if image.ocr:
        record["ocr"] = True
    return record


def _query_record(query: Query) -> dict[str, Any]:
    record: dict[str, Any] = {
        "query": query.query,
        "utt_ids": sorted(query.relevance.utterance_ids),
        "img_ids": sorted(query.relevance.image_ids),
        "kind": query.kind.value if query.kind else query.source_kind,
        "fragment": query.fragment_id,
    }
    if query.kind and query.source_kind:
        record["source_kind"] = query.source_kind
    return record
