"""Filters: their check, what they look at, and their two forms (plain Python and Milvus).

`milvus_expression` is the only place that puts a person's words into a Milvus expression.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ffr_core.errors import InputError, LimitError
from ffr_core.index.keys import dialogue_key
from ffr_core.types import Dialogue, Filters, Localization

MAX_PARTICIPANTS = 256
MAX_DIALOGUES = 10_000
MAX_NAME_BYTES = 1024
STORED_NAME_BYTES = 256
NO_MIN_MS = 2**62
NO_MAX_MS = -(2**62)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentFacts:
    """What filters look at; every row of a fragment, passages too, carries it."""

    participants: tuple[str, ...]
    """Stored names of the speakers of its turns, in order of their first turn."""
    min_ms: int = NO_MIN_MS
    """UTC milliseconds of the earliest known time; NO_MIN_MS when no turn has one."""
    max_ms: int = NO_MAX_MS
    """UTC milliseconds of the latest known time; NO_MAX_MS when no turn has one."""
    has_image: bool = False


def facts_of(dialogue: Dialogue, turn_ids: Sequence[int]) -> FragmentFacts:
    """Collect the facts of some turns of a dialogue."""
    turns = [dialogue.turns[i] for i in turn_ids]
    times = [utc_ms(turn.timestamp) for turn in turns if turn.timestamp]
    return FragmentFacts(
        participants=tuple(dict.fromkeys(stored_name(turn.speaker) for turn in turns)),
        min_ms=min(times, default=NO_MIN_MS),
        max_ms=max(times, default=NO_MAX_MS),
        has_image=any(turn.images for turn in turns),
    )


def utc_ms(instant: datetime) -> int:
    """Milliseconds since 1970 in UTC, rounded down."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def stored_name(name: str) -> str:
    """A speaker's name as rows hold it: case-folded, NFC; of over 256 bytes, its hash."""
    return _bounded(unicodedata.normalize("NFC", name.casefold()))


def stored_names(name: str) -> list[str]:
    """All that rows may hold for a name that a person typed.

    Rows from before names were folded hold the speaker's own spelling: what was typed and its usual
    forms (`tobi`, `Tobi`, `TOBI`) match those. One in mixed case (`Anna de Vries`) must be typed as
    it is, until its dialogue is written again; so must one with decomposed accents (NFD).
    """
    spellings = (name.casefold(), name, name.lower(), name.title(), name.capitalize(), name.upper())
    return list(dict.fromkeys([stored_name(name), *map(_bounded, spellings)]))


def _bounded(name: str) -> str:
    data = name.encode("utf-8", "replace")
    if len(data) <= STORED_NAME_BYTES:
        return data.decode("utf-8")
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_filters(filters: Filters) -> None:
    """Refuse what cannot be a filter.

    Raises:
        InputError: A name is empty or holds control characters, a time has no zone, or `since` is
            not before `until`.
        LimitError: Too many values, or one that is too long.
    """
    _check_values("participants", filters.participants, MAX_PARTICIPANTS)
    _check_values("dialogue_ids", filters.dialogue_ids, MAX_DIALOGUES)
    for name, instant in (("since", filters.since), ("until", filters.until)):
        if instant is not None and instant.tzinfo is None:
            raise InputError(f"{name} {instant.isoformat()} has no time zone; add one, such as Z")
    if filters.since and filters.until and filters.since >= filters.until:
        raise InputError(
            f"since {filters.since.isoformat()} is not before until"
            f" {filters.until.isoformat()}; exchange them"
        )


def _check_values(field: str, values: Sequence[str], limit: int) -> None:
    if len(values) > limit:
        raise LimitError(f"{field} has {len(values)} values, at most {limit} fit; send fewer")
    for value in values:
        size = len(value.encode("utf-8", "surrogatepass"))
        if not value or any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
            raise InputError(
                f"{field} holds {value[:60]!r}; a value must not be empty or hold control"
                " characters"
            )
        if size > MAX_NAME_BYTES:
            raise LimitError(
                f"{field} holds a value of {size} bytes ({value[:20]!r}...), at most"
                f" {MAX_NAME_BYTES} fit; shorten it"
            )


def matches(filters: Filters, facts: FragmentFacts, dialogue_id: str) -> bool:
    """Whether a fragment passes. The Milvus form says the same.

    A fragment passes the times when it reaches into them; `keep_inside` cuts what is selected in
    it. One without any time passes no time filter.
    """
    wanted = {stored_name(name) for name in filters.participants}
    return (
        (not wanted or not wanted.isdisjoint(facts.participants))
        and (filters.since is None or facts.max_ms >= utc_ms(filters.since))
        and (filters.until is None or facts.min_ms < utc_ms(filters.until))
        and (filters.has_image is None or facts.has_image == filters.has_image)
        and (not filters.dialogue_ids or dialogue_id in filters.dialogue_ids)
    )


def keep_inside(filters: Filters, dialogue: Dialogue, found: Localization) -> Localization:
    """What was localized, without the turns and images from before `since` or from `until` on.

    A turn without a time stays: its fragment reaches into the range.
    """
    if filters.since is None and filters.until is None:
        return found
    first = utc_ms(filters.since) if filters.since else NO_MAX_MS
    end = utc_ms(filters.until) if filters.until else NO_MIN_MS

    def inside(turn_id: int) -> bool:
        instant = dialogue.turns[turn_id].timestamp
        return instant is None or first <= utc_ms(instant) < end

    images = {i: p for i, p in found.images.items() if inside(dialogue.turn_of_image[i])}
    return replace(
        found, utterances={i: p for i, p in found.utterances.items() if inside(i)}, images=images
    )


def milvus_expression(filters: Filters, tenant: str) -> str:
    """The Milvus form over the fields of `milvus_schema`; empty when nothing is restricted.

    Values are checked, then written as JSON strings, so no value can leave its quotes. Dialogue
    ids go in as keys of the tenant: a foreign id names nothing.
    """
    check_filters(filters)
    terms: list[str] = []
    if filters.participants:
        names = dict.fromkeys(s for name in filters.participants for s in stored_names(name))
        terms.append(f"array_contains_any(participants, {quoted([*names])})")
    if filters.since is not None:
        terms.append(f"max_ms >= {utc_ms(filters.since)}")
    if filters.until is not None:
        terms.append(f"min_ms < {utc_ms(filters.until)}")
    if filters.has_image is not None:
        terms.append(f"has_image == {'true' if filters.has_image else 'false'}")
    if filters.dialogue_ids:
        keys = [dialogue_key(tenant, dialogue_id) for dialogue_id in filters.dialogue_ids]
        terms.append(f"dialogue_key in {quoted(keys)}")
    return both(*terms)


def both(*terms: str) -> str:
    """Join the terms that are not empty with `and`."""
    return " and ".join(f"({term})" for term in terms if term)


def quoted(values: Sequence[str]) -> str:
    """Strings as a JSON list, which is Milvus's own notation."""
    return json.dumps(list(values), ensure_ascii=False)
