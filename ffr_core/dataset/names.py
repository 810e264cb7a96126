"""Find people's names in chats, Latin and Chinese, and put pseudonyms in their place.

A person is called by the whole name, the first name or the surname (Anna Smith: Anna, Smith), in
Chinese by the given name (王小明: 小明); all forms get one pseudonym. Of two people with the same
short form the first counts. Titles, kinship and ordinary words in a name (Dr. Smith, Uncle Bob, The
Boss, 李明(财务)) are no short forms.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ffr_core.dataset.content_words import stop_words, tagged_words, word_list
from ffr_core.dataset.privacy import Pseudonyms

_LATIN = r"A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_OTHER_LETTER = re.compile(rf"[^\W\d_{_LATIN}]")
_HAN = r"[\u3400-\u9fff]"
_SPLIT = re.compile(r"[\s()（）\[\]【】]+")
_CHINESE_SURNAMES = (
    *"王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢",
    *"姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施樊",
    *("欧阳", "司马", "上官", "诸葛", "慕容", "司徒", "东方", "皇甫", "尉迟", "令狐", "夏侯"),
)
_FIRST_NAMES = frozenset({"will", "may", "don"})
"""Stop words that are names too."""
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
        stripped = (word.strip(_AROUND) for word in _SPLIT.split(speaker))
        words = [word for word in stripped if any(c.isalpha() for c in word)]
        first = [word for word in words[:1] if not re.search(_HAN, word) and not _is_ordinary(word)]
        for form in (*first, *_chinese_forms(speaker)):
            names.setdefault(form, pseudonym)
        for surname in _surnames(words[1:]):
            surnames.setdefault(surname, pseudonym)
    return NameTable(names=names, surnames=surnames)


def replace_names(text: str, table: NameTable) -> tuple[str, int]:
    """Replace people's names by pseudonyms; returns the text and the number of places.

    Latin names match whole words (Chinese text may touch them) in any case, but as they are written
    where they are also ordinary words (Will, Customer Support) or have two letters; Latin surnames
    need their capital. Other names match anywhere. The longest name wins. Names of one character
    and Chinese ones like 妈妈 are left alone: they would hit ordinary words.
    """
    known = {**table.surnames, **table.names}
    forms = [(name, _surname_pattern(name)) for name in table.surnames if name not in table.names]
    forms += [(name, _name_pattern(name)) for name in table.names if _is_telling(name)]
    if not forms:
        return text, 0
    forms.sort(key=lambda form: len(form[0]), reverse=True)
    pattern = re.compile("|".join(f"({form})" for _, form in forms))
    # By the group and not by the text that was found: `İ` matches `i` in any case.
    return pattern.subn(lambda match: known[forms[(match.lastindex or 1) - 1][0]], text)


def titles() -> frozenset[str]:
    """The shipped list of titles, kinship and roles in the names of speakers."""
    return word_list("titles")


def _chinese_forms(speaker: str) -> Iterator[str]:
    """The Chinese names in a speaker's name, and the given names of those of three and four.

    Example:
        王小明: 王小明, 小明; 张 伟 William: 张伟; 李明(财务): 李明; 欧阳小明: 欧阳小明, 小明;
        不知道 (somebody's nickname): 不知道 without a given name.
    """
    runs = re.findall(f"{_HAN}+", speaker)
    if len(runs) > 1 and runs[0] in _CHINESE_SURNAMES:
        runs[:2] = [runs[0] + runs[1]]
    for position, name in enumerate(runs):
        if name != speaker and not _may_be_name(name, first=position == 0):
            continue
        yield name
        given = name[1:] if len(name) == 3 else name[2:]
        if len(name) > 2 and not _is_ordinary(given):
            yield given


def _may_be_name(name: str, *, first: bool) -> bool:
    """Whether a part of a speaker's name names a person; not 财务, 周末, 北京分公司.

    The first part may be a nickname; a word of the dictionary in it needs a surname (高峰).
    """
    if len(name) < 2 or _is_ordinary(name):
        return False
    has_surname = name.startswith(_CHINESE_SURNAMES)
    tags = [tag for _, tag in tagged_words(name)]
    if len(tags) > 1 or tags[0].startswith("nr"):
        return first or has_surname
    return first and has_surname and tags[0] != "ns" and tags[0][0] not in "tdrmpcq"


def _surnames(further: list[str]) -> Iterator[str]:
    """Words after the first that may be a surname, with a capital.

    The last word, and earlier ones when they are written with a capital: of "Tom From the García
    Márquez" García and Márquez.
    """
    for position, word in enumerate(further, start=1):
        named = word[0].isupper() or position == len(further)
        long_enough = len(word) >= _MIN_SURNAME and _is_latin(word)
        if named and long_enough and not _is_ordinary(word):
            yield word[0].upper() + word[1:]


def _is_ordinary(word: str) -> bool:
    word = word.lower()
    return (word in stop_words() or word in titles()) and word not in _FIRST_NAMES


def _is_telling(name: str) -> bool:
    return len(name) > 1 and (_is_latin(name) or not _is_ordinary(name))


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
    ordinary = all(word in stop_words() or word in titles() for word in name.lower().split())
    return _whole(escaped if len(name) < 3 or ordinary else f"(?i:{escaped})")
