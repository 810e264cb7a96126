"""All rows of an index as they lie in Milvus, whatever encoder made them and whoever owns them.

Backup and retention need no encoder, and tenants appear by their keys: Milvus holds no tenant name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ffr_core.index.collections import DEFAULT, read_collections
from ffr_core.index.milvus_connection import Connection
from ffr_core.index.milvus_rows import Row
from ffr_core.index.milvus_schema import (
    FRAGMENTS,
    HEADER_FIELDS,
    HEADERS,
    PASSAGES,
    Layout,
    build_schema,
    layout_for,
)
from ffr_core.protocols import Storage

KINDS = (PASSAGES, FRAGMENTS, HEADERS)
"""In the order in which a restore writes them: headers prove that the rest is there."""
PAGE = 500
"""Rows that one call reads: with their vectors, about 16 MB of Python numbers at D = 1024."""
_SHARED = [
    *("tenant", "revision", "dialogue_key", "turn_ids", "participants"),
    *("min_ms", "max_ms", "has_image", "text", "vector"),
]
FIELDS = {
    HEADERS: ["tenant", *HEADER_FIELDS],
    FRAGMENTS: [*_SHARED, "fragment_id", "num_passages"],
    PASSAGES: [*_SHARED, "fragment_key"],
}
"""All fields of a row beside its `id`, without those that Milvus fills in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a set of collections was made."""

    dim: int
    """D."""
    bm25_k1: float
    bm25_b: float


class Tables:
    """The collections whose names start with one of some prefixes."""

    def __init__(self, connection: Connection, prefixes: Sequence[str]) -> None:
        """Use an open connection; prefixes without collections do not matter."""
        self.connection = connection
        self.known = tuple(dict.fromkeys(prefixes))
        self._loaded: set[str] = set()

    def prefixes(self) -> list[str]:
        """Those prefixes that have collections."""
        return [prefix for prefix in self.known if self.collections(prefix, HEADERS)]

    def layout(self, prefix: str) -> Layout:
        """Where the rows of a prefix are."""
        return layout_for(self.connection.is_lite, prefix)

    def collections(self, prefix: str, kind: str) -> list[str]:
        """Names of the collections of one kind: one on a server, one a tenant on Lite."""
        owner = "" if self.layout(prefix).shared else "_[0-9a-f]{32}"
        pattern = re.compile(f"{re.escape(prefix)}{owner}_{kind}")
        return [name for name in self.connection.names() if pattern.fullmatch(name)]

    def rows(
        self, prefix: str, kind: str, fields: Sequence[str] | None = None, expression: str = ""
    ) -> Iterator[Row]:
        """All rows of one kind, page by page.

        Args:
            prefix: Which collections.
            kind: HEADERS, FRAGMENTS or PASSAGES.
            fields: Fields beside `id`; all when left out.
            expression: Which rows.
        """
        wanted = list(FIELDS[kind] if fields is None else fields)
        page = PAGE if "vector" in wanted else 10_000
        for collection in self.collections(prefix, kind):
            self._load(collection)
            yield from self.connection.scan(collection, expression, wanted, page)

    def count(self, prefix: str, kind: str) -> int:
        """Number of rows of one kind."""
        total = 0
        for collection in self.collections(prefix, kind):
            self._load(collection)
            total += self.connection.count(collection, "")
        return total

    def settings(self, prefix: str) -> Settings:
        """How the collections of a prefix were made; all of a prefix share an encoder."""
        first = self.collections(prefix, FRAGMENTS)[0]
        client, timeout = self.connection.client, self.connection.timeout
        found: dict[str, Any] = client.describe_index(first, "words", timeout=timeout) or {}
        found = {**found, **found.get("params", {})}
        return Settings(
            dim=self.connection.vector_dim(first, "vector"),
            bm25_k1=float(found.get("bm25_k1", 1.2)),
            bm25_b=float(found.get("bm25_b", 0.75)),
        )

    def ensure(self, prefix: str, kind: str, tenant: str, settings: Settings) -> str:
        """Create the collection of a tenant's key where it is missing; returns its name."""
        layout = self.layout(prefix)
        name = layout.collection_of_key(kind, tenant)
        if name not in self._loaded:
            parts = build_schema(kind, layout, settings.dim, settings.bm25_k1, settings.bm25_b)
            self.connection.ensure(name, *parts)
            self._loaded.add(name)
        return name

    def close(self) -> None:
        """Release the file or connection."""
        self.connection.close()

    def _load(self, collection: str) -> None:
        if collection not in self._loaded:
            self.connection.load(collection)
            self._loaded.add(collection)


def prefixes_of(storage: Storage, own: str | None = None) -> list[str]:
    """Prefixes that an index uses: a profile's own, those of every `ffrs reindex`, the first."""
    collections = read_collections(storage)
    named = [own or DEFAULT, collections.current, *collections.encoders.values(), DEFAULT]
    return list(dict.fromkeys(named))
