"""What all importers share: the report, the dead letters, the reasons and the output folder.

Every item of an export (a line of WhatsApp, a message, a row, a record) ends in exactly one of four
counts: `read == kept + continued + rejected + left_out`. Rejected items go to the dead letter;
items left out on purpose (service messages, blank lines) are counted by reason. Media and remarks
are counted beside, because one message may have several.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ffr_core.errors import InputError
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue

DIALOGUES, DEAD_LETTERS, SUMMARY = "dialogues.jsonl", "dead_letter.jsonl", "summary.json"
IMAGES = "images"

REASONS: Mapping[str, str] = {
    # rejected
    "before_first_stamp": "a WhatsApp line before the first line with a date",
    "impossible_date": "a WhatsApp line whose date or time does not exist",
    "after_impossible_date": "a WhatsApp line that continues one whose date does not exist",
    "bad_json": "a file or line that is not JSON",
    "unreadable_file": "a file or folder that is damaged or that you may not read",
    "unreadable_archive": "an archive of a folder that is damaged, encrypted or unsafe",
    "not_a_chat": "a file that is no chat of this format",
    "not_a_message": "a message that is not an object, or has no usable fields",
    "bad_row": "a CSV row with more columns than the header, or one that cannot be read",
    "no_content": "a row without text, type and file",
    "duplicate_id": "a record whose dialogue_id came before in the same import",
    # left out
    "system": "a WhatsApp notice without a sender (encryption, group changes)",
    "service": "a service message (joins, calls, pins)",
    "deleted_message": "a message whose text the sender deleted",
    "duplicate": "the same message, exported twice",
    "blank": "a blank line or row outside a message",
    # media
    "images_copied": "a picture stored under images/",
    "kept_as_text": "an attachment that is no picture, kept as text such as [voice message]",
    "omitted_by_export": "media that the export was made without",
    "file_not_found": "media that the export names but does not contain",
    "outside_export": "a media path that leaves the export",
    "remote": "media behind a web address, which is not downloaded",
    "linked": "an s3:// address, kept as it is",
    "too_large": "a picture file above the size limit",
    "too_many_pixels": "a picture above the pixel limit",
    "not_an_image": "a picture file that cannot be decoded",
    "unreadable": "a media file that is damaged or that you may not read",
    # notes
    "ambiguous_date": "day and month may be swapped; kept as timestamp_text",
    "unreadable_time": "a time that cannot be read; kept as timestamp_text",
    "no_time": "a message without a time",
    "reply_to_missing": "a reply to a message that is not in the export",
    "unknown_user": "a mention of a user that the export does not list",
    "replaced_bytes": "bytes that are no valid text, shown as U+FFFD",
    "edited": "an edited message, in its last form",
    "empty_text": "a message whose content the source lost",
    "empty_dialogue": "a chat in which no message was kept; it is not written",
    "symlink_outside": "a link in the folder that leaves it; it is not followed",
    "decoded_as_gb18030": "a file in the Chinese encoding GB18030",
    "archive_without_chat": "an archive of the folder in which no chat of this format was found",
    "unknown_media": "media of a kind that is not known here, named by its key in the export",
    "remote_embed_image": "a preview picture of a link, which is not part of the export",
}
"""Every reason that a report may hold, besides the `RecordError` reasons of records."""


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What became of every item of an export; it is filled while the export is read."""

    format: str
    """One of `FORMATS`."""
    source: str = ""
    """Absolute path of the export."""
    unit: str = "message"
    """What one item is: line, message, row or record."""
    timezone: str = "UTC"
    """Zone of the times that carry none."""
    read: int = 0
    kept: int = 0
    """Items that are turns (records: dialogues) of the output."""
    continued: int = 0
    """WhatsApp lines that belong to the message above."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> items in the dead letter."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> items that are not part of a conversation."""
    media: Counter[str] = field(default_factory=Counter)
    """What became of attachments."""
    notes: Counter[str] = field(default_factory=Counter)
    """Remarks on items that were kept."""
    warnings: list[str] = field(default_factory=list)
    """One sentence each, for a person."""
    dialogues: int = 0

    @property
    def missing_media(self) -> int:
        """Attachments that the export mentions and does not contain."""
        return sum(self.media[key] for key in ("omitted_by_export", "file_not_found", "remote"))

    @property
    def balanced(self) -> bool:
        """Whether every item read is accounted for exactly once."""
        ends = self.kept + self.continued + self.rejected.total() + self.left_out.total()
        return self.read == ends

    def leave_out(self, reason: str) -> None:
        """Count an item that is read and is no part of a conversation."""
        self.read += 1
        self.left_out[reason] += 1

    def keep(self) -> None:
        """Count an item that is read and becomes a turn."""
        self.read += 1
        self.kept += 1

    def leave_out_copy(self, num_turns: int) -> None:
        """Count the turns of a dialogue as left out: another export holds all of them."""
        self.kept -= num_turns
        self.left_out["duplicate"] += num_turns

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "format": self.format,
            "source": clean(self.source),
            "unit": self.unit,
            "timezone": self.timezone,
            "read": self.read,
            "kept": self.kept,
            "continued": self.continued,
            "rejected": dict(sorted((+self.rejected).items())),
            "left_out": dict(sorted((+self.left_out).items())),
            "dialogues": self.dialogues,
            "missing_media": self.missing_media,
            "media": dict(sorted((+self.media).items())),
            "notes": dict(sorted((+self.notes).items())),
            "warnings": self.warnings,
        }

    def as_text(self) -> str:
        """The summary for a terminal."""
        parts = [
            f"{self.format}: {self.read} {self.unit}s read = {self.kept} kept"
            f" + {self.continued} continued + {self.rejected.total()} rejected"
            f" + {self.left_out.total()} left out; {self.dialogues} dialogues"
        ]
        for title, counts in (
            ("rejected", self.rejected),
            ("left out", self.left_out),
            ("media", self.media),
            ("notes", self.notes),
        ):
            parts += [
                f"  {title}: {n} {reason} ({REASONS.get(reason, 'see the records')})"
                for reason, n in sorted((+counts).items())
            ]
        return "\n".join([*parts, *(f"  note: {warning}" for warning in self.warnings)])


