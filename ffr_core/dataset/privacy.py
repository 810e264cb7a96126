"""Personal identifiers in chats, English and Chinese: find them, and put pseudonyms in their place.

Found: e-mail addresses, phone numbers, Chinese identity cards (with their check digit), US social
security numbers, bank cards (with the Luhn digit), passports and account names that are named as
such, IP addresses, postal addresses. Digits may be full width or grouped by spaces and hyphens.

A pseudonym is a keyed hash (HMAC-SHA-256): with one key, one person or number has one pseudonym in
every file, and without the key nobody can compute it. Keep the key away from the data.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers

from ffr_core.dataset.content_words import tagged_words
from ffr_core.errors import InputError

_MIN_KEY_BYTES = 8
_PLAIN = str.maketrans(
    "０１２３４５６７８９＠．－＋（）\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
    "\u3000\u00a0\u2007\u2009\u202f\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2066\u2067\u2068\u2069",
    "0123456789@.-+()-------" + " " * 16,
)
"""Full width, dashes, kinds of space and direction marks, one character for one."""
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_NO_DIGIT_BEFORE, _NO_DIGIT_AFTER = r"(?<![\dA-Za-z.])", r"(?![\dA-Za-z]|\.\d)"
_HAN = r"\u4e00-\u9fff"

_REGIONS = ("CN", "US", "GB", "FR", "DE", "IN")
"""Where a phone number without a country prefix may be dialled."""
_FEWEST_DIGITS = 7
_NO_PHONE_BEFORE = re.compile(r"(?:\d\.|[_/=#$¥￥€£])\Z")
_DATE_WITH_HOUR = re.compile(r"20\d\d[01]\d[0-3]\d")

_APP = r"(?<![A-Za-z])(?:微信(?:号|ID)?|wechat(?: id)?|[wv]x|QQ(?:号码?)?|telegram|支付宝)\s*"
_ACCOUNTS = (
    _APP + r"(?:是|为|is\b|:|：|=)\s*@?([A-Za-z0-9][\w-]{4,30})",
    r"(?:微信|QQ|支付宝)(?:号码?|ID|账号)\s*@?([A-Za-z0-9][\w-]{4,30})",
    _APP + r"@?((?=[\w-]*[\d_])[A-Za-z][\w-]{4,30})",
    r"(?<![A-Za-z])QQ\s*(\d{5,11})(?![\w.人个元年步])",
    r"(?<![A-Za-z])telegram\s*@([A-Za-z]\w{4,30})",
)
"""With a connector anything; else what is called an account, looks like one, or has its `@`."""

_STREET = r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|terrace|highway|hwy)"
_ALSO_STREET = r"(?:drive|dr|court|ct|square|sq|place|pl|way)"
_ENDS = (
    r"(?! (?!(?:and|or|at|in|on|by|near|to|for|from|with|is|was|if|tonight|today|tomorrow|now"
    r"|please|apt|apartment|unit|suite)\b)[a-z])"
)
"""No noun follows that the words before belong to: 3 Google Drive links, 20 good street artists."""
_ENGLISH_ADDRESS = (
    r"(?<![\w.])\d{1,5}[A-Za-z]?(?: [NSEW]\.?)?(?! Google )"
    rf"(?:(?: [A-Z][A-Za-z'.-]+){{1,3}} (?i:{_STREET}\b|{_ALSO_STREET}\b{_ENDS})"
    rf"|(?<=\d[\dA-Za-z]) (?!(?:on|the|of|in|a)\b)[a-z]+ (?:street|avenue|blvd)\b{_ENDS})"
    r"\.?(?:,? (?i:apt\.?|apartment|unit|suite|#) ?\w{1,5})?"
    r"(?:(?:, [A-Z][A-Za-z .]{1,30})?,? [A-Z]{2} \d{5}(?:-\d{4})?)?"
)
_WAYS = ("路", "街", "大道", "大街", "巷", "弄", "胡同")
_IN_NAME = rf"(?![我你他她们这那在到去来见等从是的了和跟有])[{_HAN}]"
_DOOR = re.compile(
    r"(?:路|街|大道|巷|弄|胡同)"
    r"( ?(?P<number>\d{1,5}|[〇零一二三四五六七八九十百]{1,6}) ?[号弄](?!线)"
    rf"(?:院|楼(?![上下]))?(?:(?:{_IN_NAME}){{1,8}}(?:小区|花园|广场|大厦|公寓|苑|村))?"
    r"(?:(?:[A-Za-z]\d{0,4}|\d{1,4})(?:号楼|号院|单元|[号弄幢栋座室楼层#])|-\d{1,4}室?)*)"
)
"""From the last word of a street; the first group is the house and what follows it."""
_DIGIT_RUN = re.compile(rf"{_NO_DIGIT_BEFORE}\d+(?:[ -]\d+)*")
_DIGITS, _NUMBER_END = re.compile(r"\d+"), re.compile(_NO_DIGIT_AFTER)
_HAN_BEFORE = re.compile(rf"[{_HAN}]+\Z")

Span = tuple[int, int]
"""Half-open range in a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """A place in a text that identifies a person."""

    kind: str
    """`email`, `phone`, `id_card`, `ssn`, `bank_card`, `passport`, `account`, `ip`, `address`."""
    start: int
    """Half-open range in the text."""
    end: int
    value: str
    """Without separators, lower case, a phone number without the country prefix of China or North
    America: what the pseudonym depends on."""


