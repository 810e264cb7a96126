"""Prompts for the two tasks, from TOML templates in English and Chinese.

A template is a user text with the slots `{dialogue}` and (to localize) `{query}`; their order is
the template's. `{{` and `}}` stand for braces. A file may replace ours, for checkpoints that were
trained elsewhere. Shipped files: `default` (query after the dialogue, so that queries share a
prefix cache; our choice), `paper` (query first; authors' setting), `compact` and
`compact-query-first` (no instructions, for tiny models).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Literal

from pydantic import Field

from ffr_core.config import Config
from ffr_core.errors import ConfigError
from ffr_core.generation import Message
from ffr_core.markup import render_dialogue, render_query
from ffr_core.types import Dialogue, Image

Part = str | Image
Task = Literal["localize", "segment"]
SLOTS: Mapping[Task, frozenset[str]] = {
    "localize": frozenset({"dialogue", "query"}),
    "segment": frozenset({"dialogue"}),
}
"""The slots that a template of each task must hold, each once."""


class PromptText(Config):
    """One table `[task.language]` of a prompt file."""

    user: str
    """Text of the user message, with slots."""
    system: str | None = None
    """Text of the system message; None leaves it to the chat template."""


class PromptFile(Config):
    """A prompt file: tables `[localize.en]`, `[localize.zh]`, `[segment.en]`, `[segment.zh]`."""

    localize: dict[Literal["en", "zh"], PromptText] = Field(default_factory=dict)
    """Templates that ask for a selection."""
    segment: dict[Literal["en", "zh"], PromptText] = Field(default_factory=dict)
    """Templates that ask for clusters."""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template: literal text and slot names, in order."""

    pieces: tuple[tuple[str, str | None], ...]
    """Literal text, then the slot that follows it (None at the end)."""
    system: str | None

    def fill(self, slots: Mapping[str, tuple[Part, ...]]) -> tuple[Message, ...]:
        """Build the messages; neighboring texts become one part."""
        parts: list[Part] = []
        for literal, slot in self.pieces:
            for part in (literal, *(slots[slot] if slot else ())):
                if isinstance(part, str) and parts and isinstance(parts[-1], str):
                    parts[-1] += part
                elif part:
                    parts.append(part)
        user = Message(role="user", parts=tuple(parts))
        if self.system is None:
            return (user,)
        return (Message(role="system", parts=(self.system,)), user)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Checked templates by task and language."""

    name: str
    """Shipped name or path."""
    fingerprint: str
    """Hash of the texts; changes whenever a prompt does."""
    templates: Mapping[tuple[Task, str], Template]

    @classmethod
    def load(cls, name_or_path: str = "default") -> Prompts:
        """Read a shipped file by name, or a `.toml` path.

        Raises:
            ConfigError: No such file, or a slot that is unknown, missing or repeated.
        """
        file = PromptFile.load(_find(name_or_path))
        templates: dict[tuple[Task, str], Template] = {}
        tasks: tuple[tuple[Task, Mapping[Literal["en", "zh"], PromptText]], ...] = (
            ("localize", file.localize),
            ("segment", file.segment),
        )
        for task, texts in tasks:
            for language, text in texts.items():
                where = f"{name_or_path}: [{task}.{language}]"
                templates[task, language] = Template(
                    pieces=_parse(text.user, SLOTS[task], where), system=text.system
                )
        if not templates:
            raise ConfigError(
                f"{name_or_path} holds no template; add a table such as [localize.en]"
            )
        content = json.dumps(file.model_dump(), sort_keys=True)
        return cls(
            name=name_or_path,
            fingerprint=hashlib.sha256(content.encode()).hexdigest()[:16],
            templates=templates,
        )

    def localize(
        self, dialogue: Dialogue, query: str, language: str | None = None
    ) -> tuple[Message, ...]:
        """Ask which turns and images answer `query`; both are escaped.

        Args:
            dialogue: Its own ids are shown; pass a local view for a fragment.
            query: As typed.
            language: ISO 639-1 code of the instructions; the dialogue's own when left out.
        """
        slots = {"dialogue": render_dialogue(dialogue), "query": (render_query(query),)}
        return self._template("localize", dialogue, language).fill(slots)

    def segment(self, dialogue: Dialogue, language: str | None = None) -> tuple[Message, ...]:
        """Ask for clusters of turn ids."""
        slots = {"dialogue": render_dialogue(dialogue)}
        return self._template("segment", dialogue, language).fill(slots)

    def _template(self, task: Task, dialogue: Dialogue, language: str | None) -> Template:
        wanted = language or dialogue.language or _guess_language(dialogue)
        for code in ("zh", "en") if wanted.lower().startswith("zh") else ("en", "zh"):
            if (task, code) in self.templates:
                return self.templates[task, code]
        raise ConfigError(f"prompt file {self.name!r} has no template to {task}; add [{task}.en]")


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    folder = Path(str(resources.files("ffr_core"))) / "data" / "prompts"
    path = folder / f"{name_or_path}.toml"
    names = sorted(p.stem for p in folder.glob("*.toml"))
    if name_or_path not in names:
        raise ConfigError(
            f"there are no prompts {name_or_path!r}; use one of {', '.join(names)} or a .toml path"
        )
    return path


def _parse(text: str, wanted: frozenset[str], where: str) -> tuple[tuple[str, str | None], ...]:
    """Split a template at its slots."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; write {{{{ and }}}} for braces") from error
    slots = sorted(slot for _, slot, _, _ in fields if slot is not None)
    plain = all(not spec and not conversion for _, slot, spec, conversion in fields if slot)
    if slots != sorted(wanted) or not plain:
        raise ConfigError(
            f"{where}: slots {slots} found, expected each of {sorted(wanted)} exactly once;"
            " write {{ and }} for braces"
        )
    return tuple((literal, slot) for literal, slot, _, _ in fields)


def _guess_language(dialogue: Dialogue) -> str:
    """Chinese when more than a fifth of the letters of the first turns are Han characters."""
    sample = "".join(turn.text for turn in dialogue.turns[:20])
    letters = sum(character.isalpha() for character in sample)
    han = sum("一" <= character <= "鿿" for character in sample)
    return "zh" if han * 5 > letters else "en"
