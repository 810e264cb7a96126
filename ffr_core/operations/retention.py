"""Which dialogues are too old for their tenant, and their removal.

A dialogue's age counts from its last timestamp; one without any counts from the time at which its
content was first indexed. Removal is that of `ffrs delete`: rows in every collection, the payload,
and a tombstone, so that indexing the same source again does not bring the dialogue back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ffr_core.index.filters import NO_MAX_MS, both, quoted
from ffr_core.index.keys import tenant_key
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS
from ffr_core.index.payload import PayloadStore
from ffr_core.operations.tables import Tables
from ffr_core.protocols import FragmentIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A dialogue to remove."""

    tenant: str
    dialogue_id: str
    reason: str
    """`last_turn` or `indexing_time`: what its age counts from."""
    revisions: dict[str, int]
    """Prefix -> revision that was looked at; a newer one is not removed."""


@dataclass(slots=True, kw_only=True)
class Review:
    """What one look at one or more tenants found."""

    expired: list[Expired] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    """`young`, `no_time` (neither a timestamp nor a time of indexing) or `forever` -> dialogues."""

    @property
    def reasons(self) -> Counter[str]:
        """Reason -> dialogues to remove."""
        return Counter(item.reason for item in self.expired)


@dataclass(slots=True)
class _Seen:
    revisions: dict[str, int] = field(default_factory=dict)
    payloads: set[str] = field(default_factory=set)
    last_ms: int = NO_MAX_MS


def review(
    tables: Tables,
    payloads: PayloadStore,
    tenant: str,
    days: int,
    now: datetime,
    found: Review,
) -> None:
    """Look at all live dialogues of a tenant; adds to `found`.

    Args:
        tables: The index.
        payloads: Where its dialogues are.
        tenant: Owner.
        days: How long dialogues are kept; 0: forever.
        now: The present.
        found: Filled in.
    """
    names, seen = _live(tables, tenant)
    if not days:
        found.kept["forever"] += len(seen)
        return
    oldest = now - timedelta(days=days)
    for key, each in seen.items():
        last, reason = _time_of(each, payloads, tenant)
        if last is None:
            found.kept["no_time"] += 1
        elif last >= oldest:
            found.kept["young"] += 1
        else:
            item = Expired(
                tenant=tenant, dialogue_id=names[key], reason=reason, revisions=each.revisions
            )
            found.expired.append(item)


def _live(tables: Tables, tenant: str) -> tuple[dict[str, str], dict[str, _Seen]]:
    """Key -> dialogue_id, and what all collections hold about its live revisions."""
    names: dict[str, str] = {}
    seen: dict[str, _Seen] = {}
    owner = f"tenant == {quoted([tenant_key(tenant)])[1:-1]}"
    fields = ["dialogue_id", "revision", "payload", "deleted"]
    for prefix in tables.prefixes():
        live = both(owner, 'id < "meta:"')
        for row in tables.rows(prefix, HEADERS, fields, live):
            if not row["deleted"]:
                names[row["id"]] = row["dialogue_id"]
                each = seen.setdefault(row["id"], _Seen())
                each.revisions[prefix] = int(row["revision"])
                each.payloads.add(row["payload"])
        for row in tables.rows(prefix, FRAGMENTS, ["dialogue_key", "revision", "max_ms"], owner):
            known = seen.get(row["dialogue_key"])
            if known is not None and known.revisions.get(prefix) == int(row["revision"]):
                known.last_ms = max(known.last_ms, int(row["max_ms"]))
    return names, seen


def _time_of(each: _Seen, payloads: PayloadStore, tenant: str) -> tuple[datetime | None, str]:
    if each.last_ms > NO_MAX_MS:
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(milliseconds=each.last_ms), "last_turn"
    times = [payloads.indexed_at(tenant, name) for name in each.payloads]
    return max((time for time in times if time), default=None), "indexing_time"


def unnamed_tenants(tables: Tables, tenants: Sequence[str]) -> int:
    """How many tenants own live dialogues without being among `tenants`; nothing of theirs ends."""
    known = {tenant_key(tenant) for tenant in tenants}
    others = {
        row["tenant"]
        for prefix in tables.prefixes()
        for row in tables.rows(prefix, HEADERS, ["tenant", "deleted"], 'id < "meta:"')
        if not row["deleted"] and row["tenant"] not in known
    }
    return len(others)


def remove(index: FragmentIndex, prefix: str, item: Expired) -> bool:
    """Remove the rows of one dialogue from one prefix; False when it changed since the review."""
    header = index.headers(item.tenant, [item.dialogue_id]).get(item.dialogue_id)
    if header is None or header.deleted or header.revision != item.revisions.get(prefix):
        return False
    return index.delete(item.tenant, item.dialogue_id)
