"""Copy an index to another place, while it is used: rows, vectors, dialogues, what is searched.

Pictures are not copied, an index holds their addresses only. Nothing of a dialogue is copied that
changes meanwhile: a header goes in only when its rows and its payload of the same revision are in,
so a restored index is never wrong, at most a little behind, and the next index job adds the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ffr_core.errors import ConfigError, NotFoundError
from ffr_core.index.collections import KEY as COLLECTIONS
from ffr_core.index.collections import read_collections
from ffr_core.index.milvus_rows import Row
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS, PASSAGES
from ffr_core.index.payload import payload_key
from ffr_core.operations.manifest import (
    FORMAT,
    MANIFEST,
    PAYLOADS,
    Manifest,
    Part,
    PartWriter,
    Table,
    schema_of,
)
from ffr_core.operations.tables import FIELDS, Tables
from ffr_core.protocols import Storage

HEADER_FIELDS = [name for name in FIELDS[HEADERS] if name != "vector"]
_COUNTED = {FRAGMENTS: "num_fragments", PASSAGES: "num_passages"}


@dataclass(slots=True)
class _Run:
    """What a backup has so far."""

    tables: Tables
    storage: Storage
    target: Storage
    payloads: PartWriter
    say: Callable[[str], None]
    copied: set[str] = field(default_factory=set)
    """Keys of payloads."""
    dialogues: int = 0
    deleted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def back_up(
    tables: Tables, storage: Storage, target: Storage, say: Callable[[str], None] = print
) -> Manifest:
    """Copy everything and return the manifest, which is also the last file written.

    Args:
        tables: The index.
        storage: Where its dialogues are.
        target: Where the copy goes; one that holds no backup.
        say: Progress.

    Raises:
        ConfigError: The target holds a backup already, or there is nothing to copy.
    """
    if target.exists(MANIFEST):
        raise ConfigError("there is a backup at this place already; name another one")
    prefixes = tables.prefixes()
    if not prefixes:
        raise ConfigError(
            f"there is no index in {tables.connection.uri}; check the profile and the data folder"
        )
    writer = PartWriter(target, PAYLOADS, schema_of(PAYLOADS, 0))
    run = _Run(tables=tables, storage=storage, target=target, payloads=writer, say=say)
    copies = {prefix: _copy_prefix(run, prefix) for prefix in prefixes}
    manifest = Manifest(
        format=FORMAT,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        dialogues=run.dialogues,
        deleted=run.deleted,
        left_out=dict(sorted(run.left_out.items())),
        tables=copies,
        payloads=writer.finish(),
        collections=asdict(read_collections(storage)) if storage.exists(COLLECTIONS) else None,
    ).sealed()
    manifest.write(target)
    return manifest


def _copy_prefix(run: _Run, prefix: str) -> Table:
    settings = run.tables.settings(prefix)
    expected = {
        row["id"]: row for row in run.tables.rows(prefix, HEADERS, HEADER_FIELDS) if _is_live(row)
    }
    parts: dict[str, tuple[Part, ...]] = {}
    seen: dict[str, Counter[str]] = {}
    for kind in (PASSAGES, FRAGMENTS):
        parts[kind], seen[kind] = _copy_rows(run, prefix, kind, settings.dim, expected)
    missing = _copy_payloads(run, expected)
    encoders, parts[HEADERS] = _copy_headers(run, prefix, expected, seen, missing)
    return Table(
        dim=settings.dim,
        bm25_k1=settings.bm25_k1,
        bm25_b=settings.bm25_b,
        encoders=tuple(sorted(encoders)),
        parts=parts,
    )


def _is_live(row: Row) -> bool:
    return not row["deleted"] and not _is_meta(row)


def _is_meta(row: Row) -> bool:
    return str(row["id"]).startswith("meta:")


def _copy_rows(
    run: _Run, prefix: str, kind: str, dim: int, expected: dict[str, Row]
) -> tuple[tuple[Part, ...], Counter[str]]:
    """Copy the rows that a search would believe; returns how many each dialogue has."""
    writer = PartWriter(run.target, f"{prefix}/{kind}", schema_of(kind, dim))
    seen: Counter[str] = Counter()
    for row in run.tables.rows(prefix, kind):
        header = expected.get(row["dialogue_key"])
        if header is not None and row["revision"] == header["revision"]:
            seen[row["dialogue_key"]] += 1
            writer.add(_plain(row), 4 * dim + 2 * len(row["text"]) + 512)
    parts = writer.finish()
    run.say(f"{prefix}: {sum(part.rows for part in parts)} {kind}")
    return parts, seen


def _plain(row: Row) -> dict[str, Any]:
    import numpy as np

    vector_D = np.asarray(row["vector"], dtype=np.float32)
    return {**row, "participants": list(row["participants"]), "vector": vector_D}


def _copy_payloads(run: _Run, expected: dict[str, Row]) -> set[str]:
    """Copy dialogues once each; returns the ids of headers whose payload is gone."""
    missing = set()
    for row in expected.values():
        key = payload_key(row["tenant"], row["payload"])
        if key in run.copied:
            continue
        try:
            data = run.storage.read(key)
        except NotFoundError:
            missing.add(row["id"])
            continue
        run.payloads.add({"key": key, "data": data}, len(data) + 256)
        run.copied.add(key)
    run.say(f"{len(run.copied)} dialogues")
    return missing


def _copy_headers(
    run: _Run,
    prefix: str,
    expected: dict[str, Row],
    seen: dict[str, Counter[str]],
    missing: set[str],
) -> tuple[set[str], tuple[Part, ...]]:
    """Read the headers again and copy those that still fit; counts what changed meanwhile."""
    writer = PartWriter(run.target, f"{prefix}/{HEADERS}", schema_of(HEADERS, 0))
    encoders: set[str] = set()
    for row in run.tables.rows(prefix, HEADERS, HEADER_FIELDS):
        if _is_meta(row):
            encoders.add(row["fingerprint"])
        elif row["deleted"]:
            run.deleted += 1
        else:
            reason = _reason(row, expected.get(row["id"]), seen, missing)
            if reason is not None:
                run.left_out[reason] += 1
                continue
            run.dialogues += 1
        writer.add(row, 1024)
    return encoders, writer.finish()


def _reason(
    row: Row, before: Row | None, seen: dict[str, Counter[str]], missing: set[str]
) -> str | None:
    """Why a dialogue stays out; None when all of it was copied."""
    if before is None or before["revision"] != row["revision"]:
        return "changed_meanwhile"
    if row["id"] in missing:
        return "no_payload"
    if any(seen[kind][row["id"]] != row[count] for kind, count in _COUNTED.items()):
        return "incomplete_rows"
    return None
