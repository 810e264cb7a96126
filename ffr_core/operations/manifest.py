"""What a backup consists of: a manifest and compressed Parquet files, each with its checksum.

manifest.json                     written last; without it a backup is not complete
<prefix>/<headers|fragments|passages>/000000.parquet
payloads/000000.parquet           dialogues as the storage holds them
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffr_core.config import Config
from ffr_core.errors import ConfigError, FfrError, NotFoundError
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS, PASSAGES
from ffr_core.protocols import Storage

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""Version of the layout; another one is refused."""
MANIFEST = "manifest.json"
PAYLOADS = "payloads"
PART_ROWS = 20_000
PART_BYTES = 64_000_000
"""Rows of about this size are held in memory at a time."""


class Part(Config):
    """One file."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Table(Config):
    """The collections of one prefix."""

    dim: int
    """D."""
    bm25_k1: float
    bm25_b: float
    encoders: tuple[str, ...]
    """Fingerprints of the encoders that made the vectors."""
    parts: dict[str, tuple[Part, ...]]
    """Kind of rows -> files."""


class Manifest(Config):
    """`manifest.json`."""

    format: int
    made_at: str
    """ISO 8601, UTC."""
    dialogues: int
    """Live dialogues, over all prefixes."""
    deleted: int
    """Tombstones."""
    left_out: dict[str, int]
    """Reason -> dialogues that changed while the backup was made."""
    tables: dict[str, Table]
    """Prefix -> its collections."""
    payloads: tuple[Part, ...]
    collections: dict[str, Any] | None
    """Which collections are searched; None where nothing was ever reindexed."""
    fingerprint: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Hash of all other fields, and so of every file."""

    def sealed(self) -> Manifest:
        """The same with its fingerprint."""
        return self.model_copy(update={"fingerprint": self._digest()})

    def write(self, target: Storage) -> None:
        """Write it."""
        target.write(MANIFEST, self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, source: Storage) -> Manifest:
        """Read it.

        Raises:
            NotFoundError: No complete backup there.
            ConfigError: Another version of the format, or a changed manifest.
        """
        try:
            values = json.loads(source.read(MANIFEST))
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no complete backup ({error}); name the place that `ffrs backup` wrote,"
                " or make the backup again if it broke off"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{MANIFEST} is not JSON: {error}; make the backup again") from error
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise ConfigError(
                f"the backup has format {found!r}, this program reads {FORMAT}; restore it with the"
                " version that made it"
            )
        manifest = cls.parse(values, MANIFEST)
        if manifest.fingerprint != manifest._digest():
            raise ConfigError(
                f"{MANIFEST} does not fit its fingerprint; it was changed, so use another backup"
            )
        return manifest

    def _digest(self) -> str:
        values = self.model_dump(mode="json", exclude={"fingerprint"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class PartWriter:
    """Writes rows of one kind as files of bounded size."""

    def __init__(self, target: Storage, folder: str, schema: pa.Schema) -> None:
        """Write below `folder`."""
        self._target, self._folder, self._schema = target, folder, schema
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self.parts: list[Part] = []

    def add(self, row: dict[str, Any], size: int) -> None:
        """Add a row that takes about `size` bytes."""
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= PART_ROWS or self._size >= PART_BYTES:
            self._flush()

    def finish(self) -> tuple[Part, ...]:
        """Write what is left; returns all files."""
        if self._rows:
            self._flush()
        return tuple(self.parts)

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        name = f"{self._folder}/{len(self.parts):06d}.parquet"
        self._target.write(name, data)
        digest = hashlib.sha256(data).hexdigest()
        part = Part(name=name, rows=len(self._rows), bytes=len(data), sha256=digest)
        self.parts.append(part)
        self._rows, self._size = [], 0


def read_parts(source: Storage, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Rows of files, one file in memory at a time.

    Raises:
        FfrError: A file is missing or not as it was written.
    """
    import pyarrow.parquet as pq

    for part in parts:
        try:
            data = source.read(part.name)
        except NotFoundError as error:
            raise FfrError(f"the backup lacks {part.name}; use another backup") from error
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise FfrError(
                f"{part.name} of the backup is damaged ({len(data)} bytes, {part.bytes} were"
                " written); use another backup"
            )
        for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches(batch_size=1_000):
            yield from batch.to_pylist()


def schema_of(kind: str, dim: int) -> pa.Schema:
    """Columns of one kind of rows."""
    import pyarrow as pa

    if kind == PAYLOADS:
        return pa.schema([("key", pa.string()), ("data", pa.binary())])
    texts, numbers = ["id", "tenant"], ["revision"]
    if kind == HEADERS:
        texts += ["dialogue_id", "fingerprint", "payload"]
        numbers += ["num_fragments", "num_passages"]
        rest = [("deleted", pa.bool_())]
    else:
        texts += ["dialogue_key", "turn_ids", "text"]
        texts += ["fragment_key"] if kind == PASSAGES else []
        numbers += ["min_ms", "max_ms"]
        numbers += ["fragment_id", "num_passages"] if kind == FRAGMENTS else []
        rest = [
            ("has_image", pa.bool_()),
            ("participants", pa.list_(pa.string())),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    return pa.schema(
        [*((name, pa.string()) for name in texts), *((name, pa.int64()) for name in numbers), *rest]
    )
