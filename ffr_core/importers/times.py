"""Dates as exports write them, in many locales, without guessing.

Whether `05/02/21` is in February or in May is decided from the whole file: one date such as
`25/02/21` proves the order. Dots prove day.month.year (no locale of CLDR writes the month first
with dots) and a four-digit year in front proves year-month-day. Where nothing proves it, a date
that reads differently both ways is ambiguous and is kept as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Literal, get_args

DateOrder = Literal["dmy", "mdy", "ymd"]
DATE_ORDERS = ("auto", *get_args(DateOrder))

_S = r"[\s\u200e\u200f\u202a-\u202e\u2066-\u2069]"
_PM = (
    "pm", "p.m", "p. m", "下午", "晚上", "中午", "傍晚", "오후", "午後", "م", "μμ", "μ.μ", "ch",
    "em", "nm", "ptg", "ös", "du", "ب.ظ", "אחה״צ", "अपराह्न", "หลังเที่ยง",
)  # fmt: skip
_AM = (
    "am", "a.m", "a. m", "上午", "早上", "凌晨", "清晨", "오전", "午前", "ص", "πμ", "π.μ",
    "sa", "fm", "vm", "pg", "öö", "de", "ق.ظ", "לפנה״צ", "पूर्वाह्न", "ก่อนเที่ยง",
)  # fmt: skip
_PERIOD = "|".join(re.escape(word) for word in sorted((*_PM, *_AM), key=len, reverse=True))
_SPACED_PERIOD = _PERIOD.replace(r"\ ", _S)
_MARK = rf"(?:{_SPACED_PERIOD})\.?"
STAMP = (
    rf"(?P<a>\d{{1,4}}){_S}{{0,2}}(?P<sep>[./\-年년]){_S}{{0,2}}(?P<b>\d{{1,2}}){_S}{{0,2}}[./\-月월]"
    rf"{_S}{{0,2}}(?P<c>\d{{1,4}})(?:{_S}?(?:日|일|г\.|\.))?"
    rf"(?:{_S}{{0,2}}[,،]{_S}{{0,2}}|{_S}{{1,3}}(?:(?:klo|kl\.?|à|um|at|às|alle|a las|в){_S})?"
    rf"|(?=[^\d\s]))"
    rf"(?:(?P<before>{_MARK}){_S}{{0,2}})?"
    rf"(?P<hour>\d{{1,2}})(?:[:.]|{_S}?h{_S}?)(?P<minute>\d{{2}})"
    rf"(?:(?:[:.]|{_S}?min{_S})(?P<second>\d{{2}})(?:{_S}s(?![^\W\d_]))?)?"
    rf"(?:{_S}{{0,2}}(?P<after>{_MARK}(?![^\W\d_])|ч\.|น\.|Uhr))?"
)
"""Regular expression source of a date with a time; its groups are read by `stamp_from_match`."""
_WHOLE = re.compile(rf"{_S}*{STAMP}{_S}*$", re.I)
_DAY = re.compile(r"\s*(?P<a>\d{1,4})(?P<sep>[./\-年])(?P<b>\d{1,2})[./\-月](?P<c>\d{1,4})日?\s*$")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s?(Z|[+-]\d{2}:?\d{2})?$")
_FIRST_YEAR, _LAST_YEAR = 1970, 2100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A date and time of day as three numbers whose order is not decided yet."""

    numbers: tuple[int, int, int]
    year_first: bool
    """The first number has four digits."""
    dotted: bool
    hour: int
    """0 to 23 where possible; am and pm are applied."""
    minute: int
    second: int
    text: str
    """The source's own form, white space and direction marks normalized."""

    @property
    def numerals(self) -> str:
        """The same for one moment whatever the spacing, and the same with am and pm as without."""
        clock = f"{self.hour:02}:{self.minute:02}:{self.second:02}"
        return f"{'-'.join(map(str, self.numbers))} {clock}"

    def dates(self, order: DateOrder | None) -> set[tuple[int, int, int]]:
        """The existing dates (year, month, day) that it may mean under an order, or under any."""
        a, b, c = self.numbers
        if self.year_first:
            return _existing((a, b, c))
        forms = {"dmy": (c, b, a), "mdy": (c, a, b), "ymd": (a, b, c)}
        if order is not None:
            return _existing(forms[order])
        return _existing(forms["dmy"]) | _existing(forms["mdy"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A time that was read, or the text it is kept as."""

    timestamp: datetime | None = None
    text: str | None = None
    problem: str | None = None
    """`impossible_date`, `ambiguous_date`, `unreadable_time` or `no_time`."""


def _existing(date: tuple[int, int, int]) -> set[tuple[int, int, int]]:
    year, month, day = date
    if year < 100:
        year += 2000
    elif 2500 <= year <= 2600:  # the Buddhist calendar of Thai phones
        year -= 543
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return set()
    try:
        datetime(year, month, day)
    except ValueError:
        return set()
    return {(year, month, day)}


def stamp_from_match(match: re.Match[str]) -> Stamp:
    """Build a stamp from a match of `STAMP` (or of a date without a time)."""
    groups = match.groupdict()
    hour = int(groups.get("hour") or 0)
    hour = 0 if hour == 24 else hour  # phones that count the hours from 1: 24:05 starts its date
    mark = (groups.get("before") or groups.get("after") or "").lower().rstrip(".")
    mark = re.sub(_S, " ", mark)
    noon_is_near = mark == "中午" and hour in (10, 11)
    if mark in _PM and hour < 12 and not noon_is_near:
        hour += 12
    elif mark in _AM and hour == 12:
        hour = 0
    shown = " ".join(
        re.sub(
            r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", groups.get("stamp") or match[0]
        ).split()
    )
    return Stamp(
        numbers=(int(groups["a"]), int(groups["b"]), int(groups["c"])),
        year_first=len(groups["a"]) == 4,
        dotted=groups["sep"] == ".",
        hour=hour,
        minute=int(groups.get("minute") or 0),
        second=int(groups.get("second") or 0),
        text=shown.strip("[] -"),
    )


def decide_order(stamps: Iterable[Stamp], asked: str = "auto") -> DateOrder | None:
    """The order of day, month and year in a file; None when nothing proves it.

    Dates that can be read one way only are counted; a few impossible ones among many do not
    change the result. A tie proves nothing.

    Args:
        stamps: All stamps of the file.
        asked: One of `DATE_ORDERS`; anything but `auto` is returned as it is.
    """
    for order in get_args(DateOrder):
        if asked == order:
            return order  # type: ignore[no-any-return]
    day_first = month_first = 0
    dotted = False
    for stamp in stamps:
        if stamp.year_first:
            continue
        as_dmy, as_mdy = bool(stamp.dates("dmy")), bool(stamp.dates("mdy"))
        day_first += as_dmy and not as_mdy
        month_first += as_mdy and not as_dmy
        dotted |= stamp.dotted
    if day_first == month_first:
        return "dmy" if dotted and not day_first else None
    return "dmy" if day_first > month_first else "mdy"


def resolve(stamp: Stamp, order: DateOrder | None, zone: tzinfo) -> Reading:
    """Place a stamp on the time line; an ambiguous hour of a clock change is its first one."""
    dates = stamp.dates(order)
    if not dates or not (stamp.hour < 24 and stamp.minute < 60 and stamp.second < 60):
        return Reading(text=stamp.text, problem="impossible_date")
    if len(dates) > 1:
        return Reading(text=stamp.text, problem="ambiguous_date")
    clock = (stamp.hour, stamp.minute, stamp.second)
    return Reading(timestamp=whole_minutes(datetime(*dates.pop(), *clock, tzinfo=zone)))


def find_stamp(value: object) -> Stamp | None:
    """The stamp of a cell, unless it is ISO 8601 or a number, which need no order."""
    if not isinstance(value, str) or _ISO.match(value.strip()) or len(value) > 80:
        return None
    match = _WHOLE.match(value) or _DAY.match(value)
    return stamp_from_match(match) if match else None


def read_time(value: object, zone: tzinfo, order: DateOrder | None = None) -> Reading:
    """Read a time of a JSON or CSV export; what cannot be read is kept as text.

    Args:
        value: ISO 8601, seconds or milliseconds since 1970 (number or digits), or a local form.
        zone: Of times that carry none.
        order: What `decide_order` says about the file.
    """
    if value is None or value == "" or isinstance(value, bool | list | dict):
        return Reading(problem="no_time")
    text = " ".join(str(value)[:80].split())
    if isinstance(value, int | float) or re.fullmatch(r"\d{9,13}(\.\d{1,9})?", text, re.ASCII):
        return _from_epoch(text)
    if _ISO.match(text):
        try:
            moment = datetime.fromisoformat(text.replace(",", ".").replace(" +", "+"))
        except ValueError:
            return Reading(text=text, problem="unreadable_time")
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return Reading(text=text, problem="unreadable_time")
        return Reading(timestamp=whole_minutes(moment if moment.tzinfo else _in(moment, zone)))
    stamp = find_stamp(text)
    if stamp is None:
        return Reading(text=text, problem="unreadable_time")
    reading = resolve(stamp, order, zone)
    if reading.problem == "impossible_date":
        return Reading(text=text, problem="unreadable_time")
    return reading


def _in(moment: datetime, zone: tzinfo) -> datetime:
    return moment.replace(tzinfo=zone)


def _from_epoch(text: str) -> Reading:
    try:
        seconds = float(text)
        moment = datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return Reading(text=text, problem="unreadable_time")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        return Reading(text=text, problem="unreadable_time")
    return Reading(timestamp=moment)


def whole_minutes(moment: datetime) -> datetime:
    """The moment, in UTC where its offset has seconds, which ISO 8601 cannot express."""
    offset = moment.utcoffset()
    return moment.astimezone(UTC) if offset is None or offset.total_seconds() % 60 else moment
