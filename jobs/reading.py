"""Read corpora record by record with exact positions: JSONL (also gzipped), Parquet; local, S3.

Nothing is parsed here, so that a broken record is one row with a position, not a broken file.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from ffr_core.errors import FfrError, ForbiddenError, InputError, NotFoundError
from ffr_core.storage import s3_errors, s3_place

logger = logging.getLogger(__name__)
_TRIES = 4
"""Times that one part of an S3 object is asked for."""
_NO_TEXT = b"\xff"
"""Stands for a row of Parquet whose text is not UTF-8: no text either."""
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
    """Find corpus files: files and folders (searched recursively), here or as `s3://` URIs.

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
        if too_large or line.strip():
            yield position, line.rstrip(b"\r\n"), too_large


def _read_parquet(source: Source, max_bytes: int, s3_endpoint: str | None) -> Iterator[RawRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _open(source.uri, s3_endpoint) as stored, _seekable(stored) as data:
        position = 0
        try:
            file = pq.ParquetFile(data)
            share = source.size // max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=64):
                for raw in _json_rows(batch):
                    position += 1
                    yield RawRecord(
                        position=position,
                        raw=raw[: max_bytes + 1],
                        too_large=len(raw) > max_bytes,
                        consumed=share,
                    )
        except pa.ArrowException as error:
            raise InputError(f"Parquet cannot be read after row {position}: {error}") from error


@contextmanager
def _seekable(stored: IO[bytes]) -> Iterator[IO[bytes]]:
    """The stream itself, or a copy of it on disk: a file may be larger than the memory."""
    if stored.seekable():
        yield stored
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stored, copy, 1 << 20)
        yield copy


def _json_rows(batch: Any) -> Iterator[bytes]:
    """Each row as JSON; one whose text is not UTF-8 costs no other."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield _NO_TEXT
            return
        for number in range(batch.num_rows):
            yield from _json_rows(batch.slice(number, 1))
        return
    yield from map(_json, rows)


def _json(row: dict[str, Any]) -> bytes:
    """A row with its JSON columns parsed; lone surrogates, which UTF-8 cannot hold, become `?`."""
    nested = {name: _nested(value) for name, value in row.items() if name in _NESTED}
    try:
        text = json.dumps({**row, **nested}, ensure_ascii=False, default=str)
    except RecursionError:  # parsed to the last level that fits: the text stays, as a bad record
        text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace")


def _nested(value: Any) -> Any:
    """A column that may be JSON text, parsed; text that is no JSON stays, as a bad record."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _list_local(given: str) -> list[Source]:
    name = unquote(given.removeprefix("file://")) if given.startswith("file://") else given
    path = Path(name).expanduser().resolve()
    if not path.exists():
        raise NotFoundError(f"there is no file or folder {given}; check the path")
    files = [path] if path.is_file() else _files_below(path)
    if path.is_file() and not path.name.endswith(SUFFIXES):
        raise InputError(f"{given} is not a corpus file; it must end in {', '.join(SUFFIXES)}")
    return [
        Source(uri=str(p), size=p.stat().st_size)
        for p in files
        if p.name.endswith(SUFFIXES) and not p.name.startswith("dead_letter")
    ]


def _files_below(folder: Path) -> list[Path]:
    def left_out(error: OSError) -> None:
        logger.warning("the folder %s is left out: %s", error.filename, error.strerror)

    found = (Path(place, n) for place, _, names in os.walk(folder, onerror=left_out) for n in names)
    return [path for path in found if path.is_file()]


def _list_s3(uri: str, endpoint: str | None) -> list[Source]:
    import boto3

    bucket, prefix = s3_place(uri)
    with s3_errors(bucket, prefix):
        pages = boto3.client("s3", endpoint_url=endpoint).get_paginator("list_objects_v2")
        found = {
            item["Key"]: Source(uri=f"s3://{bucket}/{item['Key']}", size=item["Size"])
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for item in page.get("Contents", ())
            if item["Key"].endswith(SUFFIXES)
        }
    if prefix in found:
        return [found[prefix]]
    # What is given names a folder, not the start of names: acme/ without acme-private/.
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    return [source for key, source in found.items() if key.startswith(folder)]


def _open(uri: str, endpoint: str | None) -> IO[bytes]:
    if not uri.startswith("s3://"):
        return open(uri, "rb")
    return io.BufferedReader(_S3Stream(uri, endpoint), 1 << 20)


class _S3Stream(io.RawIOBase):
    """An S3 object from its start to its end, with `tell`, so that progress is known.

    A job that reads faster than it writes lets the connection wait, until the server closes it: the
    rest is then asked for again, of the same content.
    """

    def __init__(self, uri: str, endpoint: str | None) -> None:
        import boto3

        self._bucket, self._key = s3_place(uri)
        self._at = 0
        with s3_errors(self._bucket, self._key):
            self._client = boto3.client("s3", endpoint_url=endpoint)
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
        self._body, self._etag, self._size = answer["Body"], answer["ETag"], answer["ContentLength"]

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
        for left in reversed(range(_TRIES)):
            try:
                data = self._read(len(buffer))
                break
            except (NotFoundError, ForbiddenError):
                raise
            except FfrError:
                if not left:
                    raise
                self._body = None
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._at >= self._size:
            return b""
        with s3_errors(self._bucket, self._key):
            if self._body is None:
                self._body = self._client.get_object(
                    Bucket=self._bucket,
                    Key=self._key,
                    Range=f"bytes={self._at}-",
                    IfMatch=self._etag,
                )["Body"]
            data: bytes = self._body.read(size)
        return data
