"""Bytes of an export -> text and JSON, whatever the encoding; damage is counted, never raised."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any

from ffr_core.errors import RecordError
from ffr_core.importers.base import ImportReport

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it starts with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_REPLACEMENT = "\ufffd"
MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
"""Direction marks and the byte order mark, which exports put anywhere."""


def decode(data: bytes, report: ImportReport, *, chinese: bool = False) -> str:
    """Decode a text file by its byte order mark, by its zero bytes (UTF-16), else as UTF-8.

    Invalid bytes become U+FFFD and are counted as `replaced_bytes`.

    Args:
        data: The whole file.
        report: Receives the notes.
        chinese: Read a file that is not UTF-8 but valid GB18030 as such (CSV saved by Excel).
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _replace(data[len(bom) :], encoding, report)
    head = data[:4000]
    if len(head) >= 4 and head.count(0) > len(head) // 4:
        odd = head[1::2].count(0)
        return _replace(data, "utf-16-le" if odd * 2 > head.count(0) else "utf-16-be", report)
    if chinese:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                text = data.decode("gb18030")
            except UnicodeDecodeError:
                pass
            else:
                report.notes["decoded_as_gb18030"] += 1
                return text
    return _replace(data, "utf-8", report)


def _replace(data: bytes, encoding: str, report: ImportReport) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
        present = data.count(_REPLACEMENT.encode(encoding))
        report.notes["replaced_bytes"] += max(1, text.count(_REPLACEMENT) - present)
        return text


def parse_json(text: str, where: str) -> Any:
    """Parse JSON from a stranger.

    Raises:
        RecordError: With reason `bad_json`; nesting and numbers beyond all reason too.
    """
    try:
        return json.loads(text.lstrip(MARKS))
    except (ValueError, RecursionError) as error:
        raise RecordError("bad_json", f"{where} is not JSON: {error}") from error


def slug(name: str, max_bytes: int = 80) -> str:
    """A readable part of an id or folder name: letters and digits of any script, joined by `-`."""
    plain = unicodedata.normalize("NFKC", name).lower().strip(MARKS)
    joined = re.sub(r"[\W_]+", "-", plain).strip("-")
    return joined.encode()[:max_bytes].decode("utf-8", "ignore").strip("-")


def as_text(value: object) -> str:
    """A JSON value as text: strings as they are, numbers in their usual form, the rest empty."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # an integer with more digits than Python prints
            return ""
    return ""


def as_dict(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value if it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []
