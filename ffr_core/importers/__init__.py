"""Exports of chat programs -> our records, with pictures and with a count of everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
)
from ffr_core.importers.source import FolderSource, Limits, Source
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
        path: The file, folder or `.zip` as the chat program or export tool made it. A folder that
            holds nothing but archives is read archive by archive.
        out_dir: Created when missing; files of an earlier import are replaced.
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
    report = ImportReport(format=format_name, unit=module.UNIT, timezone=timezone)
    with Output(out_dir, report, keep_text=dead_letter_text) as output:
        module.read(source, output, zone, date_order)
        for inner in _inner_archives(path, source, report, limits):
            module.read(inner, output, zone, date_order)
        if isinstance(source, FolderSource):
            report.notes["symlink_outside"] += source.links_refused
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
    return FORMATS[format_name]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"time zone {name!r} is unknown; use an IANA name such as Europe/Berlin"
        ) from error


def _inner_archives(
    path: Path, source: Source, report: ImportReport, limits: Limits
) -> list[Source]:
    """The `.zip` files of a folder in which nothing was read, such as a folder of downloads."""
    if not path.is_dir() or report.read:
        return []
    names = [name for name in source.names if re.fullmatch(r"[^/]+\.zip", name, re.I)]
    return [open_source(path / name, limits) for name in names]


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


def _nothing_found(path: Path, module: ModuleType, report: ImportReport) -> str:
    found = ""
    if report.read:
        reasons = (report.rejected + report.left_out).most_common(3)
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons)
        found = f" ({report.read} {report.unit}s read: {counts})"
    return f"{path} holds no chat that can be imported{found}; expected {module.EXPECTS}"
