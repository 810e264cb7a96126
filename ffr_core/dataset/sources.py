"""Read image-sharing corpora: our own records, and DialogCC's released files.

DialogCC (Lee et al. 2024): one JSON array or JSON Lines file a split; an entry holds `dialogue_id`,
`split` and `dialogue`, a list of `{utterance_idx, utterance, speaker, rationale, shared_image,
description}`. `shared_image` holds the images that go with that utterance: a URL or path, an object
with a URL or path and a caption, or a list of those; all are read.

Nothing is dropped silently: an entry that cannot be read comes back as `Unreadable`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from ffr_core.errors import NotFoundError, RecordError
from ffr_core.records import dialogue_from_record, resolve_uri
from ffr_core.types import Dialogue, Image, Turn

Format = Literal["auto", "dialogcc", "records"]
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")
_NOT_CORPORA = ("defects.json",)
"""Files that stand beside a corpus and describe it."""
_URI_KEYS = ("image_url", "url", "uri", "path", "image_path", "file_name", "image")
_CAPTION_KEYS = ("caption", "description", "text")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An entry that is not a dialogue."""

    source: str
    """File."""
    position: int
    """Entry of the file, from 1."""
    reason: str
    """Stable word, as in `RecordError`."""
    message: str
    """One sentence without the entry's text."""


def list_files(paths: Sequence[str]) -> list[Path]:
    """Corpus files among files and folders, sorted; NotFoundError where there is none."""
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser().resolve()
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        files = [p for p in files if p.name.endswith(_SUFFIXES) and p.name not in _NOT_CORPORA]
        if not files:
            raise NotFoundError(
                f"{given} holds no corpus file ({', '.join(_SUFFIXES)}); check the path"
            )
        found.extend(files)
    return sorted(dict.fromkeys(found))


def read_file(path: Path, form: Format = "auto") -> Iterator[Dialogue | Unreadable]:
    """Yield the dialogues of one file in order, streaming; relative images refer to its folder."""
    base = str(path.parent)
    for position, entry in _entries(path):
        if isinstance(entry, RecordError):
            yield Unreadable(
                source=str(path), position=position, reason=entry.reason, message=str(entry)
            )
            continue
        try:
            yield dialogue_from_entry(entry, form, base)
        except RecordError as error:
            yield Unreadable(
                source=str(path), position=position, reason=error.reason, message=str(error)
            )


def dialogue_from_entry(entry: Any, form: Format = "auto", base: str | None = None) -> Dialogue:
    """One parsed entry of either form; `auto` tells them apart by their keys.

    Raises:
        RecordError: With a stable reason.
    """
    is_dialogcc = isinstance(entry, Mapping) and "dialogue" in entry and "turns" not in entry
    if form == "dialogcc" or (form == "auto" and is_dialogcc):
        return dialogue_from_dialogcc(entry, base)
    return dialogue_from_record(entry, base)


def dialogue_from_dialogcc(entry: Mapping[str, Any], base: str | None = None) -> Dialogue:
    """An entry of DialogCC -> dialogue; the order of its list counts, not `utterance_idx`."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("dialogue"), list):
        raise RecordError("no_turns", "a DialogCC entry needs a list 'dialogue'; check the file")
    if not isinstance(entry.get("dialogue_id"), str | int):
        raise RecordError("no_dialogue_id", "a DialogCC entry has no dialogue_id")
    turns: list[Turn] = []
    num_images = 0
    for position, item in enumerate(entry["dialogue"]):
        if not isinstance(item, Mapping) or not isinstance(item.get("utterance"), str | None):
            raise RecordError("malformed", f"entry {position} of 'dialogue' is not an utterance")
        images = tuple(
            Image(image_id=num_images + i, uri=resolve_uri(uri, base), caption=caption)
            for i, (uri, caption) in enumerate(_shared_images(item))
        )
        num_images += len(images)
        turns.append(
            Turn(
                turn_id=position,
                speaker=str(item.get("speaker") or "?"),
                text=(item.get("utterance") or "").strip(),
                images=images,
            )
        )
    return Dialogue(
        dialogue_id=str(entry["dialogue_id"]), turns=tuple(turns), language=_language(entry)
    )


def _language(entry: Mapping[str, Any]) -> str:
    language = entry.get("language")
    return language if isinstance(language, str) else "en"


def _shared_images(item: Mapping[str, Any]) -> list[tuple[str | None, str | None]]:
    """(uri, caption) of each image; the utterance's own description is the caption of last resort.

    Raises:
        RecordError: `bad_image` when something stands there that names no image.
    """
    shared = item.get("shared_image")
    if not shared:
        return []
    entries = shared if isinstance(shared, list) else [shared]
    fallback = item.get("description")
    fallback = fallback if isinstance(fallback, str) and fallback.strip() else None
    found: list[tuple[str | None, str | None]] = []
    for entry in entries:
        if isinstance(entry, str):
            uri: Any = entry
            caption: Any = fallback
        elif isinstance(entry, Mapping):
            uri = next((entry[key] for key in _URI_KEYS if entry.get(key)), None)
            caption = next((entry[key] for key in _CAPTION_KEYS if entry.get(key)), fallback)
        else:
            uri, caption = None, None
        if not isinstance(uri, str) or not isinstance(caption, str | None):
            raise RecordError("bad_image", "a shared_image has neither a URL nor a path")
        found.append((uri, caption))
    return found


def _entries(path: Path) -> Iterator[tuple[int, Any]]:
    """(position, parsed entry or RecordError) of an array or of JSON Lines."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as stream:
        first = stream.read(_CHUNK)
        if first.lstrip().startswith("["):
            yield from _array(first.lstrip()[1:], stream)
            return
        position = 0
        for position, line in enumerate(_lines(first, stream), start=1):
            if line.strip():
                try:
                    yield position, json.loads(line)
                except (json.JSONDecodeError, RecursionError):
                    yield position, RecordError("bad_json", f"line {position} is not JSON")


def _lines(first: str, stream: IO[str]) -> Iterator[str]:
    rest = first
    while True:
        *lines, rest = rest.split("\n")
        yield from lines
        more = stream.read(_CHUNK)
        if not more:
            break
        rest += more
    yield rest


def _array(buffer: str, stream: IO[str]) -> Iterator[tuple[int, Any]]:
    """Entries of a JSON array without holding the file; it ends at the first broken entry."""
    decoder = json.JSONDecoder()
    position = 0
    while True:
        buffer = buffer.lstrip().removeprefix(",").lstrip()
        if buffer.startswith("]"):
            return
        try:
            entry, end = decoder.raw_decode(buffer)
            # A number or word at the very end of the buffer may go on in the next chunk.
            complete = end < len(buffer)
        except (json.JSONDecodeError, RecursionError):
            complete = False
        if complete:
            position += 1
            yield position, entry
            buffer = buffer[end:]
            continue
        more = stream.read(max(_CHUNK, len(buffer)))
        if not more:
            message = f"the array breaks off or is not JSON at entry {position + 1}"
            yield position + 1, RecordError("bad_json", message)
            return
        buffer += more
