"""DiscordChatExporter JSON: one file a channel, or several parts of one channel.

Parts are merged by the channel's id, a message that comes twice is left out once. Joins, pins and
calls are left out. Attachments are images of the turn when the export was made with media; a web
address is counted as `remote`. The words of embeds and of forwarded messages are kept as text.
"""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Any

from ffr_core.errors import RecordError
from ffr_core.importers.base import ImportReport, Output
from ffr_core.importers.drafts import DraftDialogue, DraftTurn, reject_file, write_dialogue
from ffr_core.importers.media import Attachment, kind_of
from ffr_core.importers.source import Source
from ffr_core.importers.text import as_dict, as_list, as_text, decode, parse_json
from ffr_core.importers.times import read_time

UNIT = "message"
EXPECTS = (
    "a DiscordChatExporter file in JSON form, with 'channel' and 'messages',"
    " or a folder or .zip with such files"
)

_SERVICE_TYPES = (
    "RecipientAdd RecipientRemove Call ChannelNameChange ChannelIconChange ChannelPinnedMessage"
    " GuildMemberJoin UserPremiumGuildSubscription UserPremiumGuildSubscriptionTier1"
    " UserPremiumGuildSubscriptionTier2 UserPremiumGuildSubscriptionTier3 ChannelFollowAdd"
    " GuildDiscoveryDisqualified GuildDiscoveryRequalified ThreadCreated AutoModerationAction"
    " 1 2 3 4 5 6 7 8 9 10 11 12 14 15 18 22 24"
)
_SERVICE = frozenset(_SERVICE_TYPES.split())
_MENTION = re.compile(r"<@!?(\d{1,25})>")
_EMOJI = re.compile(r"<a?(:\w{1,40}:)\d{1,25}>")


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every channel of an export; see the head of this file."""
    chats: dict[str, tuple[DraftDialogue, list[tuple[str, dict[str, Any]]]]] = {}
    for name in source.with_endings(".json"):
        try:
            root = as_dict(parse_json(decode(source.read(name), output.report), name))
        except RecordError as error:
            reject_file(output, name, error)
            continue
        channel = as_dict(root.get("channel"))
        if not channel or not isinstance(root.get("messages"), list):
            output.reject(name, 1, "not_a_chat", name)
            continue
        chat_id = as_text(channel.get("id"))
        title = _title(as_dict(root.get("guild")), channel)
        draft = DraftDialogue(format="discord", name=title, source_id=chat_id, file=name)
        chat, _ = chats.setdefault(chat_id or name, (draft, []))
        _read_messages(root["messages"], name, chat, output, zone)
    for chat, _ in chats.values():
        if all(turn.timestamp for turn in chat.turns):
            chat.turns.sort(key=lambda turn: turn.timestamp.timestamp() if turn.timestamp else 0.0)
        write_dialogue(chat, source, output)


def _title(guild: dict[str, Any], channel: dict[str, Any]) -> str:
    """`guild channel`; a direct conversation has its person's name alone."""
    server, name = as_text(guild.get("name")), as_text(channel.get("name"))
    direct = as_text(guild.get("id")) == "0" or server == "Direct Messages"
    return name if direct or not server else f"{server} {name}".strip()


def _read_messages(
    messages: list[Any], file: str, chat: DraftDialogue, output: Output, zone: tzinfo
) -> None:
    seen = {turn.key for turn in chat.turns}
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            output.reject(file, position, "not_a_message", message)
            continue
        if as_text(message.get("type")) in _SERVICE:
            output.report.leave_out("service")
            continue
        turn = _turn(message, output.report)
        if turn is None:
            output.reject(file, position, "not_a_message", message)
        elif turn.key and turn.key in seen:
            output.report.leave_out("duplicate")
        else:
            output.report.keep()
            turn.set_time(read_time(message.get("timestamp"), zone), output.report)
            seen.add(turn.key)
            chat.turns.append(turn)


def _turn(message: dict[str, Any], report: ImportReport) -> DraftTurn | None:
    author = as_dict(message.get("author"))
    names = (author.get("nickname"), author.get("name"), author.get("id"))
    sender = next(filter(None, map(as_text, names)), "")
    users = {
        as_text(user.get("id")): user for user in map(as_dict, as_list(message.get("mentions")))
    }

    def mention(match: re.Match[str]) -> str:
        user = as_dict(users.get(match[1]))
        name = as_text(user.get("nickname")) or as_text(user.get("name"))
        report.notes["unknown_user"] += not name
        return f"@{name or match[1]}"

    forwarded = as_dict(message.get("forwardedMessage"))
    lines, attachments = [], []
    for part, mark in ((message, ""), (forwarded, "[forwarded]" if forwarded else "")):
        said = _EMOJI.sub(r"\1", as_text(part.get("content")))
        lines += [mark, _MENTION.sub(mention, said).strip()]
        lines += [_embed(as_dict(embed), report) for embed in as_list(part.get("embeds"))]
        attachments += _attachments(part)
    text = "\n".join(filter(None, lines))
    if not (sender or text or attachments):
        return None
    if message.get("timestampEdited"):
        report.notes["edited"] += 1
    reference = as_dict(message.get("reference"))
    return DraftTurn(
        speaker=sender or "?",
        text=text,
        key=as_text(message.get("id")) or None,
        reply_key=None if forwarded else as_text(reference.get("messageId")) or None,
        attachments=attachments,
    )


def _embed(embed: dict[str, Any], report: ImportReport) -> str:
    """Author, title, text, fields and footer of a link preview or bot card, a line each."""
    report.notes["remote_embed_image"] += bool(embed.get("image") or embed.get("images"))
    lines = [as_text(as_dict(embed.get("author")).get("name"))]
    lines += [as_text(embed.get(key)) for key in ("title", "description")]
    for field in map(as_dict, as_list(embed.get("fields"))):
        lines.append(f"{as_text(field.get('name'))}: {as_text(field.get('value'))}")
    lines.append(as_text(as_dict(embed.get("footer")).get("text")))
    return "\n".join(filter(None, lines)).strip()


def _attachments(message: dict[str, Any]) -> list[Attachment]:
    files = [_attachment(as_dict(item)) for item in as_list(message.get("attachments"))]
    stickers = [as_dict(item).get("name") for item in as_list(message.get("stickers"))]
    return files + [Attachment(kind="sticker", name=as_text(n), words=True) for n in stickers]


def _attachment(item: dict[str, Any]) -> Attachment:
    url, name = as_text(item.get("url")), as_text(item.get("fileName"))
    remote = bool(re.match(r"[a-z]+://", url, re.I))
    return Attachment(
        kind=kind_of(name or url),
        refs=() if remote or not url else (url,),
        name=name or None,
        reason="remote" if remote else "omitted_by_export",
    )
