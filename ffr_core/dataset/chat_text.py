"""Clean one message: emojis, profanity, sensitive text, utterances that say nothing.

Source: Sec 4.2, as stated; what becomes of a message with a listed word is configuration (our
reading: profane words are removed, a sensitive message goes as a whole).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Literal

from ffr_core.dataset.content_words import tagged_words
from ffr_core.dataset.ranges import check_ranges
from ffr_core.errors import NotFoundError

Action = Literal["remove", "drop_turn", "drop_dialogue", "keep"]
_EMOJI_ALONE = (
    r"\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1"
    r"\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705"
    r"\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50"
    r"\u2b55"
)
"""Below U+10000, what Unicode shows as a picture by itself (Emoji_Presentation). The others, as
arrows and ticks, are emoji only before U+FE0F or a skin color.
Source: Unicode's emoji-data.txt, as stated."""
_EMOJI_TEXT = r"[\u2190-\u2bff\u3030\u303d\u3297\u3299]"
_EMOJI = re.compile(
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[#*0-9]\ufe0f?\u20e3"
    rf"|(?:[\U0001f000-\U0001faff{_EMOJI_ALONE}]|{_EMOJI_TEXT}(?=[\ufe0f\U0001f3fb-\U0001f3ff]))"
    "[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
    rf"(?:\u200d(?:{_EMOJI_TEXT}\ufe0f?)?)*)+"
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
        places = [] if action == "keep" else find_entries(text, entries)
        if not places:
            continue
        if action != "remove":
            return "", name if action == "drop_turn" else "drop_dialogue"
        for start, end in reversed(places):
            text = text[:start] + text[end:]
        counts[f"{name}_removed"] += len(places)
    text = re.sub(r"[ \t]{2,}", " ", text).strip()
    return ("" if is_void(text, words.void) else text), ""


def find_entries(text: str, entries: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where a text has listed words: half-open ranges in order, without overlaps.

    Latin entries match whole words in any case, with any ending after a `*`. Chinese ones match
    where they are one or several whole words: of 我操, 我操作电脑 only the first has 我操.
    """
    latin, chinese = _compiled(entries)
    places = [match.span() for match in latin.finditer(text)] if latin else []
    if any(entry in text.lower() for entry in chinese):
        places += _chinese_entries(text, chinese)
    kept: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def _chinese_entries(text: str, entries: frozenset[str]) -> Iterator[tuple[int, int]]:
    bounds = list(accumulate((len(word) for word, _ in tagged_words(text)), initial=0))
    ends, longest, free = set(bounds), max(map(len, entries)), 0
    for start in bounds:
        for end in range(start + longest, start, -1):
            if start >= free and end in ends and text[start:end].lower() in entries:
                free = end
                yield start, end


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
def _compiled(entries: tuple[str, ...]) -> tuple[re.Pattern[str] | None, frozenset[str]]:
    """One pattern for the Latin entries, and the Chinese ones in lower case."""
    chinese = frozenset(entry.removesuffix("*").lower() for entry in entries if _HAN.search(entry))
    parts: list[str] = []
    for entry in sorted(entries, key=len, reverse=True):
        if not _HAN.search(entry):
            ending = r"\w*" if entry.endswith("*") else ""
            parts.append(rf"(?<!\w){re.escape(entry.removesuffix('*'))}{ending}(?!\w)")
    return (re.compile("|".join(parts), re.IGNORECASE) if parts else None), chinese
