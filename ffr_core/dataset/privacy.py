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
from dataclasses import dataclass

from ffr_core.errors import InputError

_MIN_KEY_BYTES = 8
_FULL_WIDTH = str.maketrans("０１２３４５６７８９＠．－＋（）　", "0123456789@.-+() ")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_SEPARATED = r"(?:[ -]?\d)"
_NO_DIGIT_BEFORE, _NO_DIGIT_AFTER = r"(?<![\dA-Za-z.])", r"(?![\dA-Za-z]|\.\d)"
_STREET = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|square|sq|place|pl"
    r"|terrace|way|highway|hwy)"
)
_HAN = r"\u4e00-\u9fff"
_UNIT = rf"(?:[{_HAN}]{{1,8}}(?:小区|花园|大厦|公寓|苑|村))?\d{{0,4}}[号弄幢栋座单元室楼层#-]*"
_PHONES = (
    r"(?<![\dA-Za-z])(?:(?:\+|00)86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}" + _NO_DIGIT_AFTER,
    r"(?<![\dA-Za-z])0\d{2,3}[ -]?\d{7,8}" + _NO_DIGIT_AFTER,
    r"(?<![\dA-Za-z])\(0\d{2,3}\)[ -]?\d{7,8}" + _NO_DIGIT_AFTER,
    r"(?<![\dA-Za-z])400[ -]?\d{3,4}[ -]?\d{3,4}" + _NO_DIGIT_AFTER,
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}" + _NO_DIGIT_AFTER,
    r"(?<![\dA-Za-z])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}" + _NO_DIGIT_AFTER,
)
"""Chinese mobile, land lines, service lines; international; North American."""
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)),
    (
        "ip",
        re.compile(
            r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"
        ),
    ),
    ("id_card", re.compile(rf"{_NO_DIGIT_BEFORE}\d{{17}}[\dXx]{_NO_DIGIT_AFTER}")),
    (
        "id_card",
        re.compile(rf"{_NO_DIGIT_BEFORE}\d{{6}}[ -]\d{{8}}[ -]\d{{3}}[\dXx]{_NO_DIGIT_AFTER}"),
    ),
    (
        "ssn",
        re.compile(
            rf"{_NO_DIGIT_BEFORE}(?!000|666|9)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_NO_DIGIT_AFTER}"
        ),
    ),
    ("bank_card", re.compile(rf"{_NO_DIGIT_BEFORE}\d{_SEPARATED}{{12,18}}{_NO_DIGIT_AFTER}")),
    ("phone", re.compile("|".join(_PHONES))),
    (
        "passport",
        re.compile(r"(?:passport|护照)\D{0,12}?([A-Z]{1,2}\d{7,8})(?!\d)", re.IGNORECASE),
    ),
    (
        "account",
        re.compile(
            r"(?:微信号?|微信ID|wechat(?: id)?|wx|QQ号?|telegram|支付宝)\s*(?:是|为|is|:|：|=)\s*"
            r"@?([A-Za-z0-9][\w-]{4,30})",
            re.IGNORECASE | re.ASCII,
        ),
    ),
    (
        "address",
        re.compile(
            rf"(?:[{_HAN}]{{2,8}}(?:省|自治区))?(?:[{_HAN}]{{2,8}}市)?(?:[{_HAN}]{{2,8}}[区县])?"
            rf"[{_HAN}]{{1,10}}(?:路|街|大道|巷|弄|胡同)\d{{1,5}}(?:号|弄)(?:{_UNIT})*"
        ),
    ),
    (
        "address",
        re.compile(
            rf"(?<![\w.])\d{{1,5}}[A-Za-z]?(?: [NSEW]\.?)?"
            rf"(?:(?: [A-Z][A-Za-z'.-]+){{1,3}} (?i:{_STREET})\b"
            r"|(?: [a-z]+)? (?:street|avenue|blvd)\b)"
            r"\.?(?:,? (?i:apt\.?|apartment|unit|suite|#) ?\w{1,5})?"
            r"(?:, [A-Z][A-Za-z .]+?)?(?:,? [A-Z]{2} \d{5}(?:-\d{4})?)?"
        ),
    ),
)


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
    plain = text.translate(_FULL_WIDTH)
    found: list[Identifier] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(plain):
            start, end = match.span(match.lastindex or 0)
            said = _national(plain[start:end]) if kind == "phone" else plain[start:end]
            value = re.sub(r"[\s().-]", "", said).lower()
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
    if kind == "id_card":
        return is_chinese_id(value)
    if kind == "bank_card":
        return 13 <= len(value) <= 19 and len(set(value)) > 1 and luhn(value)
    if kind == "phone":
        return 7 <= sum(c.isdigit() for c in value) <= 15
    return True


def _national(phone: str) -> str:
    """A number as it is dialled at home: without the country prefix of China or North America.

    Example:
        +86 138 0013 8000: 138 0013 8000; +86 10 6234 5678: 010 6234 5678; 1 415-555-2671:
        415-555-2671.
    """
    phone = re.sub(r"^(?:(?:\+|00)86[ -]?(?=1[3-9])|\+1|1(?=[ .-]))", "", phone)
    return re.sub(r"^\+86[ -]?0?", "0", phone)
