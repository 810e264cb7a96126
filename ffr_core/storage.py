"""Named blobs: a local folder or an S3 prefix, behind `protocols.Storage`.

A key is one or more names joined by `/`, such as `payloads/ab/x.json.zst`. It never begins with
`/` and holds no empty name, `.`, `..`, backslash or control character, so it cannot leave its root.
"""

from __future__ import annotations

import os
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from ffr_core.errors import ConfigError, FfrError, ForbiddenError, NotFoundError
from ffr_core.protocols import Storage

_TEMPORARY = ".writing-"
_MAX_KEY_BYTES = 900
_TRIES = 5
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


def open_storage(uri: str, endpoint_url: str | None = None) -> Storage:
    """Choose by scheme: `s3://bucket/prefix`, `file:///folder`, or the path of a folder.

    Args:
        uri: Where blobs are.
        endpoint_url: S3-compatible server; None takes `AWS_ENDPOINT_URL` or Amazon's.

    Raises:
        ConfigError: An unknown scheme, or an S3 URI without a bucket.
    """
    parsed = urlparse(uri)
    if parsed.scheme == "s3":
        bucket, prefix = s3_place(uri)
        return S3Storage(bucket, prefix.strip("/"), endpoint_url=endpoint_url)
    if parsed.scheme == "file":
        return LocalStorage(unquote(parsed.path))
    if "://" in uri:
        raise ConfigError(f"storage {uri!r} has an unknown scheme; use s3://, file:// or a folder")
    return LocalStorage(uri)


def s3_place(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` URI; a key may hold `#`, `?` and `%` as they are."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key.lstrip("/")


class LocalStorage:
    """Files under one folder. Symbolic links that lead out of it are not followed."""

    def __init__(self, root: str | Path) -> None:
        """Use a folder; it is created by the first write."""
        self.root = Path(root).absolute()

    def read(self, key: str) -> bytes:
        """Return the content; NotFoundError when absent."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _not_found(key, str(self.root)) from error

    def write(self, key: str, data: bytes) -> None:
        """Create or replace: written beside, flushed to disk, then renamed."""
        path = self._path(key)
        for left in reversed(range(_TRIES)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_beside(path, data)
                break
            except FileNotFoundError:  # `sweep` of another process took the file or its folder
                if not left:
                    raise
        with suppress(FileNotFoundError):  # deleted and swept since
            _flush_folder(path.parent)

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return self._path(key).is_file()

    def delete(self, key: str) -> bool:
        """Remove; False when it was not there."""
        try:
            self._path(key).unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
            if self.exists(key):
                raise
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted; a prefix may end inside a name."""
        folder = self.root
        if "/" in prefix:
            folder = self._path(prefix.rpartition("/")[0])
        keys = (
            Path(parent, name).relative_to(self.root).as_posix()
            for parent, _, names in os.walk(folder)
            for name in names
            if not name.startswith(_TEMPORARY)
        )
        yield from sorted(key for key in keys if key.startswith(prefix))

    def sweep(self, folder: str) -> None:
        """Remove what writes that were killed left in a folder; one in progress starts again.

        The folder goes too when it is empty, and so do those above it below the root.
        """
        path = self._path(folder)
        for left in path.glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone
            while path != self.root:
                path.rmdir()
                path = path.parent

    def _path(self, key: str) -> Path:
        check_key(key)
        path = self.root / key
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ForbiddenError(
                f"key {key!r} leaves the folder {self.root} through a link; remove the link"
            )
        return path


class S3Storage:
    """Objects under a prefix of one bucket, on Amazon S3 or a compatible server.

    Credentials come from the environment or the machine, as boto3 finds them. May be sent to other
    processes; each opens its own connection.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:
        """Use a bucket that exists.

        Args:
            bucket: Its name.
            prefix: Start of all keys, without slashes at its ends.
            endpoint_url: S3-compatible server; None takes `AWS_ENDPOINT_URL` or Amazon's.
            region: AWS region; None takes the environment's.

        Raises:
            ConfigError: An empty bucket name.
        """
        if not bucket:
            raise ConfigError("an s3:// URI names no bucket; write s3://bucket/prefix")
        if prefix:
            check_key(prefix)
        self.bucket, self.prefix = bucket, prefix
        self.endpoint_url, self.region = endpoint_url, region

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connection behind."""
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    def read(self, key: str) -> bytes:
        """Return the content; NotFoundError when absent."""
        with self._context(key):
            response = self._client.get_object(Bucket=self.bucket, Key=self._name(key))
            data: bytes = response["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Create or replace; S3 shows an object only when it is complete."""
        with self._context(key):
            self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        try:
            with self._context(key):
                self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> bool:
        """Remove; False when it was not there."""
        if not self.exists(key):
            return False
        with self._context(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted; a prefix may end inside a name."""
        if "/" in prefix:
            check_key(prefix.rpartition("/")[0])
        root = f"{self.prefix}/" if self.prefix else ""
        keys: list[str] = []
        with self._context(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=root + prefix
            )
            for page in pages:
                keys.extend(item["Key"][len(root) :] for item in page.get("Contents", ()))
        yield from sorted(keys)

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            config=Config(
                connect_timeout=10, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}
            ),
        )

    def _name(self, key: str) -> str:
        check_key(key)
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _context(self, key: str) -> Iterator[None]:
        with s3_errors(self.bucket, key, self.prefix):
            yield


@contextmanager
def s3_errors(bucket: str, key: str, prefix: str = "") -> Iterator[None]:
    """Turn boto3's errors into ours; the names are for their messages.

    Args:
        bucket: Its name.
        key: What is asked for below the prefix.
        prefix: Start of all keys.

    Raises:
        NotFoundError: No such bucket or key.
        ForbiddenError: The credentials do not suffice.
        FfrError: Anything else, such as no credentials or no connection.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    where = f"s3://{bucket}/{prefix}"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "NoSuchBucket":
            raise NotFoundError(
                f"there is no bucket {bucket!r}; create it or correct the URI"
            ) from error
        if code in _ABSENT:
            raise _not_found(key, where) from error
        if code in _REFUSED:
            raise ForbiddenError(
                f"{where} refuses key {key!r} ({code}); check the credentials"
            ) from error
        raise FfrError(f"{where} failed on key {key!r}: {error}; try again") from error
    except BotoCoreError as error:
        raise FfrError(
            f"{where} cannot be reached: {error}; check the endpoint and the credentials"
        ) from error


def check_key(key: str) -> None:
    """Refuse a key that could leave its root or that one of the back ends cannot hold."""
    names = key.split("/")
    if (
        any(name in ("", ".", "..") or name.startswith(_TEMPORARY) for name in names)
        or any(char == "\\" or unicodedata.category(char) in ("Cc", "Cs") for char in key)
        or any(len(name.encode("utf-8", "replace")) > 255 for name in names)
        or len(key.encode("utf-8", "replace")) > _MAX_KEY_BYTES
    ):
        raise ForbiddenError(
            f"key {key[:80]!r} is not allowed; join plain names by / and keep it under"
            f" {_MAX_KEY_BYTES} bytes"
        )


def _not_found(key: str, where: str) -> NotFoundError:
    return NotFoundError(f"there is no {key!r} in {where}; check the name and the folder or bucket")


def _write_beside(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
