"""Read corpora record by record with exact positions: JSONL (also gzipped), Parquet; local, S3.

Nothing is parsed here, so that a broken record is one row with a position, not a broken file.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from ffr_core.errors import InputError, NotFoundError
from ffr_core.storage import s3_errors

_NESTED = ("turns", "fragments", "queries")
SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One corpus file."""

    uri: str
    size: int
    """Bytes as stored."""

    @property
    def base(self) -> str:
        """The folder or prefix that relative image paths refer to."""
        return self.uri.rsplit("/", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One record, not parsed yet."""

    position: int
    """Line number (JSONL) or row number (Parquet), from 1."""
    raw: bytes
    """Its JSON; cut when it exceeds the limit."""
    too_large: bool
    consumed: int
    """Stored bytes of the file read since the record before."""


def list_sources(inputs: tuple[str, ...], s3_endpoint: str | None = None) -> list[Source]:
    """Find corpus files: files, folders (searched recursively) and `s3://bucket/prefix` URIs.

    Raises:
        NotFoundError: A path does not exist, or holds no corpus file.
        FfrError: S3 refuses or cannot be reached.
    """
    sources: list[Source] = []
    for given in inputs:
        found = _list_s3(given, s3_endpoint) if given.startswith("s3://") else _list_local(given)
        if not found:
            raise NotFoundError(
                f"{given} holds no corpus file ({', '.join(SUFFIXES)});"
                " `ffrs import` makes one from a chat export"
            )
        sources.extend(found)
    return sorted({source.uri: source for source in sources}.values(), key=lambda s: s.uri)


def read_records(
    source: Source, max_bytes: int, s3_endpoint: str | None = None
) -> Iterator[RawRecord]:
    """Yield the records of one file in order; blank lines are no records."""
    if source.uri.endswith(".parquet"):
        yield from _read_parquet(source, max_bytes, s3_endpoint)
        return
    with _open(source.uri, s3_endpoint) as stored:
        lines = gzip.GzipFile(fileobj=stored) if source.uri.endswith(".gz") else stored
        before = 0
        for position, raw, too_large in _lines(lines, max_bytes):
            at = stored.tell()
            yield RawRecord(
                position=position, raw=raw, too_large=too_large, consumed=max(0, at - before)
            )
            before = at


def _lines(stream: Any, max_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    position = 0
    while line := stream.readline(max_bytes + 1):
        position += 1
        too_large = len(line) > max_bytes and not line.endswith(b"\n")
        rest = line
        while too_large and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
        if line.strip():
            yield position, line.rstrip(b"\r\n"), too_large


def _read_parquet(source: Source, max_bytes: int, s3_endpoint: str | None) -> Iterator[RawRecord]:
    import pyarrow.parquet as pq

    with _open(source.uri, s3_endpoint) as stored:
        file = pq.ParquetFile(stored if stored.seekable() else io.BytesIO(stored.read()))
        share = source.size // max(1, file.metadata.num_rows)
        position = 0
        for batch in file.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                position += 1
                nested = {name: _nested(value) for name, value in row.items() if name in _NESTED}
                raw = json.dumps({**row, **nested}, ensure_ascii=False, default=str).encode()
                yield RawRecord(
                    position=position,
                    raw=raw[: max_bytes + 1],
                    too_large=len(raw) > max_bytes,
                    consumed=share,
                )


def _nested(value: Any) -> Any:
    """A column that may be JSON text, parsed; text that is no JSON stays, as a bad record."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _list_local(given: str) -> list[Source]:
    path = Path(given.removeprefix("file://")).expanduser().resolve()
    if not path.exists():
        raise NotFoundError(f"there is no file or folder {given}; check the path")
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    if path.is_file() and not path.name.endswith(SUFFIXES):
        raise InputError(f"{given} is not a corpus file; it must end in {', '.join(SUFFIXES)}")
    return [
        Source(uri=str(p), size=p.stat().st_size)
        for p in files
        if p.name.endswith(SUFFIXES) and not p.name.startswith("dead_letter")
    ]


def _list_s3(uri: str, endpoint: str | None) -> list[Source]:
    import boto3

    parsed = urlparse(uri)
    prefix = parsed.path.lstrip("/")
    with s3_errors(parsed.netloc, prefix):
        pages = boto3.client("s3", endpoint_url=endpoint).get_paginator("list_objects_v2")
        return [
            Source(uri=f"s3://{parsed.netloc}/{item['Key']}", size=item["Size"])
            for page in pages.paginate(Bucket=parsed.netloc, Prefix=prefix)
            for item in page.get("Contents", ())
            if item["Key"].endswith(SUFFIXES)
        ]


def _open(uri: str, endpoint: str | None) -> IO[bytes]:
    if not uri.startswith("s3://"):
        return open(uri, "rb")
    import boto3

    parsed = urlparse(uri)
    key = parsed.path.lstrip("/")
    with s3_errors(parsed.netloc, key):
        client = boto3.client("s3", endpoint_url=endpoint)
        answer = client.get_object(Bucket=parsed.netloc, Key=key)
    return io.BufferedReader(_Counting(answer["Body"], parsed.netloc, key), 1 << 20)  # type: ignore[arg-type]


class _Counting(io.RawIOBase):
    """Give a network stream `tell`, so that progress is known."""

    def __init__(self, stream: Any, bucket: str, key: str) -> None:
        self._stream, self._place = stream, (bucket, key)
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """False: a network stream only goes forward."""
        return False

    def tell(self) -> int:
        """Bytes handed out so far."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the network."""
        with s3_errors(*self._place):
            data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
