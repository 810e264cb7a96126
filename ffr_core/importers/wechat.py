"""WeChat exports as CSV or JSON, in the columns that common export tools write.

| column | meaning | also read as |
|---|---|---|
| `time` | ISO 8601, `2021-12-31 21:41:05`, (milli)seconds since 1970 | CreateTime, StrTime, 时间 |
| `sender` | name as shown | senderName, Remark, NickName, talker, 发送人, 昵称 |
| `type` | a word, or WeChat's number (1 text, 3 image, 34 voice, ...) | type_name, 类型 |
| `content` | the text; of an image, its caption | StrContent, msg, 内容, 消息 |
| `path` | file of an image or other media, relative to the export | src, file, image, 路径 |
| `chat` | optional: the conversation; several make several dialogues | room_name, talkerName |
| `chat_id` | optional: tells conversations apart where `chat` is missing | TalkerId |
| `id`, `reply_to` | optional: a message's id, the id it answers | MsgSvrID, seq, 编号 |
| `is_sender` | optional: 1 for the owner, `me` where no name is given | isSelf, IsSender |

Replies, link and file cards, places and contact cards that a tool leaves in WeChat's XML are read
for their words.

JSON is a list of objects with these keys, or an object with such a list in `messages` (or `data`,
`list`) and the name of the chat in `name` or `chat`. Column names ignore case.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo

from ffr_core.errors import RecordError
from ffr_core.importers.base import Output
from ffr_core.importers.drafts import DraftDialogue, DraftTurn, reject_file, write_dialogue
from ffr_core.importers.media import Attachment, kind_of
from ffr_core.importers.source import Source
from ffr_core.importers.text import MARKS, as_dict, as_text, decode, parse_json
from ffr_core.importers.times import decide_order, find_stamp, read_time

UNIT = "row"
EXPECTS = (
    "a WeChat export: .csv or .json with the columns time, sender, type, content and path"
    " (or those of common export tools), or a folder or .zip with such files"
)

_COLUMNS = {
    "time": "createtime create_time timestamp time datetime date strtime 时间 日期 发送时间",
    "sender": "sendername sender_name remark nickname 昵称 发送人 發送人 发送者 from sender talker",
    "type": "type_name type msg_type 类型 消息类型 類型",
    "content": "content strcontent msg text message 内容 消息 消息内容 內容",
    "path": "path src file image file_path media 路径 文件 图片",
    "chat": "chat room_name talkername chat_name room 聊天 会话 群聊",
    "chat_id": "talkerid talker_id chat_id chatid",
    "id": "id msgsvrid seq server_id localid 编号",
    "reply_to": "reply_to refermsgid quote_id",
    "is_sender": "is_sender isself issender is_self",
}
"""Our columns and the names they are read from, best first: of several, the first filled counts."""
_TYPES = {
    "text": "1 text 文本 文字 文本消息 引用 引用消息",
    "image": "3 image picture photo img 图片 图片消息 圖片",
    "voice message": "34 voice audio 语音 语音消息 語音",
    "contact": "42 card contact 名片",
    "video": "43 62 video 视频 视频消息 小视频 影片",
    "sticker": "47 sticker emoji emoticon 动画表情 表情 表情包 贴图",
    "location": "48 location 位置 地理位置",
    "document": "file 文件",
    "link": "49 link app share 链接 卡片式链接 分享 小程序",
    "call": "50 call voip 通话 语音通话 视频通话",
    "deleted": "10002 revoke recall 撤回 撤回消息",
    "system": "10000 system 系统 系统消息 系统通知 系統",
}
_KIND_OF_TYPE = {word: kind for kind, words in _TYPES.items() for word in words.split()}
_WORDS = ("text", "link", "location", "contact", "call")  # types whose content is their text
_QUOTE, _FILE = "57", "6"  # values of <type> in an <appmsg>

Row = Mapping[str, object]


def read(source: Source, output: Output, zone: tzinfo, date_order: str) -> None:
    """Read every chat of an export; see the head of this file."""
    for name in source.with_endings(".csv", ".json"):
        try:
            text = decode(source.read(name), output.report, chinese=True)
            is_csv = name.lower().endswith(".csv")
            title, rows = _csv_rows(text, name) if is_csv else _json_rows(text, name)
        except RecordError as error:
            reject_file(output, name, error)
            continue
        for chat in _chats(title, rows, name, output, zone, date_order):
            write_dialogue(chat, source, output)


def _csv_rows(text: str, name: str) -> tuple[str, list[object]]:
    """The rows of a CSV file (comma, semicolon or tab); a row that cannot be read is a string."""
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").lstrip(MARKS)
    first = text.split("\n", 1)[0]
    cells = _cells(text, max(",;\t", key=first.count))
    header = next(cells, None)
    if not isinstance(header, list):
        header = []
    known = _row((column, "x") for column in header)
    if "content" not in known or not {"time", "sender"} & set(known):
        raise RecordError("not_a_chat", f"{name} has no columns time, sender and content")
    rows: list[object] = []
    for row in cells:
        if isinstance(row, str) or len(row) > len(header):
            rows.append(str(row))
        else:
            rows.append(_row((key, cell.strip()) for key, cell in zip(header, row, strict=False)))
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0], rows


def _cells(text: str, delimiter: str) -> Iterator[list[str] | str]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"row {reader.line_num}: {error}"


def _json_rows(text: str, name: str) -> tuple[str, list[object]]:
    root = parse_json(text, name)
    title = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if isinstance(root, dict):
        names = (root.get(key) for key in ("name", "chat", "talkerName", "nickname"))
        title = next(filter(None, map(as_text, names)), title)
        lists = (root.get(key) for key in ("messages", "data", "list"))
        root = next((value for value in lists if isinstance(value, list)), None)
    if not isinstance(root, list):
        raise RecordError("not_a_chat", f"{name} holds no list of messages")
    return title, [_row(row.items()) if isinstance(row, dict) else [row] for row in root]


def _row(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """The filled cells under our column names; `other` stands for columns we do not read."""
    filled = {str(key).strip(MARKS + " ").lower(): value for key, value in pairs if value != ""}
    row: dict[str, object] = {}
    for ours, aliases in _COLUMNS.items():
        values = (filled.get(alias) for alias in aliases.split())
        if (value := next((v for v in values if v is not None), None)) is not None:
            row[ours] = value
    if filled and not row:
        row["other"] = "x"
    return row


def _chats(
    title: str, rows: list[object], file: str, output: Output, zone: tzinfo, date_order: str
) -> Iterator[DraftDialogue]:
    report = output.report
    stamps = (find_stamp(as_dict(row).get("time")) for row in rows)
    order = decide_order(filter(None, stamps), date_order)
    ids = {chat_id for row in rows if (chat_id := as_text(as_dict(row).get("chat_id")))}
    chats: dict[str, DraftDialogue] = {}
    for position, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            reason = "bad_row" if isinstance(row, str) else "not_a_message"
            output.reject(file, position, reason, row)
            continue
        if not any(as_text(value) for key, value in row.items() if key != "chat_id"):
            report.leave_out("blank")
            continue
        kind = _KIND_OF_TYPE.get(as_text(row.get("type")).strip().lower())
        if kind in ("system", "deleted"):
            report.leave_out("service" if kind == "system" else "deleted_message")
            continue
        turn = _turn(row, kind)
        if turn is None:
            output.reject(file, position, "no_content", dict(row))
            continue
        report.keep()
        turn.set_time(read_time(row.get("time"), zone, order), report)
        name = as_text(row.get("chat"))
        if not name:
            # One id alone says no more than the file's name does.
            name = f"{title} {as_text(row.get('chat_id'))}".strip() if len(ids) > 1 else title
        chat = chats.setdefault(name, DraftDialogue(format="wechat", name=name, file=file))
        chat.turns.append(turn)
    yield from chats.values()


def _turn(row: Row, kind: str | None) -> DraftTurn | None:
    content, path = as_text(row.get("content")), as_text(row.get("path"))
    if kind is None and path:
        kind = kind_of(path)
    if not (content or path or kind not in (None, "text")):
        return None
    mine = as_text(row.get("is_sender")).lower() in ("1", "true") or row.get("is_sender") is True
    sender = as_text(row.get("sender")).strip()
    if mine and (not sender or sender.startswith("wxid_")):
        sender = "me"
    turn = DraftTurn(
        speaker=sender or "?",
        text=_card(content) if content.lstrip().startswith(("<msg", "<?xml")) else content,
        written_time=as_text(row.get("time")),
        key=as_text(row.get("id")) or None,
        reply_key=as_text(row.get("reply_to")) or None,
    )
    if kind in _WORDS and turn.text and not path:
        return turn
    if kind is not None and kind != "text":
        if kind == "document" and path:
            kind = kind_of(path)
        name = path.replace("\\", "/").rsplit("/", 1)[-1] or None
        turn.attachments.append(Attachment(kind=kind, refs=(path,) if path else (), name=name))
        if turn.text.strip("[]【】") in _KIND_OF_TYPE:  # "[图片]": the tool's word for the type
            turn.text = ""
    return turn


def _card(xml: str) -> str:
    """The words of a message in WeChat's XML; empty for pictures, sounds and stickers."""
    if "<appmsg" in xml:
        title, form = _inside(xml, "title"), _inside(xml, "type")
        if form == _QUOTE:
            return title  # the quoted message stands above
        if form == _FILE:
            return f"[document: {title}]" if title else ""
        return " ".join(filter(None, ("[link]", title, _inside(xml, "des"), _inside(xml, "url"))))
    if "<location" in xml:
        names = (_attribute(xml, "poiname"), _attribute(xml, "label"))
        where = ", ".join(filter(None, names))
        return f"[location: {where}]" if where else ""
    name = _attribute(xml, "nickname")
    return f"[contact: {name}]" if name else ""


def _inside(xml: str, tag: str) -> str:
    """Text of the first such element, in a form that damage and entity bombs cannot upset."""
    text, closed, _ = xml.partition(f"<{tag}>")[2].partition(f"</{tag}>")
    text = text.strip().removeprefix("<![CDATA[").removesuffix("]]>")
    return html.unescape(text).strip() if closed else ""


def _attribute(xml: str, name: str) -> str:
    found = re.search(rf'\s{name}\s?=\s?"([^"]*)"', xml)
    return html.unescape(found[1]).strip() if found else ""