class Output:
    """The output folder: `dialogues.jsonl`, `dead_letter.jsonl`, `summary.json`, `images/`.

    Dialogues appear under their final name only when the import succeeds; an import that fails
    leaves an older `dialogues.jsonl` as it was, and still writes its dead letters.
    """

    def __init__(self, folder: Path, report: ImportReport, *, keep_text: bool = False) -> None:
        """Keep the plain values.

        Args:
            folder: Created when it is missing.
            report: Counts what is written here.
            keep_text: Write the raw text of rejected items into the dead letter.
        """
        self.folder = folder
        self.report = report
        self.dialogue_ids: set[str] = set()
        self.marks: dict[str, dict[str, array[int]]] = {}
        """Id without a number -> of each chat that shares it, its id and what it holds."""
        self._keep_text = keep_text
        self._files: dict[str, IO[str]] = {}
        self._num_lines = 0
        self._lines: dict[str, tuple[int, int]] = {}  # dialogue id -> its line, its turns
        self._withdrawn: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (DIALOGUES, DEAD_LETTERS):
                self._files[name] = (self.folder / f"{name}.part").open("w", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot write to {self.folder}: {error.strerror}; choose another output folder"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.report.notes = +self.report.notes  # without zeros
        for name, file in self._files.items():
            file.close()
            part = self.folder / f"{name}.part"
            if kind is None and name == DIALOGUES and self._withdrawn:
                self._remove_withdrawn(part)
            if kind is None or name == DEAD_LETTERS:
                part.replace(self.folder / name)
            else:
                part.unlink()
        text = json.dumps(self.report.as_dict(), ensure_ascii=False, indent=2)
        (self.folder / SUMMARY).write_text(text + "\n", encoding="utf-8")

    def reject(self, source: str, position: int, reason: str, raw: object) -> None:
        """Count an item as read and rejected, and write its dead letter.

        Args:
            source: File inside the export.
            position: 1-based line, message or row of that file.
            reason: A key of `REASONS` or the reason of a RecordError.
            raw: The line, or the JSON value; only its hash is stored by default.
        """
        self.report.read += 1
        self.report.rejected[reason] += 1
        text = raw if isinstance(raw, str) else _dumped(raw)
        data = text.encode("utf-8", "surrogatepass")
        letter: dict[str, object] = {
            "source": clean(source),
            "position": position,
            "reason": reason,
            "hash": hashlib.sha256(data).hexdigest(),
        }
        if self._keep_text:
            letter["text"] = clean(text)
        self._files[DEAD_LETTERS].write(json.dumps(letter, ensure_ascii=False) + "\n")

    def write(self, dialogue: Dialogue) -> None:
        """Append one dialogue."""
        self.report.dialogues += 1
        line = json.dumps(record_from_dialogue(dialogue), ensure_ascii=False)
        self._files[DIALOGUES].write(line + "\n")
        self._lines[dialogue.dialogue_id] = self._num_lines, len(dialogue.turns)
        self._num_lines += 1

    def withdraw(self, dialogue_id: str) -> None:
        """Take back a dialogue that was written: a longer export holds all of it."""
        line, num_turns = self._lines.pop(dialogue_id)
        self._withdrawn.add(line)
        self.dialogue_ids.discard(dialogue_id)
        self.report.dialogues -= 1
        self.report.leave_out_copy(num_turns)

    def _remove_withdrawn(self, part: Path) -> None:
        shorter = part.with_suffix(".kept")
        with part.open(encoding="utf-8") as lines, shorter.open("w", encoding="utf-8") as kept:
            kept.writelines(text for i, text in enumerate(lines) if i not in self._withdrawn)
        shorter.replace(part)


def _dumped(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except (RecursionError, ValueError, TypeError):
        return f"a {type(value).__name__} that is nested too deeply"


def clean(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
