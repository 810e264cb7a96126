"""Bring a backup into an empty index, on Lite or a server, here or elsewhere.

Dialogues, then rows, then headers, so a restore that breaks off is invisible to searches; the same
command goes on with it. At the end the ids that are there are compared with those of the backup.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ffr_core.errors import ConfigError, FfrError, NotFoundError
from ffr_core.index.collections import KEY as COLLECTIONS
from ffr_core.index.milvus_rows import row_bytes
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS, NO_VECTOR, PASSAGES
from ffr_core.index.payload import PAYLOADS as PAYLOAD_KEYS
from ffr_core.operations.manifest import Manifest, Table, read_parts
from ffr_core.operations.tables import KINDS, Settings, Tables
from ffr_core.protocols import Storage

RUNNING = "serving/restore.json"
"""Names the backup that is being restored; gone when it is done."""
BATCH = 500
Rows = list[dict[str, Any]]


@dataclass(slots=True, kw_only=True)
class Restored:
    """What a restore wrote."""

    fingerprint: str
    """Of the backup."""
    dialogues: int = 0
    deleted: int = 0
    payloads: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """Kind -> rows."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Kind -> rows without a header, of dialogues that changed while the backup was made."""


@dataclass(slots=True)
class _Ids:
    """A set of ids as its size and the sum of its hashes; equal sets are equal."""

    count: int = 0
    total: int = 0

    def add(self, ids: Iterable[str]) -> None:
        for name in ids:
            self.count += 1
            self.total += int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
        self.total %= 2**256


def restore(
    tables: Tables,
    storage: Storage,
    source: Storage,
    manifest: Manifest,
    say: Callable[[str], None] = print,
) -> Restored:
    """Write everything, then compare; see the module text.

    Args:
        tables: The empty index, opened with the prefixes of the manifest.
        storage: Where dialogues go; without any.
        source: The backup.
        manifest: Its manifest.
        say: Progress.

    Raises:
        ConfigError: The target is not empty.
        FfrError: The backup is damaged, or the target differs from it at the end.
    """
    _check_empty(tables, storage, manifest)
    storage.write(RUNNING, json.dumps({"fingerprint": manifest.fingerprint}).encode())
    done = Restored(fingerprint=manifest.fingerprint)
    for row in read_parts(source, manifest.payloads):
        if not row["key"].startswith(PAYLOAD_KEYS):
            raise FfrError(f"the backup holds a foreign key {row['key'][:80]!r}; use another one")
        storage.write(row["key"], row["data"])
        done.payloads += 1
    say(f"{done.payloads} dialogues")
    for prefix, table in manifest.tables.items():
        _restore_prefix(tables, prefix, table, source, done, say)
    if manifest.collections is not None:
        storage.write(COLLECTIONS, json.dumps(manifest.collections, indent=1).encode())
    storage.delete(RUNNING)
    if (done.dialogues, done.deleted) != (manifest.dialogues, manifest.deleted):
        raise FfrError(
            f"{done.dialogues} dialogues and {done.deleted} tombstones were restored, the backup"
            f" names {manifest.dialogues} and {manifest.deleted}; use another backup"
        )
    return done


def _check_empty(tables: Tables, storage: Storage, manifest: Manifest) -> None:
    try:
        running = json.loads(storage.read(RUNNING))["fingerprint"]
    except NotFoundError:
        running = None
    if running == manifest.fingerprint:
        return
    if running is not None:
        raise ConfigError(
            "another backup was being restored here and broke off; restore that one, or empty the"
            " index and the storage"
        )
    for prefix in tables.prefixes():
        rows = tables.count(prefix, HEADERS)
        if rows:
            raise ConfigError(
                f"the index in {tables.connection.uri} is not empty ({rows} headers in"
                f" {prefix!r}); restore into another data folder, or drop its collections"
            )
    first = next(iter(storage.list(PAYLOAD_KEYS)), None)
    if first is not None:
        raise ConfigError(
            "the storage holds dialogues already; restore into another data folder or prefix"
        )


def _restore_prefix(
    tables: Tables,
    prefix: str,
    table: Table,
    source: Storage,
    done: Restored,
    say: Callable[[str], None],
) -> None:
    settings = Settings(dim=table.dim, bm25_k1=table.bm25_k1, bm25_b=table.bm25_b)
    live: dict[str, int] = {}
    tenants: set[str] = set()
    for row in read_parts(source, table.parts[HEADERS]):
        tenants.add(row["tenant"])
        if row["deleted"]:
            done.deleted += 1
        elif not row["id"].startswith("meta:"):
            done.dialogues += 1
            live[row["id"]] = row["revision"]
    for kind in KINDS:
        for tenant in sorted(tenants):
            tables.ensure(prefix, kind, tenant, settings)
        _check_dim(tables, prefix, kind, settings)
        written = _Ids()
        batch: Rows = []
        for row in read_parts(source, table.parts[kind]):
            if kind != HEADERS and live.get(row["dialogue_key"]) != row["revision"]:
                done.left_out[kind] += 1
                continue
            batch.append(row if kind != HEADERS else {**row, "vector": NO_VECTOR})
            if len(batch) >= BATCH:
                _write(tables, prefix, kind, settings, batch, written)
                batch = []
        _write(tables, prefix, kind, settings, batch, written)
        done.rows[kind] += written.count
        _compare(tables, prefix, kind, written)
        say(f"{prefix}: {written.count} {kind}, compared")


def _write(
    tables: Tables, prefix: str, kind: str, settings: Settings, rows: Rows, written: _Ids
) -> None:
    """Rows of any tenants into their collections."""
    targets: dict[str, Rows] = {}
    for row in rows:
        name = tables.ensure(prefix, kind, row["tenant"], settings)
        targets.setdefault(name, []).append(row)
    for name, part in targets.items():
        size = 8192 if kind == HEADERS else row_bytes(part, settings.dim)
        tables.connection.upsert(name, part, size)
    written.add(row["id"] for row in rows)


def _check_dim(tables: Tables, prefix: str, kind: str, settings: Settings) -> None:
    if kind not in (FRAGMENTS, PASSAGES):
        return
    for name in tables.collections(prefix, kind):
        found = tables.connection.vector_dim(name, "vector")
        if found != settings.dim:
            raise ConfigError(
                f"the collection {name!r} takes vectors of {found} numbers, the backup has"
                f" {settings.dim}; drop the empty collection or restore elsewhere"
            )


def _compare(tables: Tables, prefix: str, kind: str, written: _Ids) -> None:
    there = _Ids()
    there.add(row["id"] for row in tables.rows(prefix, kind, []))
    if there != written:
        raise FfrError(
            f"the index holds {there.count} {kind} in {prefix!r} after {written.count} were"
            " written, or others; nothing else may write during a restore, so run it again"
        )
