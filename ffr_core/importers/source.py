"""The files of an export by relative names, within limits: a folder, or one file in its folder.

Limits on number, size and ratio are checked on the bytes that really come out. `archive.py` adds
the `.zip`.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote

from ffr_core.errors import ForbiddenError, LimitError, RecordError

_MIB = 1 << 20
NOISE = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|\._|Thumbs\.db$|desktop\.ini$)")
"""Files that operating systems leave behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an export may hold. The defaults fit the exports of real accounts."""

    max_members: int = 500_000
    """Files of a folder or archive."""
    max_member_bytes: int = 512 * _MIB
    """One text or JSON file, uncompressed."""
    max_total_bytes: int = 32 << 30
    """All that is read from one source, uncompressed."""
    max_ratio: float = 200.0
    """Uncompressed / compressed size of a member larger than `ratio_from_bytes`."""
    ratio_from_bytes: int = 16 * _MIB
    max_image_bytes: int = 64 * _MIB
    """One picture file."""
    max_pixels: int = 64_000_000
    """Width times height of one picture."""


class Source(ABC):
    """Files of one export by their relative names, which use `/`."""

    def __init__(self, label: str, limits: Limits) -> None:
        self.label = label
        """Name of the folder or archive, without its ending."""
        self.limits = limits
        self._total = 0

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """All files, sorted."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Uncompressed size as stated, in bytes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read one file.

        Raises:
            RecordError: With reason `unreadable_file` when the file is damaged.
            LimitError: When it, or the whole export, is too large.
        """

    def with_endings(self, *endings: str) -> list[str]:
        """Files with one of the endings (lower case); the one file that was given in any case."""
        return [name for name in self.names if name.lower().endswith(endings)]

    def find(self, ref: str, near: str = "") -> str | None:
        """The file that a message refers to: beside the chat, from the root, or by a unique name.

        Args:
            ref: Relative path or file name as the export writes it.
            near: Folder of the chat inside the export.

        Raises:
            ForbiddenError: When `ref` is absolute or leaves the export.
        """
        for form in dict.fromkeys((ref, unquote(ref))):
            relative = safe_name(form)
            for candidate in dict.fromkeys((f"{near}/{relative}" if near else relative, relative)):
                if (name := self._lookup(candidate)) is not None:
                    return name
            same = self._by_base.get(_key(relative.rsplit("/", 1)[-1]), ())
            if len(same) == 1:
                return same[0]
        return None

    def _lookup(self, name: str) -> str | None:
        return self._by_name.get(_key(name))

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {_key(name): name for name in self.names}

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for name in self.names:
            index.setdefault(_key(name.rsplit("/", 1)[-1]), []).append(name)
        return index

    def _check_count(self, count: int) -> None:
        if count > self.limits.max_members:
            raise LimitError(
                f"{self.label} holds more than {self.limits.max_members} files;"
                " give the folder of the export alone, or raise the limit"
            )

    def _drain(self, stream: IO[bytes], name: str, compressed: int | None) -> bytes:
        chunks: list[bytes] = []
        got = 0
        while chunk := stream.read(_MIB):
            got += len(chunk)
            self._total += len(chunk)
            check_growth(name, got, compressed, self.limits)
            if self._total > self.limits.max_total_bytes:
                raise LimitError(
                    f"{self.label} unpacks to more than {self.limits.max_total_bytes} bytes;"
                    " split the export, or raise the limit"
                )
            chunks.append(chunk)
        return b"".join(chunks)


class FolderSource(Source):
    """A folder, or one file with what lies beside it."""

    def __init__(self, path: Path, limits: Limits, exclude: Path | None = None) -> None:
        """List nothing yet.

        Args:
            path: A folder, or a file; then only that file is read as a chat, and media is looked
                up relative to its folder.
            limits: Number and sizes.
            exclude: A folder to ignore (the output, when it lies inside the export).
        """
        self._only = path.name if path.is_file() else None
        self.root = (path.parent if self._only else path).resolve()
        super().__init__(self.root.name, limits)
        self.links_refused = 0
        """Links that leave the folder, or lead to no file."""
        self.unreadable: list[str] = []
        """Folders and files that may not be read."""
        self._exclude = exclude.resolve() if exclude else None

    @cached_property
    def names(self) -> list[str]:
        """All files, sorted."""
        if self._only:
            return [self._only]
        names: list[str] = []
        for folder, subfolders, files in os.walk(self.root, onerror=self._note):
            here = Path(folder)
            prefix = "" if here == self.root else f"{here.relative_to(self.root).as_posix()}/"
            subfolders[:] = [sub for sub in subfolders if here / sub != self._exclude]
            for file in files:
                name = f"{prefix}{file}"
                if NOISE.search(name):
                    continue
                try:
                    mode = os.lstat(here / file).st_mode
                    if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and self._inside(here / file)):
                        names.append(name)
                    elif stat.S_ISLNK(mode):
                        self.links_refused += 1
                except OSError as error:
                    self._note(error)
            self._check_count(len(names))
        return sorted(names)

    def _note(self, error: OSError) -> None:
        path = str(error.filename)
        self.unreadable.append(os.path.relpath(path, self.root))

    def with_endings(self, *endings: str) -> list[str]:
        """See `Source.with_endings`."""
        return [self._only] if self._only else super().with_endings(*endings)

    def size(self, name: str) -> int:
        """Size in bytes."""
        return (self.root / name).stat().st_size

    def read(self, name: str) -> bytes:
        """Read one file; see `Source.read`."""
        try:
            with (self.root / name).open("rb") as stream:
                return self._drain(stream, name, None)
        except OSError as error:
            raise RecordError("unreadable_file", f"cannot read {name}: {error.strerror}") from error

    def _lookup(self, name: str) -> str | None:
        if not self._only:
            return super()._lookup(name)
        try:
            return name if self._inside(self.root / name) else None
        except OSError:  # a name that is too long for the file system
            return None

    def _inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.root)


def check_growth(
    name: str, size: int, compressed: int | None, limits: Limits, max_bytes: int | None = None
) -> None:
    """Raise LimitError when `size` bytes out of `compressed` bytes are too many.

    Args:
        name: For the message.
        size: Uncompressed bytes so far, or as stated.
        compressed: Bytes they come from; None for a plain file.
        limits: The limits.
        max_bytes: Instead of `max_member_bytes`; 0 for no limit (members that may never be read).
    """
    most = limits.max_member_bytes if max_bytes is None else max_bytes
    if most and size > most:
        raise LimitError(
            f"{name:.120} is larger than {most} bytes; split the export, or raise the limit"
        )
    suspicious = compressed is not None and size > limits.max_ratio * max(compressed, 1)
    if suspicious and size > limits.ratio_from_bytes:
        raise LimitError(
            f"{name:.120} unpacks to more than {limits.max_ratio:g} times its size,"
            " as decompression bombs do; unpack it yourself if you trust it"
        )


def safe_name(name: str) -> str:
    """Normalize a relative name; ForbiddenError when it is absolute or leaves its folder."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if plain.startswith("/") or re.match(r"[A-Za-z]:/", plain) or ".." in parts or "\0" in plain:
        raise ForbiddenError(
            f"{name!r:.80} leaves the folder of the export; paths inside it are relative"
        )
    return "/".join(part for part in parts if part != ".")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)
