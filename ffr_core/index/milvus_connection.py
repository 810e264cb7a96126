"""One connection to Milvus: a Lite file or a server, with time limits and without windows.

Milvus Lite is a child process that owns the file (`lite`). Two things are ours: paging by primary
key (a query returns at most 16,383 rows and does not say that there are more), and one sentence
instead of the library's errors.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from ffr_core.errors import BusyError, ConfigError, FfrError
from ffr_core.index.filters import both, quoted
from ffr_core.index.lite import lock_file, release_child, start_child

MAX_WINDOW = 16_384
"""Most rows that one search may ask for."""
_PAGE = 10_000
_KEYS_AT_ONCE = 2_000
_ROWS_AT_ONCE = 500
_BYTES_AT_ONCE = 16 * 2**20
_TRIES = 5
_OLDEST_SERVER = (2, 5, 0)
_NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1}
"""For Lite: pymilvus pings every 10 s, which a Lite child answers by closing an idle connection."""
T = TypeVar("T")


class Connection:
    """The calls that the index needs, each with a time limit."""

    def __init__(self, uri: str, token: str | None = None, timeout: float = 30.0) -> None:
        """Connect.

        Args:
            uri: `http(s)://host:port` of a server, else the path of a Lite file (`*.db`).
            token: `user:password` or API key of a server.
            timeout: Seconds that one call may take.

        Raises:
            BusyError: The Lite file is open, in this process or another.
            ConfigError: A path that Lite cannot use, or a server that is too old.
            FfrError: The server, or the child of a Lite file, does not answer.
        """
        self.uri, self.timeout = uri, timeout
        self.is_lite = "://" not in uri
        self._lock: IO[str] | None = None
        if self.is_lite:
            self._lock = lock_file(Path(uri))
        try:
            self.client = self._connect(token)
        except BaseException:
            self.close()
            raise

    def _connect(self, token: str | None) -> Any:
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        if self.is_lite:
            start_child(Path(self.uri), self.timeout)
        with self._context("connecting"):
            client = MilvusClient(
                uri=self.uri,
                token=token or "",
                timeout=self.timeout,
                grpc_options=_NO_PINGS if self.is_lite else {},
            )
            if not self.is_lite:
                check_server_version(client.get_server_version(timeout=self.timeout))
        return client

    @contextmanager
    def _context(self, doing: str) -> Iterator[None]:
        from grpc import RpcError  # type: ignore[import-untyped]
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError) as error:
            raise self._trouble(doing, error) from error

    def _trouble(self, doing: str, error: Any) -> FfrError:
        """What the library or gRPC below it raised, in one sentence."""
        code = getattr(error, "code", None)
        name = getattr(code() if callable(code) else code, "name", "")
        if name in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
            return BusyError(
                f"Milvus at {self.uri} gave no answer ({name}, limit {self.timeout:g} s) while"
                f" {doing}; check that it runs and run the same command again when it is less busy"
            )
        details = getattr(error, "message", "") or getattr(error, "details", str)() or error
        return FfrError(
            f"Milvus at {self.uri} failed while {doing}: {details}; check that it runs and run the"
            " same command again"
        )

    def has(self, collection: str) -> bool:
        """Whether a collection exists."""
        with self._context(f"looking for {collection}"):
            return bool(self.client.has_collection(collection, timeout=self.timeout))

    def names(self) -> list[str]:
        """Names of all collections, ours and others, sorted."""
        with self._context("listing collections"):
            return sorted(self.client.list_collections(timeout=self.timeout))

    def load(self, collection: str) -> None:
        """Make a collection that exists searchable; needed after every connect."""
        with self._context(f"opening {collection}"):
            self.client.load_collection(collection, timeout=self.timeout)

    def ensure(self, collection: str, schema: Any, indexes: Any) -> None:
        """Create what is missing of a collection and make it searchable.

        Loading is needed after every connect; a creation that broke off is completed. The library's
        wait of half a second an index is left out.
        """
        with self._context(f"opening {collection}"):
            if not self.client.has_collection(collection, timeout=self.timeout):
                self.client.create_collection(collection, schema=schema, timeout=self.timeout)
            if len(self.client.list_indexes(collection, timeout=self.timeout)) < len(indexes):
                self.client.create_index(collection, indexes, timeout=self.timeout, sync=False)
            self.client.load_collection(collection, timeout=self.timeout)

    def count(self, collection: str, expression: str) -> int:
        """Number of rows that an expression selects."""
        with self._context(f"counting {collection}"):
            rows = self.client.query(
                collection,
                filter=expression,
                output_fields=["count(*)"],
                timeout=self.timeout,
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    def drop(self, collection: str) -> None:
        """Remove a collection and all its rows."""
        with self._context(f"dropping {collection}"):
            self.client.drop_collection(collection, timeout=self.timeout)

    def vector_dim(self, collection: str, field: str) -> int:
        """D of a vector field."""
        with self._context(f"describing {collection}"):
            fields = self.client.describe_collection(collection, timeout=self.timeout)["fields"]
        return int(next(item for item in fields if item["name"] == field)["params"]["dim"])

    def upsert(self, collection: str, rows: Sequence[dict[str, Any]], row_bytes: int) -> None:
        """Write whole rows, in batches; a primary key appears once.

        Args:
            collection: Name.
            rows: Every field of each row.
            row_bytes: What one row weighs at most.
        """
        assert len({row["id"] for row in rows}) == len(rows)
        size = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // row_bytes))
        for batch in _batches(rows, size):
            with self._context(f"writing to {collection}"):
                self.client.upsert(collection, list(batch), timeout=self.timeout)

    def delete(self, collection: str, keys: Iterable[str]) -> None:
        """Remove rows by primary key; absent ones do not matter."""
        for batch in _batches(sorted(keys), _KEYS_AT_ONCE):
            with self._context(f"deleting from {collection}"):
                self.client.delete(collection, ids=list(batch), timeout=self.timeout)

    def get(
        self, collection: str, keys: Sequence[str], fields: list[str], consistency: str
    ) -> dict[str, dict[str, Any]]:
        """Rows by primary key; absent ones are left out."""
        found: dict[str, dict[str, Any]] = {}
        for batch in _batches(keys, _KEYS_AT_ONCE):
            with self._context(f"reading {collection}"):
                rows = self.client.query(
                    collection,
                    filter=f"id in {quoted(batch)}",
                    output_fields=["id", *fields],
                    timeout=self.timeout,
                    consistency_level=consistency,
                )
            found.update((row["id"], row) for row in rows)
        return found

    def scan(
        self, collection: str, expression: str, fields: list[str], page: int = _PAGE
    ) -> Iterator[dict[str, Any]]:
        """All rows that an expression selects, by ascending primary key, `page` at a time."""
        last = ""
        while True:
            with self._context(f"reading {collection}"):
                rows = self.client.query(
                    collection,
                    filter=both(expression, f"id > {quoted([last])[1:-1]}"),
                    output_fields=["id", *fields],
                    limit=page,
                    timeout=self.timeout,
                    consistency_level="Strong",
                )
            yield from rows
            if len(rows) < page:
                return
            last = max(row["id"] for row in rows)

    def search(
        self,
        collection: str,
        field: str,
        query: Any,
        expression: str,
        limit: int,
        consistency: str,
    ) -> list[tuple[str, float, int]]:
        """Return `(primary key, score, revision)`, best first, at most `limit`.

        Lite counts the rows and their words one after the other, and a search in between fails over
        a word that all rows hold ("Invalid sparse row"); such a search is repeated.
        """

        def call() -> Any:
            with self._context(f"searching {collection}"):
                return self.client.search(
                    collection,
                    [query],
                    anns_field=field,
                    filter=expression,
                    limit=limit,
                    output_fields=["revision"],
                    timeout=self.timeout,
                    consistency_level=consistency,
                )[0]

        hits = _repeated(call)
        return [(hit["id"], float(hit["distance"]), int(hit["entity"]["revision"])) for hit in hits]

    def close(self) -> None:
        """Disconnect; end the Lite child and release its file. Twice is as good as once."""
        client, self.client = getattr(self, "client", None), None
        if client is not None:
            client.close()
        if self._lock is not None:
            release_child(Path(self.uri))
            self._lock.close()
            self._lock = None


def check_server_version(version: str) -> None:
    """Refuse a server without full-text search.

    Partition keys lose upserts before 2.3.10, BM25 functions came with 2.5; 2.6 is recommended.
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    found = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if found < _OLDEST_SERVER:
        raise ConfigError(
            f"the Milvus server has version {version!r}; 2.5.0 or newer is needed (BM25, and"
            " upserts with a partition key, which lose rows before 2.3.10), so upgrade it"
        )


def _repeated(call: Callable[[], T]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return call()
        except FfrError as error:
            if "Invalid sparse row" not in str(error):
                raise
    return call()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
