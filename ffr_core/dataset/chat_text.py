"""Clean one message: emojis, profanity, sensitive text, utterances that say nothing.

Source: Sec 4.2, as stated; what becomes of a message with a listed word is configuration (our
reading: profane words are removed, a sensitive message goes as a whole).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from ffr_core.dataset.ranges import check_ranges
from ffr_core.errors import NotFoundError

Action = Literal["remove", "drop_turn", "drop_dialogue", "keep"]
_EMOJI = re.compile(
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[#*0-9]\ufe0f?\u20e3"
    "|[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2190-\u21ff\u2300-\u23ff\u3030\u303d\u3297\u3299]"
    "[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*\u200d?)+"
)
_SHORT_CODE = re.compile(r"(?<![\w:]):[a-z][a-z0-9_+-]{1,30}:(?![\w:])")
_BRACKETED = re.compile(r"\[([^\[\]\s]{1,14})\]")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WordLists:
    """Entries of the filters; see the comments in the shipped files."""

    profanity: tuple[str, ...]
    sensitive: tuple[str, ...]
    void: frozenset[str]
    emoji_codes: frozenset[str]

    @classmethod
    def load(
        cls,
        profanity: Sequence[str] = (),
        sensitive: Sequence[str] = (),
        void: Sequence[str] = (),
    ) -> WordLists:
        """Read list files; an empty sequence means the shipped list."""
        return cls(
            profanity=tuple(_read("profanity.txt", profanity)),
            sensitive=tuple(_read("sensitive.txt", sensitive)),
            void=frozenset(_bare(line) for line in _read("void.txt", void)),
            emoji_codes=frozenset(
                code for line in _read("emoji_codes.txt", ()) for code in line.split()
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRules:
    """Settings of the preparation."""

    min_images: int = 2
    """Source: Sec 4.2, as stated."""
    max_turns: int = 100
    """Longer dialogues are split. Source: Sec 4.2, as stated."""
    profanity: Action = "remove"
    sensitive: Action = "drop_turn"
    mask_identifiers: bool = True
    anonymise: bool = True
    """Pseudonyms for speakers, and for their names inside texts."""

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range with ConfigError."""
        check_ranges(self, min_images=(0, math.inf), max_turns=(1, math.inf))


def clean_text(
    text: str, rules: ChatRules, words: WordLists, counts: Counter[str]
) -> tuple[str, str]:
    """The text without emojis and profanity, and why the message goes (or an empty text).

    A message that says nothing comes back as an empty text.
    """
    text, number = remove_emoji(text, words.emoji_codes)
    counts["emoji"] += number
    for name, entries, action in (
        ("sensitive", words.sensitive, rules.sensitive),
        ("profanity", words.profanity, rules.profanity),
    ):
        pattern = _pattern(entries)
        if action == "keep" or pattern is None or not pattern.search(text):
            continue
        if action == "remove":
            text, number = pattern.subn("", text)
            counts[f"{name}_removed"] += number
        else:
            return "", name if action == "drop_turn" else "drop_dialogue"
    text = re.sub(r"[ \t]{2,}", " ", text).strip()
    return ("" if is_void(text, words.void) else text), ""


def remove_emoji(text: str, codes: frozenset[str]) -> tuple[str, int]:
    """Remove emoji characters, `:codes:` and bracketed stickers; returns the number of places."""
    text, emoji = _EMOJI.subn("", text)
    text, short = _SHORT_CODE.subn("", text)
    bracketed = 0

    def sticker(match: re.Match[str]) -> str:
        nonlocal bracketed
        if match[1] not in codes:
            return match[0]
        bracketed += 1
        return ""

    text = _BRACKETED.sub(sticker, text)
    return text.replace("\ufe0f", "").replace("\u200d", ""), emoji + short + bracketed


def is_void(text: str, void: frozenset[str]) -> bool:
    """Whether a text is punctuation only or one of the listed fillers."""
    bare = _bare(text)
    return not bare or bare in void


def _bare(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _read(shipped: str, given: Sequence[str]) -> Iterable[str]:
    folder = Path(str(resources.files("ffr_core"))) / "data" / "chatlog"
    for path in [Path(name) for name in given] or [folder / shipped]:
        if not path.is_file():
            raise NotFoundError(f"there is no word list {path}; check [lists]")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.strip()


@cache
def _pattern(entries: tuple[str, ...]) -> re.Pattern[str] | None:
    """One pattern for all entries: Latin ones as whole words, Chinese ones anywhere."""
    parts: list[str] = []
    for entry in sorted(entries, key=len, reverse=True):
        stem = entry.removesuffix("*")
        ending = r"\w*" if entry.endswith("*") else ""
        escaped = re.escape(stem)
        parts.append(escaped if _HAN.search(entry) else rf"(?<!\w){escaped}{ending}(?!\w)")
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None