class Pseudonyms:
    """Stable pseudonyms under one key."""

    def __init__(self, key: str) -> None:
        """Keep the key; InputError when it is too short to protect anything."""
        if len(key.encode()) < _MIN_KEY_BYTES:
            raise InputError(
                f"the anonymisation key has {len(key.encode())} bytes; use at least"
                f" {_MIN_KEY_BYTES}, kept secret and the same for all files"
            )
        self._key = key.encode()

    def code(self, kind: str, value: str, length: int = 8) -> str:
        """Hex digits for a value of a kind."""
        text = f"{kind}\x00{unicodedata.normalize('NFKC', value)}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:length]

    def speaker(self, name: str) -> str:
        """The pseudonym of a person, for example `Person-3fa2b81c`."""
        return f"Person-{self.code('speaker', name.strip())}"

    def dialogue(self, dialogue_id: str) -> str:
        """The pseudonym of a dialogue id, which exports make of a chat's name."""
        return f"dialogue-{self.code('dialogue', dialogue_id, 16)}"

    def image(self, content: str) -> str:
        """The name of a picture by the hash of its content."""
        return self.code("image", content, 16)

    def identifier(self, found: Identifier) -> str:
        """What stands in the place of an identifier, for example `[phone-3fa2b8]`."""
        return f"[{found.kind}-{self.code(found.kind, found.value, 6)}]"


def find_identifiers(text: str) -> list[Identifier]:
    """All identifiers in order, without overlaps; the more certain kind wins."""
    plain = text.translate(_PLAIN)
    found: list[Identifier] = []
    for kind, spans in _FINDERS:
        for start, end in spans(plain):
            said = _national(plain[start:end]) if kind == "phone" else plain[start:end]
            value = re.sub(r"[\s()./-]", "", said).lower()
            taken = any(start < other.end and other.start < end for other in found)
            if not taken and _is_valid(kind, value):
                found.append(Identifier(kind=kind, start=start, end=end, value=value))
    return sorted(found, key=lambda identifier: identifier.start)


def mask_identifiers(text: str, pseudonyms: Pseudonyms) -> tuple[str, Counter[str]]:
    """Replace identifiers by pseudonyms; returns the text and the number of each kind."""
    counts: Counter[str] = Counter()
    for found in reversed(find_identifiers(text)):
        counts[found.kind] += 1
        text = text[: found.start] + pseudonyms.identifier(found) + text[found.end :]
    return text, counts


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of those before it."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_chinese_id(value: str) -> bool:
    """Whether 18 characters are an identity number: a birth date and the right check digit."""
    if not re.fullmatch(r"\d{17}[\dx]", value):
        return False
    year, month, day = int(value[6:10]), int(value[10:12]), int(value[12:14])
    if not (1900 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(value, _ID_WEIGHTS, strict=False))
    return _ID_CHECKS[total % 11] == value[17].upper()


def _is_valid(kind: str, value: str) -> bool:
    return is_chinese_id(value) if kind == "id_card" else True


def _national(phone: str) -> str:
    """A number as it is dialled at home: without the country prefix of China or North America.

    Example:
        +86 138 0013 8000: 138 0013 8000; +86 10 6234 5678: 010 6234 5678; 1 415-555-2671:
        415-555-2671; 0044 (0)20 7946 0958: +44 20 7946 0958.
    """
    phone = re.sub(r"^00", "+", phone).replace("(0)", "")
    phone = re.sub(r"^(?:\+?86[ -]?(?=1[3-9])|\+1|1(?=[ .-]))", "", phone)
    return re.sub(r"^\+86[ -]?0?", "0", phone)


def _phones(text: str) -> Iterator[Span]:
    """Numbers of any region, the longest first; no amounts, no decimals, no date with an hour.

    One with a country prefix may be grouped in any way, others as in their region.
    """
    if sum(character.isdigit() for character in text) < _FEWEST_DIGITS:
        return
    strict, valid = phonenumbers.Leniency.STRICT_GROUPING, phonenumbers.Leniency.VALID
    spans = {
        (match.start, match.end)
        for region, leniency in [(_REGIONS[0], valid), *((name, strict) for name in _REGIONS)]
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency, max_tries=len(text))
        if leniency == strict or text.startswith(("+", "00"), match.start)
    }
    for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
        amount = _NO_PHONE_BEFORE.search(text[max(0, start - 2) : start])
        if not amount and not _DATE_WITH_HOUR.match(text, start):
            yield start, end


