"""Slack workspace exports: `users.json`, `channels.json` and a folder of days for each channel.

All days of a channel are one dialogue, ordered by time; its id holds those of team and channel.
A reply in a thread answers the thread's first message (`thread_ts`). Joins and other notices of a
channel are left out. Slack exports hold no files; those that a tool saved beside the export are
found by their id or name.
"""

from __future__ import annotations

import html
import re
from collections import Counter, defaultdict
from datetime import tzinfo
from typing import Any

from ffr_core.errors import RecordError
from ffr_core.importers.base import ImportReport, Output
from ffr_core.importers.drafts import DraftDialogue, DraftTurn, reject_file, write_dialogue
from ffr_core.importers.media import Attachment, kind_of, telling
from ffr_core.importers.slack_blocks import blocks_markup
from ffr_core.importers.source import Source
from ffr_core.importers.text import as_dict, as_list, as_text, decode, parse_json
from ffr_core.importers.times import read_time

UNIT = "message"
EXPECTS = (
    "a Slack export: a folder or .zip with users.json, channels.json and one folder per channel"
    " that holds files such as 2021-12-31.json"
)

_DAY = re.compile(r"(?P<folder>(?:.*/)?(?P<channel>[^/]+))/\d{4}-\d{2}-\d{2}\.json$")
_LISTS = ("channels", "groups", "dms", "mpims")
_TABLES = (*_LISTS, "users", "integration_users")
_SERVICE = re.compile(
    r"(channel|group|bot|mpim)_(join|leave|topic|purpose|name|archive|unarchive|add|remove|convert\w*"
    r"|posting_permissions)|pinned_item|unpinned_item|reminder_add|sh_room_\w+|huddle_thread"
)
_TOKEN = re.compile(r"<([@#!]?)([^<>|]{1,3000})(?:\|([^<>]{0,3000}))?>")


class _Names:
    """Names of users and channels by their ids, of the workspace whose folder is `root`."""

    def __init__(self, source: Source, output: Output, root: str) -> None:
        self.users: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        teams: Counter[str] = Counter()
        for name in source.names:
            folder, _, base = name.rpartition("/")
            kind = base.removesuffix(".json")
            if kind not in _TABLES or not f"{root}/".startswith(f"{folder}/" if folder else ""):
                continue
            try:
                entries = as_list(parse_json(decode(source.read(name), output.report), name))
            except RecordError as error:
                reject_file(output, name, error)
                continue
            for entry in map(as_dict, entries):
                if kind in _LISTS:
                    self.titles[as_text(entry.get("id"))] = as_text(entry.get("name"))
                    self._members(entry)
                else:
                    self.users[as_text(entry.get("id"))] = user_name(entry)
                    teams[as_text(entry.get("team_id"))] += 1
        self.team = max(teams, key=lambda team: (teams[team], team), default="")
        """Id of the workspace; users of shared channels belong to other ones."""

    def _members(self, entry: dict[str, Any]) -> None:
        """A direct conversation has no name: remember its members under its id."""
        if not entry.get("name"):
            members = " ".join(f"<@{as_text(m)}>" for m in as_list(entry.get("members")))
            self.titles[as_text(entry.get("id"))] = members

    def title(self, channel: str) -> str:
        """Name of a channel folder; of a direct conversation, the names of its members."""
        found = self.titles.get(channel) or channel
        members = [self.users.get(m, m) for m in re.findall(r"<@(\w+)>", found)]
        return ", ".join(members) or found

    def source_id(self, channel: str) -> str:
        """Ids of team and channel of a channel folder; empty when the export lists no channels."""
        ids = (found for found, title in self.titles.items() if channel in (title, found))
        found = next(ids, "")
        return f"{self.team} {found}" if found else ""


