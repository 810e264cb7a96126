"""The words of Slack's Block Kit, which apps send in place of a message's text.

Source: https://api.slack.com/reference/block-kit/blocks. Buttons, menus and inputs are left out.
"""

from __future__ import annotations

import html
from typing import Any

from ffr_core.importers.text import as_dict, as_list, as_text

_ONE_LINE = ("rich_text_section", "rich_text_preformatted", "rich_text_quote")
_WITHOUT_WORDS = ("actions", "button", "input", "file")
_DEPTH = 20
"""Levels of blocks that are read; real ones have five."""


def blocks_markup(blocks: object) -> str:
    """Blocks in Slack's markup, in which text messages are written too; a line for each part."""
    return "\n".join(_markups(blocks, _DEPTH))


def _markups(nodes: object, depth: int) -> list[str]:
    found = [_markup(as_dict(node), depth - 1) for node in as_list(nodes)] if depth else []
    return [markup for markup in found if markup]


def _markup(node: dict[str, Any], depth: int) -> str:
    kind, text = as_text(node.get("type")), node.get("text")
    if kind in _WITHOUT_WORDS:
        return ""
    if kind == "text":  # of rich text, the only one that is not escaped yet
        return html.escape(as_text(text), quote=False)
    if kind in ("link", "user", "channel", "broadcast", "emoji"):
        return _token(kind, node)
    if kind == "image":
        return _words(node.get("title")) or as_text(node.get("alt_text"))
    inner = _markups(node.get("elements"), depth)
    if kind in _ONE_LINE:
        return "".join(inner)
    fields = map(_words, as_list(node.get("fields")))
    return "\n".join(filter(None, (_words(text), *fields, *inner)))


def _words(text: object) -> str:
    """A text, or a text object such as `{"type": "mrkdwn", "text": "*web* failed"}`."""
    return as_text(text) or as_text(as_dict(text).get("text"))


def _token(kind: str, node: dict[str, Any]) -> str:
    if kind == "link":
        url, label = as_text(node.get("url")), html.escape(as_text(node.get("text")), quote=False)
        return f"<{url}|{label}>" if label else f"<{url}>"
    forms = {"user": "<@{user_id}>", "channel": "<#{channel_id}>", "broadcast": "<!{range}>"}
    values = {key: as_text(node.get(key)) for key in ("user_id", "channel_id", "range", "name")}
    return forms.get(kind, ":{name}:").format(**values)
