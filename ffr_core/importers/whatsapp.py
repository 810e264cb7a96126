"""WhatsApp text exports: `WhatsApp Chat with NAME.txt` (Android) and `_chat.txt` (iOS).

A line with a stamp starts a message, a line without one continues the message above. Lines before
the first stamp are rejected, and so are messages with an impossible date, all lines of them. A
stamped line without a sender is a notice of WhatsApp and is left out, with the lines that continue
it. A file has one form of stamp, the one most of its lines have: a pasted line of the other form is
part of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo

from ffr_core.errors import RecordError
from ffr_core.importers import whatsapp_words as words
from ffr_core.importers.base import Output
from ffr_core.importers.drafts import DraftDialogue, DraftTurn, reject_file, write_dialogue
from ffr_core.importers.media import Attachment, kind_of, telling
from ffr_core.importers.source import Source
from ffr_core.importers.text import MARKS, decode
from ffr_core.importers.times import (
    STAMP,
    DateOrder,
    Stamp,
    decide_order,
    resolve,
    stamp_from_match,
)

UNIT = "line"
EXPECTS = (
    "a WhatsApp export: a .txt file whose lines look like"
    " '31/12/21, 21:41 - Name: text' or '[31/12/21, 21:41:05] Name: text',"
    " or a folder or .zip with such files"
)

_ANDROID = re.compile(rf"(?P<stamp>{STAMP})\s{{0,2}}[-\u2013]\s(?P<rest>.*)", re.I | re.S)
_IOS = re.compile(rf"\[(?P<stamp>{STAMP})\s?\]\s{{0,2}}(?P<rest>.*)", re.I | re.S)
_SENDER = re.compile(r"(?P<name>[^\n]{1,120}?)\s?[:：](?:\s(?P<text>.*))?$", re.S)
_LEAD = MARKS + " \t"
_GAP = rf"[\s{MARKS}]{{0,2}}"
_HEAD = 200  # characters in which a stamp must end
_NAME = r"(?P<name>[^<>/\\\n]{1,200}\.\w{1,5})"
_AFTER = re.compile(rf"{_NAME}\s\((?:{words.ATTACHED_AFTER})\)$", re.I)
_AFTER_ANY = re.compile(
    r"(?P<name>(?:IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d+\.\w{1,5})\s\([^()]{3,40}\)$"
)
_BEFORE = re.compile(  # in a language that is not listed, the number that iOS puts first decides
    rf"<(?:(?:{words.ATTACHED_BEFORE})\s?[:：]|[^<>:：\n]{{2,30}}[:：](?={_GAP}\d{{8}}-))"
    rf"{_GAP}{_NAME}>",
    re.I,
)
_NUMBER = re.compile(r"^\d{8}-")  # iOS counts the lines of each export
_PAGES = re.compile(rf"\s?•{_GAP}\d+{_GAP}\w+$")  # iOS: `plan.pdf • 2 pages`
_OMITTED = re.compile(rf"<(?:{words.OMITTED})>$", re.I)
_OMITTED_KINDS = {kind: words.whole(text) for kind, text in words.OMITTED_KINDS.items()}
_DELETED = words.whole(words.DELETED)
_EDITED = re.compile(rf"\s{{0,3}}<(?:{words.EDITED})[.。]?>$", re.I)
_NOTICE = re.compile(words.NOTICES, re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    number: int
    raw: str
    stamp: Stamp | None
    rest: str


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every chat of an export; see the head of this file.

    Args:
        source: The opened export.
        output: Receives dialogues, dead letters and counts.
        zone: Of the phone that exported.
        date_order: One of `DATE_ORDERS`.
    """
    texts = source.with_endings(".txt")
    for name in texts:
        try:
            text = decode(source.read(name), output.report)
        except RecordError as error:
            reject_file(output, name, error)
            continue
        lines = list(_lines(text))
        others = len(texts) > 1 or output.report.dialogues
        if not any(line.stamp for line in lines) and others:
            output.reject(name, 1, "not_a_chat", text)  # a text file sent in the chat, say
            continue
        chat = DraftDialogue(format="whatsapp", name=_chat_name(name, source.label), file=name)
        order = decide_order((line.stamp for line in lines if line.stamp), date_order)
        ambiguous = output.report.notes["ambiguous_date"]
        _read_lines(chat, lines, output, zone, order)
        if output.report.notes["ambiguous_date"] > ambiguous:
            output.report.warnings.append(
                f"no date of {name} proves whether the day or the month comes first; times that"
                " read both ways are kept as text, import again with --date-order dmy or mdy"
            )
        write_dialogue(chat, source, output)


def _lines(text: str) -> Iterator[_Line]:
    """Split into lines and find the stamps of the file's dominant form."""
    raws = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if raws and not raws[-1]:
        raws.pop()
    android: list[re.Match[str] | None] = []
    ios: list[re.Match[str] | None] = []
    for raw in raws:
        head = raw.lstrip(_LEAD)[:_HEAD]
        android.append(_ANDROID.match(head) if head[:1].isdigit() else None)
        ios.append(_IOS.match(head) if head.startswith("[") else None)
    many_ios = sum(map(bool, ios)) > sum(map(bool, android))
    for number, (raw, match) in enumerate(zip(raws, ios if many_ios else android, strict=True), 1):
        rest = match["rest"] + raw.lstrip(_LEAD)[_HEAD:] if match else raw
        stamp = stamp_from_match(match) if match else None
        yield _Line(number=number, raw=raw, stamp=stamp, rest=rest)


