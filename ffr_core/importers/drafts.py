"""A chat while it is read: source keys and attachments; then numbered turns and images."""

from __future__ import annotations

import hashlib
import re
from array import array
from dataclasses import dataclass, field
from datetime import datetime

from ffr_core.errors import RecordError
from ffr_core.importers.base import ImportReport, Output, clean
from ffr_core.importers.media import Attachment, MediaStore, folder_name
from ffr_core.importers.source import Source
from ffr_core.importers.text import slug
from ffr_core.importers.times import Reading
from ffr_core.types import Dialogue, Image, Turn


@dataclass(slots=True, kw_only=True)
class DraftTurn:
    """One message before the ids of its dialogue are known."""

    speaker: str
    text: str
    timestamp: datetime | None = None
    timestamp_text: str | None = None
    key: str | None = None
    """The source's own id of this message."""
    reply_key: str | None = None
    """The source's id of the message that this one answers."""
    written_time: str = ""
    """The time as the source writes it, whatever the zone or date order of the import."""
    attachments: list[Attachment] = field(default_factory=list)

    def set_time(self, reading: Reading, report: ImportReport) -> None:
        """Take over a reading and count its problem."""
        self.timestamp, self.timestamp_text = reading.timestamp, reading.text
        if reading.problem:
            report.notes[reading.problem] += 1


@dataclass(slots=True, kw_only=True)
class DraftDialogue:
    """One chat before it is written."""

    format: str
    name: str
    """As shown in the source."""
    source_id: str = ""
    """The source's id, appended to the dialogue id: names are not unique. Without one, a hash of
    the first message is appended, which a later and longer export of the same chat shares."""
    file: str = ""
    """The chat's file inside the export; media is looked up beside it."""
    turns: list[DraftTurn] = field(default_factory=list)


def write_dialogue(chat: DraftDialogue, source: Source, output: Output) -> None:
    """Resolve replies, copy pictures, number everything and write the dialogue.

    A chat without turns is counted as `empty_dialogue`. Of two exports of one chat in the same
    import the one that holds all of the other is written, whichever comes first.
    """
    report = output.report
    if not chat.turns:
        report.notes["empty_dialogue"] += 1
        return
    base, marks = _base_id(chat), _marks(chat.turns)
    copies = output.marks.setdefault(base, {})
    if any(marks <= set(others) for others in copies.values()):
        report.leave_out_copy(len(chat.turns))
        return
    for name in [name for name, others in copies.items() if marks.issuperset(others)]:
        output.withdraw(name)
        del copies[name]
    dialogue_id = _free_id(base, output.dialogue_ids)
    copies[dialogue_id] = array("q", marks)
    store = MediaStore(
        source=source,
        near=chat.file.rpartition("/")[0],
        out_dir=output.folder,
        folder=folder_name(dialogue_id),
        report=report,
    )
    turn_of_key = {turn.key: i for i, turn in reversed(list(enumerate(chat.turns))) if turn.key}
    turns: list[Turn] = []
    num_images = 0
    for draft in chat.turns:
        reply_to = turn_of_key.get(draft.reply_key or "")
        if draft.reply_key and reply_to is None:
            report.notes["reply_to_missing"] += 1
        turns.append(_turn(draft, len(turns), reply_to, num_images, store))
        num_images += len(turns[-1].images)
    title = clean(chat.name).strip() or None
    output.write(Dialogue(dialogue_id=dialogue_id, turns=tuple(turns), title=title))


def _turn(
    draft: DraftTurn, turn_id: int, reply_to: int | None, first_image: int, store: MediaStore
) -> Turn:
    images: list[Image] = []
    lines = [draft.text] if draft.text else []
    for attachment in draft.attachments:
        if attachment.kind == "image":
            images.append(store.image(attachment, first_image + len(images)))
        else:
            lines.append(store.text(attachment))
    if not lines and not images:
        store.report.notes["empty_text"] += 1
    kept_text = None if draft.timestamp or not draft.timestamp_text else draft.timestamp_text
    return Turn(
        turn_id=turn_id,
        speaker=clean(draft.speaker) or "?",
        text=clean("\n".join(lines)),
        timestamp=draft.timestamp,
        timestamp_text=clean(kept_text) if kept_text else None,
        reply_to=None if reply_to == turn_id else reply_to,
        images=tuple(images),
    )


def reject_file(output: Output, name: str, error: RecordError) -> None:
    """Count a whole file as one rejected item."""
    output.reject(name, 1, error.reason, str(error))


def _marks(turns: list[DraftTurn]) -> set[int]:
    """Hashes of what a chat holds, its messages and their files: equal in each of its exports."""
    marks: set[int] = set()
    for turn in turns:
        time = turn.written_time or str(turn.timestamp or turn.timestamp_text)
        said = hash((turn.key, time, turn.speaker, turn.text))
        marks.add(said)
        marks.update(hash((said, a.refs)) for a in turn.attachments if a.refs)
    return marks


def _base_id(chat: DraftDialogue) -> str:
    known = slug(chat.source_id) or _first_message(chat.turns)
    name = re.sub(r"\s?\(\d{1,2}\)$", "", chat.name)  # the second download of `Ana` is `Ana (1)`
    return f"{chat.format}-{slug(name) or 'chat'}-{known}"


def _free_id(base: str, taken: set[str]) -> str:
    dialogue_id, number = base, 1
    while dialogue_id in taken:
        number += 1
        dialogue_id = f"{base}-{number}"
    taken.add(dialogue_id)
    return dialogue_id


def _first_message(turns: list[DraftTurn]) -> str:
    """A hash of the first message that is text alone: media may be left out of the next export."""
    first = next((turn for turn in turns if turn.text and not turn.attachments), turns[0])
    time = first.written_time or first.key or str(first.timestamp or first.timestamp_text)
    said = "\0".join((time, first.speaker, first.text))
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:8]
