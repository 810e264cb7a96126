"""Find people's names in chats, Latin and Chinese, and put pseudonyms in their place.

A person is called by the whole name, the first name or the surname (Anna Smith: Anna, Smith), in
Chinese by the given name (王小明: 小明); all forms get one pseudonym. Of two people with the same
short form the first counts.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ffr_core.dataset.content_words import stop_words
from ffr_core.dataset.privacy import Pseudonyms

_LATIN = r"A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_OTHER_LETTER = re.compile(rf"[^\W\d_{_LATIN}]")
_CHINESE_NAME = re.compile(r"[\u3400-\u9fff]{3,}")
_AROUND = string.punctuation + "，。（）【】《》“”‘’"
_MIN_SURNAME = 3
"""Letters; shorter Latin surnames (Li, Xu) would hit too many other words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """What people are called, with their pseudonyms."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Whole names, first names and Chinese given names -> pseudonym."""
    surnames: Mapping[str, str] = field(default_factory=dict)
    """Latin surnames, which count only with their capital (Brown, not brown) -> pseudonym."""


def name_table(speakers: Iterable[str], pseudonyms: Pseudonyms) -> NameTable:
    """Pseudonyms of speakers, by whole names and the shorter forms; see the module text."""
    whole = {speaker: pseudonyms.speaker(speaker) for speaker in speakers}
    names, surnames = dict(whole), dict[str, str]()
    for speaker, pseudonym in whole.items():
        stripped = (word.strip(_AROUND) for word in speaker.split())
        words = [word for word in stripped if any(c.isalpha() for c in word)]
        for form in (*words[:1], *_chinese_forms([*words, "".join(words)])):
            names.setdefault(form, pseudonym)
        for surname in _surnames(words[1:]):
            surnames.setdefault(surname, pseudonym)
    return NameTable(names=names, surnames=surnames)


def replace_names(text: str, table: NameTable) -> tuple[str, int]:
    """Replace people's names by pseudonyms; returns the text and the number of places.

    Latin names match whole words (Chinese text may touch them) in any case, but as they are written
    where they are also ordinary words (Will, May) or have two letters; Latin surnames need their
    capital. Other names match anywhere. The longest name wins. Names of one character are left
    alone: they would hit ordinary words.
    """
    known = {**table.surnames, **table.names}
    forms = [(name, _surname_pattern(name)) for name in table.surnames if name not in table.names]
    forms += [(name, _name_pattern(name)) for name in table.names if len(name) > 1]
    if not forms:
        return text, 0
    forms.sort(key=lambda form: len(form[0]), reverse=True)
    pattern = re.compile("|".join(f"({form})" for _, form in forms))
    # By the group and not by the text that was found: `İ` matches `i` in any case.
    return pattern.subn(lambda match: known[forms[(match.lastindex or 1) - 1][0]], text)


def _chinese_forms(candidates: Iterable[str]) -> Iterator[str]:
    """Chinese names of three or more characters, and their given names.

    Example:
        王小明: 小明; 欧阳小明: 小明; 不知道 (somebody's nickname) has no given name.
    """
    for name in candidates:
        if _CHINESE_NAME.fullmatch(name):
            yield name
            given = name[1:] if len(name) == 3 else name[2:]
            if given not in stop_words():
                yield given


def _surnames(further: list[str]) -> Iterator[str]:
    """Words after the first that may be a surname, with a capital.

    The last word always, earlier ones when they are written with a capital and say something:
    of "Tom From the García Márquez" García and Márquez.
    """
    for position, word in enumerate(further, start=1):
        named = word[0].isupper() and word.lower() not in stop_words()
        if len(word) >= _MIN_SURNAME and _is_latin(word) and (named or position == len(further)):
            yield word[0].upper() + word[1:]


def _is_latin(name: str) -> bool:
    return not _OTHER_LETTER.search(name)


def _whole(pattern: str) -> str:
    return rf"(?<![\d_{_LATIN}]){pattern}(?![\d_{_LATIN}])"


def _surname_pattern(name: str) -> str:
    return _whole(f"{re.escape(name[0])}(?i:{re.escape(name[1:])})")


def _name_pattern(name: str) -> str:
    escaped = re.escape(name)
    if not _is_latin(name):
        return escaped
    return _whole(escaped if len(name) < 3 or name.lower() in stop_words() else f"(?i:{escaped})")