def _read_lines(
    chat: DraftDialogue, lines: list[_Line], output: Output, zone: tzinfo, order: DateOrder | None
) -> None:
    report = output.report
    above: DraftTurn | str | None = None  # a turn, the reason why there is none, or the start
    rejected_above = False
    for line in lines:
        if line.stamp is None:
            if rejected_above:
                output.reject(chat.file, line.number, "after_impossible_date", line.raw)
            elif isinstance(above, DraftTurn):
                report.read += 1
                report.continued += 1
                above.text += "\n" + line.raw
            elif above is not None:
                report.leave_out(above)
            elif line.raw.strip(MARKS + " \t\xa0"):
                output.reject(chat.file, line.number, "before_first_stamp", line.raw)
            else:
                report.leave_out("blank")
            continue
        reading = resolve(line.stamp, order, zone)
        rejected_above = reading.problem == "impossible_date"
        if rejected_above:
            output.reject(chat.file, line.number, "impossible_date", line.raw)
            continue
        sender, text, reason = _split(line.rest)
        if reason:
            report.leave_out(reason)
            above = reason
            continue
        report.keep()
        above = DraftTurn(speaker=sender, text=text, written_time=line.stamp.numerals)
        above.set_time(reading, report)
        chat.turns.append(above)
    for turn in chat.turns:
        _finish(turn, output)


def _split(rest: str) -> tuple[str, str, str | None]:
    """Sender, text and, for what is no turn, the reason."""
    match = _SENDER.match(rest.lstrip(MARKS))
    if match is None or _quote_is_open(match["name"]):
        return "", "", "system"  # no sender, or a colon inside a quoted group name
    sender = match["name"].strip(MARKS + " \u202f\xa0").removeprefix("~").strip("\u202f\xa0 ")
    text = match["text"] or ""
    bare = text.strip(MARKS + " ")
    if _DELETED.match(bare):
        return sender, text, "deleted_message"
    marked = text.startswith("\u200e") or rest.startswith("\u200e")
    if marked and _NOTICE.search(bare) and not _BEFORE.search(bare):
        return sender, text, "system"
    return sender, text, None


def _quote_is_open(name: str) -> bool:
    """Whether a quotation starts in `name` and does not end there; an apostrophe is none."""
    odd = sum(map(name.count, '"“”„«»‹›')) % 2
    return bool(odd) or any(name.count(a) > name.count(b) for a, b in ("「」", "『』", "‚‘"))


def _finish(turn: DraftTurn, output: Output) -> None:
    """Turn the export's words for media into attachments, once all lines are there."""
    kept: list[str] = []
    for number, line in enumerate(turn.text.split("\n")):
        bare = line.strip(MARKS + " \xa0\u202f")
        if edited := _EDITED.search(bare):
            output.report.notes["edited"] += 1
            line = bare = bare[: edited.start()].rstrip(MARKS + " ")
        for match in _BEFORE.finditer(bare):
            turn.attachments.append(_attachment(match["name"]))
        line = _BEFORE.sub("", bare).strip(MARKS + " ") if _BEFORE.search(bare) else line
        if number == 0 and (attachment := _first_line_attachment(bare)):
            turn.attachments.append(attachment)
            line = ""
        caption, mark, end = line.rpartition("\u200e")
        if mark and (omitted := _omitted(end.strip(MARKS + " "), caption.strip(MARKS + " "))):
            turn.attachments.append(omitted)
            line = caption.rstrip(MARKS + " ")
        kept.append(line.strip(MARKS))
    turn.text = "\n".join(kept).strip()
    if any(_is_name(turn.text, attachment) for attachment in turn.attachments):
        turn.text = ""


def _is_name(text: str, attachment: Attachment) -> bool:
    """Whether a caption is the name of its document, as WhatsApp writes one of its own accord."""
    name = attachment.name or ""
    if attachment.kind == "image" or not telling(name) or not text.startswith(name):
        return False
    return not text[len(name) :] or bool(_PAGES.match(text[len(name) :]))


def _first_line_attachment(bare: str) -> Attachment | None:
    if match := _AFTER.match(bare) or _AFTER_ANY.match(bare):
        return _attachment(match["name"])
    if _OMITTED.match(bare):
        return Attachment(kind="media omitted")
    return _omitted(bare)


def _omitted(words_of_kind: str, caption: str = "") -> Attachment | None:
    """The attachment that iOS left out; the name of a document stands where a caption does."""
    for kind, pattern in _OMITTED_KINDS.items():
        if pattern.match(words_of_kind):
            name = re.match(_NAME, caption) if kind == "document" else None
            return Attachment(kind=kind, name=name["name"] if name else None)
    return None


def _attachment(name: str) -> Attachment:
    name = name.strip(MARKS + " ")
    kind = kind_of(name)
    for word, found in (("-STICKER-", "sticker"), ("-AUDIO-", "voice message"), ("-GIF-", "GIF")):
        kind = found if word in name else kind
    return Attachment(kind=kind, refs=(name,), name=_NUMBER.sub("", name))


def _chat_name(file: str, label: str) -> str:
    *folders, base = file.split("/")
    stem = base.rsplit(".", 1)[0]
    if stem.strip("_").lower() in ("chat", "whatsapp", "messages"):
        stem = folders[-1] if folders else label
    name = words.TITLE_END.sub("", words.TITLE.sub("", stem.strip(MARKS)))
    return name.strip() or stem