def user_name(user: dict[str, Any]) -> str:
    """The name that Slack shows: display name, real name, or handle."""
    profile = as_dict(user.get("profile"))
    names = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"))
    found = (as_text(name) for name in (*names, user.get("name"), user.get("id")))
    return next(filter(None, found), "?")


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every channel of an export; see the head of this file."""
    days: dict[str, list[str]] = defaultdict(list)
    for name in source.names:
        if match := _DAY.match(name):
            days[match["folder"]].append(name)
    roots = sorted({folder.rpartition("/")[0] for folder in days})
    names_of = {root: _Names(source, output, root) for root in roots}
    for folder, files in sorted(days.items()):
        root, _, channel = folder.rpartition("/")
        names = names_of[root]
        chat = DraftDialogue(
            format="slack",
            name=names.title(channel),
            source_id=names.source_id(channel),
            file=files[0],
        )
        turns: list[tuple[float, DraftTurn]] = []
        for file in files:
            _read_day(file, source, output, zone, names, turns)
        turns.sort(key=lambda item: item[0])
        chat.turns = [turn for _, turn in turns]
        write_dialogue(chat, source, output)


def _read_day(
    file: str,
    source: Source,
    output: Output,
    zone: tzinfo,
    names: _Names,
    turns: list[tuple[float, DraftTurn]],
) -> None:
    try:
        messages = parse_json(decode(source.read(file), output.report), file)
    except RecordError as error:
        reject_file(output, file, error)
        return
    if not isinstance(messages, list):
        output.reject(file, 1, "not_a_chat", file)
        return
    last = turns[-1][0] if turns else 0.0
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            output.reject(file, position, "not_a_message", message)
            continue
        subtype = as_text(message.get("subtype"))
        if _SERVICE.fullmatch(subtype) or subtype == "tombstone":
            output.report.leave_out("deleted_message" if subtype == "tombstone" else "service")
            continue
        turn = _turn(message, names, output.report)
        if turn is None:
            output.reject(file, position, "not_a_message", message)
            continue
        output.report.keep()
        turn.set_time(read_time(message.get("ts"), zone), output.report)
        last = turn.timestamp.timestamp() if turn.timestamp else last
        turns.append((last, turn))


def _turn(message: dict[str, Any], names: _Names, report: ImportReport) -> DraftTurn | None:
    lines = [as_text(message.get("text")) or blocks_markup(message.get("blocks"))]
    lines += map(_part_markup, map(as_dict, as_list(message.get("attachments"))))
    text = "\n".join(_plain(line, names, report) for line in lines if line).strip()
    attachments = [_file(as_dict(file)) for file in as_list(message.get("files"))]
    user = as_text(message.get("user"))
    if not (user or text or attachments):
        return None
    if message.get("edited"):
        report.notes["edited"] += 1
    profile = as_dict(message.get("user_profile")) or as_dict(message.get("bot_profile"))
    other = (message.get("username"), profile.get("display_name"), profile.get("real_name"))
    shown_names = (as_text(name) for name in (*other, profile.get("name"), user, "bot"))
    ts, thread = as_text(message.get("ts")), as_text(message.get("thread_ts"))
    return DraftTurn(
        speaker=names.users.get(user) or next(filter(None, shown_names)),
        text=text,
        key=ts or None,
        reply_key=thread if thread and thread != ts else None,
        attachments=attachments,
    )


def _part_markup(part: dict[str, Any]) -> str:
    """An attachment in the older form of Slack's apps (a link preview, a card), a line each."""
    lines = [as_text(part.get(key)) for key in ("pretext", "author_name", "title", "text")]
    for field in map(as_dict, as_list(part.get("fields"))):
        lines.append(": ".join(filter(None, map(as_text, map(field.get, ("title", "value"))))))
    lines.append(blocks_markup(part.get("blocks")))
    return "\n".join(filter(None, lines)) or as_text(part.get("fallback"))


def _plain(text: str, names: _Names, report: ImportReport) -> str:
    """Slack's markup as text: mentions by name, links with their address, `&lt;` as `<`."""

    def token(match: re.Match[str]) -> str:
        sign, target, label = match[1], match[2], match[3] or ""
        if sign == "@":
            report.notes["unknown_user"] += target not in names.users
            return "@" + names.users.get(target, label.lstrip("@") or target)
        if sign == "#":
            return "#" + (label or names.titles.get(target) or target)
        if sign == "!":
            return label or "@" + target.split("^")[0]
        return f"{label} ({target})" if label and label not in target else target

    return html.unescape(_TOKEN.sub(token, text)).strip()


def _file(file: dict[str, Any]) -> Attachment:
    if file.get("mode") in ("tombstone", "hidden_by_limit"):
        return Attachment(kind="document")
    name = as_text(file.get("name"))
    kind = kind_of(name, as_text(file.get("mimetype")))
    if file.get("subtype") == "slack_audio":
        kind = "voice message"
    title = as_text(file.get("title"))
    file_id = as_text(file.get("id"))
    paths = (f"__uploads/{file_id}/{name}", f"attachments/{file_id}-{name}")  # as slackdump saves
    # `image.png` is the name of every pasted picture: it must not be looked up alone
    ref = name if telling(name) else f"{file_id}-{name}"
    return Attachment(kind=kind, refs=(*paths, ref), name=title or name or None)
