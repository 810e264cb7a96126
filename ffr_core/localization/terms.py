"""What the localizer reads in words: terms of turns, and the form of a query.

Its tokens are cheaper than those of BM25: lightly stemmed words, and pairs of neighbouring
characters for Chinese and Japanese, so that a candidate costs well under a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_JOINED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_RUN = re.compile(rf"[{_JOINED}]+|[^\W_{_JOINED}]+")
_HAS_JOINED = re.compile(rf"[{_JOINED}]")
_VOWEL = re.compile(r"[aeiouy]")

_STOP = """
a about after all also am an and any are as at be been but by can could d did do does doing done
for from get go got had has have he her him his how i if in into is it its just know let like ll
m may me might more my no not of oh ok on one or our out re s say she should so some t tell than
that the their them then there these they thi thing think this those to too up us ve wa was we
well were what when where which while who whom whose why will with would yeah yes you your doe
hav mor ther wer wher whos thes thos mak wil
什么 怎么 为什 么时 时候 哪个 哪里 哪儿 哪天 哪些 是不 不是 多少 谁的 了吗
的是 是什 么样 样的 是谁 的那 那个 这个 我们 你们 他们 一个 有没 没有
是怎 几点 是多 的时 关于 最后
"""
STOP_TERMS = frozenset(_STOP.split())
"""Terms that say little about the content, as `terms` returns them."""

_FORMS = {
    "who": r"\b(who|whose|whom)\b|谁|哪位",
    "when": r"\b(when|what (time|day|date|year|month)|which (day|date|month|year)|how long)\b"
    r"|几点|哪天|什么时候|何时|几号|多久|哪一天|几月|时间",
    "where": r"\b(where|which (place|city|country|town)|address)\b|哪里|哪儿|在哪|地址|什么地方",
    "number": r"\b(how (many|much|old|far|often|big)|price|cost|total|number)\b|多少|几个|几次|价",
    "reason": r"\b(why|how come|reason|how (did|do|does|was|were|is|are))\b|为什么|怎么|原因|为何",
    "picture": r"\b(photo|picture|pic|image|screenshot|selfie|sketch|drawing|snapshot)s?\b"
    r"|照片|图|截屏|画",
    "broad": r"\b(summari[sz]e|summary|discuss\w*|opinions?|describe|overview|conclu\w+|think (of"
    r"|about)|elaborate|meeting|topic|talk(ed)? about|attitude|feel about)\b"
    r"|讨论|总结|观点|概述|看法|介绍|分析|问题的|意义",
    "polar": r"^(did|does|do|is|are|was|were|has|had|have|can|could|will|would)\b|吗|是否|有没有",
}
_SUMMARY = re.compile(r"\b(summari[sz]e|summary|overview|recap)\b|总结|概述|概括", re.I)
_FORMS_COMPILED = {name: re.compile(pattern, re.I) for name, pattern in _FORMS.items()}
_QUESTION = re.compile(r"[?？]\s*$|吗|呢|什么|怎么|哪|谁|为何|多少|几", re.I)
_WH = re.compile(r"^\W*(who|whose|what|when|where|which|why|how)\b", re.I)
_NUMBER = re.compile(
    r"\d|\b(one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand|half)\b"
    r"|[一二三四五六七八九十百千两半]",
    re.I,
)
_TIME = re.compile(
    r"\d[:：]\d|\d\s?(am|pm)\b|\b(mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(today|tomorrow"
    r"|yesterday|tonight|morning|noon|evening|week|weekend|month|year|january|february|march|april"
    r"|june|july|august|september|october|november|december|ago|last|next)\b"
    r"|[点号日月年周]|星期|今天|明天|昨天|晚上|上午|下午",
    re.I,
)
_NAME = re.compile(r"(?<=[a-z,;'’] )[A-Z][a-z]+|[老小阿][\u4e00-\u9fff]|[先女]生|[老医]师")
_SELF = re.compile(r"\b(i|i'm|my|me|mine|we|our|us)\b|我|咱", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryForm:
    """What a query looks like, apart from what it is about."""

    terms: tuple[str, ...]
    """Distinct terms in order."""
    flags: dict[str, bool]
    """`who`, `when`, ..., as named in this module, and `question`, `joined` (Chinese, Japanese)."""


def asks_summary(query: str) -> bool:
    """Whether a whole stretch of the dialogue is asked for, not the turns with an answer."""
    return _SUMMARY.search(query) is not None


def terms(text: str) -> list[str]:
    """Split a text into terms, repetitions kept.

    Example:
        `terms("She moved the boxes, 搬家了")` is `["she", "mov", "th", "box", "搬家", "家了"]`.
    """
    found: list[str] = []
    for run in _RUN.findall(text.lower()):
        if not _HAS_JOINED.match(run):
            found.append(stem(run))
        elif len(run) == 1:
            found.append(run)
        else:
            found.extend(run[i : i + 2] for i in range(len(run) - 1))
    return found


def stem(word: str) -> str:
    """Cut the commonest English endings; other words pass unchanged."""
    if len(word) < 4 or not word.isascii():
        return word
    if word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) > 2 and _VOWEL.search(rest):
            doubled = rest[-1] == rest[-2] and rest[-1] not in "lsz"
            return rest[:-1] if doubled else rest.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


def query_form(query: str) -> QueryForm:
    """Read the form of a query."""
    flags = {name: bool(form.search(query)) for name, form in _FORMS_COMPILED.items()}
    flags["question"] = bool(_QUESTION.search(query) or _WH.search(query))
    flags["joined"] = bool(_HAS_JOINED.search(query))
    return QueryForm(terms=tuple(dict.fromkeys(terms(query))), flags=flags)


def has_number(text: str) -> bool:
    """Whether a number stands in the text, in digits or words."""
    return bool(_NUMBER.search(text))


def has_time(text: str) -> bool:
    """Whether a clock time, day or date stands in the text."""
    return bool(_TIME.search(text))


def has_name(text: str) -> bool:
    """Whether somebody or some place seems to be named inside a sentence."""
    return bool(_NAME.search(text))


def speaks_of_self(text: str) -> bool:
    """Whether the speaker says I or we."""
    return bool(_SELF.search(text))


def named_speakers(query: str, speakers: Iterable[str]) -> set[str]:
    """Speakers of whose name the query holds a word (Latin) or the whole name (Chinese)."""
    words = {run for run in _RUN.findall(query.lower()) if not _HAS_JOINED.match(run)}
    named = set()
    for speaker in speakers:
        for part in _RUN.findall(speaker.lower()):
            joined = bool(_HAS_JOINED.match(part))
            if (joined and len(part) > 1 and part in query) or (
                not joined and len(part) > 1 and part not in STOP_TERMS and part in words
            ):
                named.add(speaker)
    return named
