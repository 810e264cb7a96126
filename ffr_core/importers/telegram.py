"""Telegram Desktop exports: `result.json` of one chat, or of an account (`chats.list`).

Service messages are left out. Photos, and files with an image type, become images; other media
becomes text, stickers with their emoji. `reply_to_message_id` becomes `reply_to` inside the chat.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from ffr_core.errors import RecordError
from ffr_core.importers.base import Output
from ffr_core.importers.drafts import DraftDialogue, DraftTurn, reject_file, write_dialogue
from ffr_core.importers.media import Attachment, kind_of
from ffr_core.importers.source import Source
from ffr_core.importers.text import as_dict, as_list, as_text, decode, parse_json
from ffr_core.importers.times import decide_order, find_stamp, read_time

UNIT = "message"
EXPECTS = (
    "a Telegram Desktop export in JSON form: result.json with 'messages' or 'chats',"
    " or the folder or .zip that holds it"
)

_NOT_INCLUDED = "(File "  # "(File not included. Change data exporting settings to download.)"
_MEDIA = {
    "sticker": "sticker",
    "voice_message": "voice message",
    "video_message": "video message",
    "video_file": "video",
    "animation": "GIF",
    "audio_file": "audio",
}

_ENVELOPE_KEYS = (
    "id type date date_unixtime edited edited_unixtime from from_id author text text_entities"
    " forwarded_from forwarded_from_id saved_from reply_to_message_id reply_to_peer_id via_bot"
    " reactions inline_bot_buttons media_spoiler"
)
_ENVELOPE = frozenset(_ENVELOPE_KEYS.split())
"""Keys of a message that are not its media."""


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every chat of every `result.json`; see the head of this file."""
    for name in _files(source):
        try:
            root = as_dict(parse_json(decode(source.read(name), output.report), name))
        except RecordError as error:
            reject_file(output, name, error)
            continue
        chats = [root] if "messages" in root else []
        for group in ("chats", "left_chats"):
            chats += as_list(as_dict(root.get(group)).get("list"))
        if not chats:
            output.reject(name, 1, "not_a_chat", name)
        position = 0
        for chat in chats:
            messages = as_list(as_dict(chat).get("messages"))
            write_dialogue(
                _chat(as_dict(chat), name, position, output, zone, date_order), source, output
            )
            position += len(messages)


def _files(source: Source) -> list[str]:
    names = source.with_endings(".json")
    results = [name for name in names if name.rsplit("/", 1)[-1].startswith("result")]
    return results or names


def _chat(
    chat: dict[str, Any], file: str, offset: int, output: Output, zone: tzinfo, date_order: str
) -> DraftDialogue:
    saved = "Saved Messages" if chat.get("type") == "saved_messages" else ""
    name = as_text(chat.get("name")) or saved or "Deleted Account"
    draft = DraftDialogue(
        format="telegram", name=name, source_id=as_text(chat.get("id")), file=file
    )
    messages = as_list(chat.get("messages"))
    dates = [as_dict(message).get("date") for message in messages]
    order = decide_order(filter(None, map(find_stamp, dates)), date_order)
    for position, message in enumerate(messages, start=offset + 1):
        if not isinstance(message, dict):
            output.reject(file, position, "not_a_message", message)
        elif message.get("type") == "service":
            output.report.leave_out("service")
        elif turn := _turn(message, output):
            output.report.keep()
            exact = read_time(message.get("date_unixtime"), zone)
            local = read_time(message.get("date"), zone, order)
            turn.set_time(exact if exact.timestamp else local, output.report)
            draft.turns.append(turn)
        else:
            output.reject(file, position, "not_a_message", message)
    return draft