def _matches(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> Callable[[str], Iterator[Span]]:
    """Finds where a pattern, or the group of it that took part, matches."""
    compiled = re.compile(pattern, flags)
    return lambda text: (m.span(m.lastindex or 0) for m in compiled.finditer(text))


def _cards(text: str) -> Iterator[Span]:
    """Numbers of 13 to 19 digits that pass Luhn, made of whole groups of a run of groups.

    A card starts with the run, with a group of four digits, or is a group by itself.
    """
    for run in _DIGIT_RUN.finditer(text):
        groups = [m.span() for m in _DIGITS.finditer(text, run.start(), run.end())]
        free = 0
        for first, (start, end) in enumerate(groups):
            if first < free or (first and end - start != 4 and end - start < 13):
                continue
            for last in range(min(first + 18, len(groups) - 1), first - 1, -1):
                stop = groups[last][1]
                if _is_card(text[start:stop]) and _NUMBER_END.match(text, stop):
                    yield start, stop
                    free = last + 1
                    break


def _is_card(number: str) -> bool:
    digits = re.sub("[ -]", "", number)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def _chinese_addresses(text: str) -> Iterator[Span]:
    """A street with a number, from the place before it (北京市朝阳区建国路88号) or its own name.

    Other words before it are left out (我家住在). A number of one digit may be a day (明天街3号见):
    it counts only with a place.
    """
    for door in _DOOR.finditer(text):
        before = _HAN_BEFORE.search(text, max(0, door.start() - 40), door.start(1))
        length, has_place = _street(tagged_words(before[0])) if before else (0, False)
        if length and (has_place or len(door["number"]) > 1):
            yield door.start(1) - length, door.end()


def _street(words: list[tuple[str, str]]) -> tuple[int, bool]:
    """How many characters at the end are a street, and whether a city or district leads it."""
    start, (way, flag) = len(words) - 1, words[-1]
    if way in _WAYS or (flag == "ns" and len(way) == 2):  # 人民 路, 南京 东路
        while start and sum(len(word) for word, _ in words[start:-1]) < 2:
            accepted = _is_own_name if start == len(words) - 1 else _is_noun
            if not accepted(*words[start - 1]):
                break
            start -= 1
        if start == len(words) - 1:
            return 0, False
    elif len(way) == 2 or flag[0] in "vrdp":  # 走路, 马路, 逛街
        return 0, False
    first = position = start
    while position and _is_noun(*words[position - 1]):
        position -= 1
        first = position if _is_place(*words[position]) else first
    return sum(len(word) for word, _ in words[first:]), first < start


def _is_own_name(word: str, flag: str) -> bool:
    """Whether a street may be called so: not 这条, 走, 明天, 一."""
    if word == "条" or flag == "mq" or (flag[0] in "vm" and len(word) == 1):
        return False
    return flag[0] not in "rpductyeqs"


def _is_noun(word: str, flag: str) -> bool:
    return flag == "vn" or flag[0] in "njbagzx" or (flag[0] == "f" and len(word) == 1)


def _is_place(word: str, flag: str) -> bool:
    if len(word) < 2 or word.endswith(_WAYS):
        return False
    return flag == "ns" or (flag != "n" and word[-1] in "省市区县镇乡")


_FINDERS: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (
    # The lookbehind lets a match start at one place only: without it the time is quadratic.
    ("email", _matches(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)),
    (
        "ip",
        _matches(
            r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"
        ),
    ),
    ("id_card", _matches(rf"{_NO_DIGIT_BEFORE}\d{{17}}[\dXx]{_NO_DIGIT_AFTER}")),
    (
        "id_card",
        _matches(rf"{_NO_DIGIT_BEFORE}\d{{6}}[ -]\d{{8}}[ -]\d{{3}}[\dXx]{_NO_DIGIT_AFTER}"),
    ),
    (
        "ssn",
        _matches(
            rf"{_NO_DIGIT_BEFORE}(?!000|666|9)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_NO_DIGIT_AFTER}"
        ),
    ),
    ("bank_card", _cards),
    ("phone", _phones),
    (
        "passport",
        _matches(r"(?:passport|护照)\D{0,12}?([A-Z]{1,2}\d{7,8})(?!\d)", re.IGNORECASE),
    ),
    ("account", _matches("|".join(_ACCOUNTS), re.IGNORECASE | re.ASCII)),
    ("address", _chinese_addresses),
    ("address", _matches(_ENGLISH_ADDRESS)),
)
