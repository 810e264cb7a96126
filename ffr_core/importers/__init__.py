"""Exports of chat programs -> our records, with pictures and with a count of everything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ffr_core.errors import InputError
from ffr_core.importers import discord, jsonl, slack, telegram, wechat, whatsapp
from ffr_core.importers.archive import open_source
from ffr_core.importers.base import (
    DEAD_LETTERS,
    DIALOGUES,
    IMAGES,
    REASONS,
    SUMMARY,
    ImportReport,
    Output,
    clean,
)
from ffr_core.importers.source import FolderSource, Limits, Source
from ffr_core.importers.text import slug
from ffr_core.importers.times import DATE_ORDERS

__all__ = ["DATE_ORDERS", "FORMATS", "REASONS", "ImportReport", "Limits", "import_export"]

FORMATS: Mapping[str, ModuleType] = {
    "whatsapp": whatsapp,
    "telegram": telegram,
    "slack": slack,
    "discord": discord,
    "wechat": wechat,
    "jsonl": jsonl,
}
"""Format name -> its module, with `read`, `UNIT` (what one item is) and `EXPECTS` (a sentence)."""

_ONE_DATE_FORM = ("slack", "discord", "jsonl")


def import_export(
    format_name: str,
    path: str | Path,
    out_dir: str | Path,
    *,
    timezone: str = "UTC",
    date_order: str = "auto",
    limits: Limits | None = None,
    dead_letter_text: bool = False,
) -> ImportReport:
    """Import an export and write `dialogues.jsonl`, `dead_letter.jsonl`, `summary.json`, `images/`.

    Args:
        format_name: One of `FORMATS`.
        path: The file, folder or `.zip` as the chat program or export tool made it. The
            archives that lie directly in a folder are read too, one by one.
        out_dir: Created when missing; files of an earlier import of the same path are replaced,
            dialogues of another one are never.
        timezone: IANA name for times that carry no zone.
        date_order: `dmy`, `mdy`, `ymd`, or `auto`, which decides by the whole file.
        limits: Instead of the default limits on numbers and sizes.
        dead_letter_text: Also store the raw text of rejected items, not only its hash.

    Returns:
        What became of every item; `report.balanced` holds.

    Raises:
        InputError: A wrong option, an unreadable, unsafe or oversized export, or one in which no
            message was found; the message says what was expected.
    """
    module = _module(format_name, date_order)
    zone = _zone(timezone)
    path, out_dir = Path(path), Path(out_dir)
    _refuse_overwriting(path, out_dir)
    limits = limits or Limits()
    source = open_source(path, limits, exclude=out_dir)
    report = ImportReport(
        format=format_name, source=str(path.resolve()), unit=module.UNIT, timezone=timezone
    )
    _refuse_other_dialogues(out_dir, report)
    with Output(out_dir, report, keep_text=dead_letter_text) as output:
        module.read(source, output, zone, date_order)
        for inner in _inner_archives(path, source, output, limits):
            before = report.read
            module.read(inner, output, zone, date_order)
            report.notes["archive_without_chat"] += report.read == before
        if isinstance(source, FolderSource):
            report.notes["symlink_outside"] += source.links_refused
            for name in source.unreadable:
                output.reject(name, 1, "unreadable_file", name)
        if not report.dialogues:
            raise InputError(_nothing_found(path, module, report))
    return report


def _module(format_name: str, date_order: str) -> ModuleType:
    if format_name not in FORMATS:
        raise InputError(f"there is no format {format_name!r}; use one of {', '.join(FORMATS)}")
    if date_order not in DATE_ORDERS:
        raise InputError(
            f"date order {date_order!r} is unknown; use one of {', '.join(DATE_ORDERS)}"
        )
    if date_order != "auto" and format_name in _ONE_DATE_FORM:
        raise InputError(
            f"{format_name} dates have one form, a date order cannot apply; leave --date-order out"
        )
    return FORMATS[format_name]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"time zone {name!r} is unknown; use an IANA name such as Europe/Berlin"
        ) from error


def _inner_archives(path: Path, source: Source, output: Output, limits: Limits) -> Iterator[Source]:
    """The `.zip` files that lie directly in a folder, such as one of downloads."""
    names = source.names if path.is_dir() else []
    for name in names:
        if re.fullmatch(r"[^/]+\.zip", name, re.I):
            try:
                inner = open_source(path / name, limits)
            except InputError as error:  # the others, and the folder itself, can still be read
                output.reject(name, 1, "unreadable_archive", str(error))
                output.report.warnings.append(str(error))
            else:
                yield inner


def _refuse_overwriting(path: Path, out_dir: Path) -> None:
    if path.is_dir():
        clash = path.resolve() == out_dir.resolve()
    else:
        outputs = [out_dir / name for name in (DIALOGUES, DEAD_LETTERS, SUMMARY, IMAGES)]
        clash = path.resolve() in [output.resolve() for output in outputs]
    if clash:
        raise InputError(
            f"the import would overwrite what it reads in {out_dir}; choose another output folder"
        )


def _refuse_other_dialogues(out_dir: Path, report: ImportReport) -> None:
    """InputError when the folder holds dialogues of another export than this one."""
    if not (out_dir / DIALOGUES).exists():
        return
    try:
        earlier = json.loads((out_dir / SUMMARY).read_text(encoding="utf-8"))
        same = (earlier["format"], earlier["source"]) == (report.format, clean(report.source))
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
        own = out_dir / (slug(Path(report.source).stem) or "another")
        raise InputError(
            f"{out_dir} already holds the dialogues of another import, which would be lost; choose"
            f" another output folder such as --out {str(own)!r} (ffrs index reads subfolders too;"
            " of two exports of one chat it takes the longer)"
        )


def _nothing_found(path: Path, module: ModuleType, report: ImportReport) -> str:
    found = ""
    if report.read:
        reasons = (report.rejected + report.left_out).most_common(3)
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons)
        facts = "; ".join([f"{report.read} {report.unit}s read: {counts}", *report.warnings])
        found = f" ({facts})"
    return f"{path} holds no chat that can be imported{found}; expected {module.EXPECTS}"