def _turn(message: dict[str, Any], output: Output) -> DraftTurn | None:
    """One message; None when it has neither a sender, a text nor a file."""
    text = _text(message.get("text"))
    attachments = _attachments(message)
    unknown = sorted(set(map(str, message)) - _ENVELOPE)
    if unknown and not (text or attachments):
        output.report.notes["unknown_media"] += 1
        name = ", ".join(unknown).replace("_", " ")
        attachments = [Attachment(kind="unknown media", name=name, words=True)]
    if "forwarded_from" in message:  # null when that account is deleted
        origin = as_text(message["forwarded_from"])
        text = f"[forwarded{f' from {origin}' if origin else ''}] {text}".strip()
    sender = as_text(message.get("from")) or as_text(message.get("from_id"))
    if not (sender or text or attachments):
        return None
    if message.get("edited") or message.get("edited_unixtime"):
        output.report.notes["edited"] += 1
    elsewhere = message.get("reply_to_peer_id") is not None
    reply = as_text(message.get("reply_to_message_id"))
    return DraftTurn(
        speaker=sender or "Deleted Account",
        text=text,
        key=as_text(message.get("id")) or None,
        reply_key=("elsewhere:" * elsewhere + reply) if reply else None,
        attachments=attachments,
    )


def _text(value: object) -> str:
    """Text of a string or of a list of strings and entities; a link keeps its address."""
    if not isinstance(value, list):
        return as_text(value).strip()
    parts: list[str] = []
    for part in value:
        if isinstance(part, dict):
            text, href = as_text(part.get("text")), as_text(part.get("href"))
            parts.append(f"{text} ({href})" if href and href != text else text)
        else:
            parts.append(as_text(part))
    return "".join(parts).strip()


def _attachments(message: dict[str, Any]) -> list[Attachment]:
    found: list[Attachment] = []
    if "photo" in message:
        found.append(_attachment("image", as_text(message["photo"]), None))
    if "file" in message:
        ref, name = as_text(message["file"]), as_text(message.get("file_name"))
        media = as_text(message.get("media_type"))
        kind = _MEDIA.get(media) or kind_of(name or ref, as_text(message.get("mime_type")))
        if kind == "sticker":
            name = as_text(message.get("sticker_emoji"))
        elif kind == "audio":
            name = " - ".join(filter(None, map(as_text, map(message.get, ("performer", "title")))))
        shown = name or (None if ref.startswith(_NOT_INCLUDED) else ref.rsplit("/", 1)[-1])
        found.append(_attachment(kind, ref, shown))
    found += _facts(message)
    return found


def _attachment(kind: str, ref: str, name: str | None) -> Attachment:
    included = ref and not ref.startswith(_NOT_INCLUDED)
    return Attachment(kind=kind, refs=(ref,) if included else (), name=name)


def _facts(message: dict[str, Any]) -> list[Attachment]:
    """Contacts, places, polls and the like: media that is words already, with no file behind."""
    found: list[Attachment] = []
    if contact := as_dict(message.get("contact_information")):
        names = (as_text(contact.get(key)) for key in ("first_name", "last_name", "phone_number"))
        found.append(Attachment(kind="contact", name=" ".join(filter(None, names)), words=True))
    if place := as_dict(message.get("location_information")):
        where = (as_text(place.get(key)) for key in ("latitude", "longitude"))
        named = (as_text(message.get(key)) for key in ("place_name", "address"))
        name = ", ".join(filter(None, named)) or ", ".join(filter(None, where))
        found.append(Attachment(kind="location", name=name, words=True))
    if poll := as_dict(message.get("poll")):
        found.append(_choices("poll", poll.get("question"), poll.get("answers")))
    if todo := as_dict(message.get("todo_list")):
        entries = todo.get("answers") or todo.get("items")
        found.append(_choices("list", todo.get("title"), entries))
    if invoice := as_dict(message.get("invoice_information")):
        what = (as_text(invoice.get(key)) for key in ("title", "description"))
        found.append(Attachment(kind="invoice", name=", ".join(filter(None, what)), words=True))
    if "game_title" in message:
        found.append(Attachment(kind="game", name=as_text(message["game_title"]), words=True))
    return found


def _choices(kind: str, title: object, entries: object) -> Attachment:
    found = map(as_dict, as_list(entries))
    texts = [_text(entry.get("text")) + _votes(entry.get("voters")) for entry in found]
    return Attachment(kind=kind, name=f"{_text(title)} ({' / '.join(texts)})", words=True)


def _votes(voters: object) -> str:
    return f": {voters}" if isinstance(voters, int) else ""
