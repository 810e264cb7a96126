"""The prompts of the dataset steps: TOML files in English and Chinese, filled with one JSON line.

A file has the tables `[merge]`, `[tag]`, `[qa]` and `[retry]`. The user text of a task holds
`$input`, which is replaced by one line of JSON; typed text is escaped inside it, so that no chat
can forge a marker or a chat-template token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ffr_core.config import Config, read_toml
from ffr_core.errors import ConfigError
from ffr_core.generation import Message
from ffr_core.markup import escape, unescape

Task = Literal["merge", "tag", "qa"]
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese (简体中文)"}


class TaskText(Config):
    """The texts of one task."""

    system: str
    user: str
    """Holds `$input` once."""


class MergeText(TaskText):
    """The texts of merging."""

    captions: str
    """Follows the user text where captions are to be translated."""


class RetryText(Config):
    """What follows an answer that fails a check."""

    user: str
    """Holds `$problem` once."""


class _File(Config):
    merge: MergeText
    tag: TaskText
    qa: TaskText
    retry: RetryText


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPrompts:
    """The prompts of one language."""

    texts: _File

    @classmethod
    def load(cls, name_or_path: str) -> DatasetPrompts:
        """Read `en`, `zh` or a file of the same form; ConfigError where a slot is missing."""
        if name_or_path in LANGUAGE_NAMES:
            folder = Path(str(resources.files("ffr_core"))) / "data" / "prompts"
            path = folder / f"dataset_{name_or_path}.toml"
        else:
            path = Path(name_or_path)
        texts = _File.parse(read_toml(path), str(path))
        slots = [(t.user, "$input") for t in (texts.merge, texts.tag, texts.qa)]
        for text, slot in [*slots, (texts.retry.user, "$problem")]:
            if text.count(slot) != 1:
                raise ConfigError(f"{path}: a user text needs {slot} exactly once")
        return cls(texts=texts)

    def messages(self, task: Task, payload: Mapping[str, Any]) -> tuple[Message, ...]:
        """System and user message; the payload becomes one line that starts with `{"task": `.

        A payload with `captions` adds what is to be done with them.
        """
        text: TaskText = getattr(self.texts, task)
        line = json.dumps({"task": task, **_escaped(payload)}, ensure_ascii=False)
        user = text.user.strip().replace("$input", line)
        if isinstance(text, MergeText) and payload.get("captions"):
            user += "\n\n" + text.captions.strip()
        return (
            Message(role="system", parts=(text.system.strip(),)),
            Message(role="user", parts=(user,)),
        )

    @property
    def retry_text(self) -> str:
        """Holds `$problem`."""
        return self.texts.retry.user.strip()


def payload_of(messages: tuple[Message, ...]) -> dict[str, Any]:
    """Read the payload of a prompt back; what a scripted engine starts from."""
    text = "".join(part for part in messages[1].parts if isinstance(part, str))
    line = next(line for line in text.splitlines() if line.startswith('{"task": '))
    payload: dict[str, Any] = _mapped(json.loads(line), unescape)
    return payload


def _escaped(payload: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = _mapped(dict(payload), escape)
    return result


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
