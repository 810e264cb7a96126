"""Our own records (`ffr_core.records`): `.jsonl`, `.jsonl.gz`, `.parquet`, one dialogue a record.

Gold fragments and queries are kept. Images inside the export are copied like those of any other
format. A record may not name files outside of its export: such images lose their uri and are
counted as `outside_export`; `s3://` addresses stay as they are.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import urlparse

from ffr_core.errors import LimitError, RecordError
from ffr_core.importers.base import Output
from ffr_core.importers.drafts import reject_file
from ffr_core.importers.media import Attachment, MediaStore, folder_name
from ffr_core.importers.source import Source, check_growth
from ffr_core.importers.text import as_dict, as_list, decode, parse_json
from ffr_core.importers.times import whole_minutes
from ffr_core.records import dialogue_from_record, parse_timestamp
from ffr_core.types import Dialogue, Image

UNIT = "record"
EXPECTS = (
    "dialogues in our record form: .jsonl, .jsonl.gz or .parquet with dialogue_id and turns,"
    " or a folder or .zip with such files"
)

_ZONED = re.compile(r":\d{2}\S*?\s*(Z|[+-]\d{2}:?\d{2})\s*$")


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every record of an export; see the head of this file.

    Args:
        source: The opened export.
        output: Receives dialogues, dead letters and counts.
        zone: Of times that carry none.
        date_order: Not used: times in our records have one form.
    """
    for name in source.with_endings(".jsonl", ".jsonl.gz", ".parquet"):
        try:
            data = source.read(name)
            if name.lower().endswith(".parquet"):
                items = _parquet(data, name, source)
            else:
                items = _lines(_unzipped(data, name, source), output)
            for position, raw in items:
                _read_record(raw, name, position, source, output, zone)
        except RecordError as error:
            reject_file(output, name, error)


def _read_record(
    raw: object, name: str, position: int, source: Source, output: Output, zone: tzinfo
) -> None:
    try:
        record = parse_json(raw, f"{name} line {position}") if isinstance(raw, str) else raw
        dialogue = _dialogue(record, zone)
        if dialogue.dialogue_id in output.dialogue_ids:
            raise RecordError("duplicate_id", f"dialogue {dialogue.dialogue_id!r} came before")
    except RecordError as error:
        output.reject(name, position, error.reason, raw)
        return
    output.report.keep()
    output.dialogue_ids.add(dialogue.dialogue_id)
    output.write(_with_images(dialogue, name, source, output))


def _with_zone(record: Any, zone: tzinfo) -> Any:
    """The record with the zone in each time that has none; other values stay as they are."""
    turns = as_list(as_dict(record).get("turns"))
    if not turns:
        return record
    return record | {"turns": [_turn_with_zone(turn, zone) for turn in turns]}


def _turn_with_zone(turn: Any, zone: tzinfo) -> Any:
    written = as_dict(turn).get("timestamp")
    if not isinstance(written, str | datetime) or _ZONED.search(str(written)):
        return turn
    moment, _ = parse_timestamp(written)
    if moment is None:
        return turn
    return turn | {"timestamp": whole_minutes(moment.replace(tzinfo=zone)).isoformat()}


def _dialogue(record: Any, zone: tzinfo) -> Dialogue:
    """A dialogue that can be written: RecordError also where a number or value cannot be."""
    try:
        dialogue = dialogue_from_record(_with_zone(record, zone))
        json.dumps([query.fragment_id for query in dialogue.queries or ()], allow_nan=False)
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError("malformed", f"a record has an unusable value: {error}") from error
    return dialogue


def _with_images(dialogue: Dialogue, name: str, source: Source, output: Output) -> Dialogue:
    store = MediaStore(
        source=source,
        near=name.rpartition("/")[0],
        out_dir=output.folder,
        folder=folder_name(dialogue.dialogue_id),
        report=output.report,
    )
    turns = tuple(
        replace(turn, images=tuple(_image(image, store) for image in turn.images))
        for turn in dialogue.turns
    )
    return replace(dialogue, turns=turns)


def _image(image: Image, store: MediaStore) -> Image:
    if image.uri is None:
        return image
    scheme = urlparse_scheme(image.uri)
    if scheme == "s3":
        store.report.media["linked"] += 1
        return image
    if scheme == "file":
        attachment = Attachment(kind="image", reason="outside_export")
    elif scheme:
        attachment = Attachment(kind="image", reason="remote")
    else:
        attachment = Attachment(kind="image", refs=(image.uri,))
    return replace(image, uri=store.image(attachment, image.image_id).uri)


def urlparse_scheme(uri: str) -> str:
    """Scheme of a URI in lower case; empty for a path and for what is no URI."""
    try:
        return urlparse(uri).scheme
    except ValueError:
        return ""


def _lines(data: bytes, output: Output) -> Iterator[tuple[int, str]]:
    for position, line in enumerate(decode(data, output.report).split("\n"), start=1):
        if line.strip():
            yield position, line
        elif line:
            output.report.leave_out("blank")


def _unzipped(data: bytes, name: str, source: Source) -> bytes:
    """The bytes of a `.gz`, within the limits; several members in a row are allowed."""
    if not name.lower().endswith(".gz"):
        return data
    limits = source.limits
    parts, got, rest = [], 0, data
    try:
        while rest:
            unpack = zlib.decompressobj(wbits=31)
            part = unpack.decompress(rest, 1 << 20)
            while part or unpack.unconsumed_tail:
                got += len(part)
                check_growth(name, got, len(data), limits)
                parts.append(part)
                part = unpack.decompress(unpack.unconsumed_tail, 1 << 20)
            if not unpack.eof:
                raise RecordError("unreadable_file", f"{name} is cut off; download it again")
            rest = unpack.unused_data
    except zlib.error as error:
        raise RecordError("unreadable_file", f"{name} is damaged: {error}") from error
    return b"".join(parts)


def _parquet(data: bytes, name: str, source: Source) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file, which holds `turns` as a nested column or as JSON text."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        check_growth(name, size, len(data), source.limits)
        position = 0
        for batch in file.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                position += 1
                yield position, _parsed_columns(row)
    except LimitError:
        raise
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError, LookupError) as error:
        raise RecordError("unreadable_file", f"{name} is no readable Parquet: {error}") from error


def _parsed_columns(row: dict[str, Any]) -> dict[str, Any]:
    parsed = dict(row)
    for key in ("turns", "fragments", "queries"):
        if isinstance(parsed.get(key), str):
            try:
                parsed[key] = json.loads(parsed[key])
            except (ValueError, RecursionError):
                parsed[key] = None
    return parsed
