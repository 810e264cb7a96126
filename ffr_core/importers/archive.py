"""Opening an export as people have it, without trusting it: a file, a folder or a `.zip`.

Nothing is ever unpacked to disk by the names of an archive: members are read into memory.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from functools import cached_property
from pathlib import Path

from ffr_core.errors import ForbiddenError, InputError, LimitError, RecordError
from ffr_core.importers.source import (
    NOISE,
    FolderSource,
    Limits,
    Source,
    check_growth,
    safe_name,
)

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # also NotImplementedError: an unknown compression method
    OSError,
    ValueError,
)


class ZipSource(Source):
    """A `.zip`; refused as a whole when a member has an unsafe name, is a link or is encrypted."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Open the archive and check every member.

        Raises:
            InputError: Not a zip, or encrypted.
            ForbiddenError: A member is a link, has an absolute path or leaves the archive.
            LimitError: Too many members, or a member that unpacks suspiciously.
        """
        super().__init__(path.stem, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise InputError(
                f"{path.name} is not a readable .zip file ({error}); export or download it again"
            ) from error
        self._check_count(len(self._zip.infolist()))
        self._members: dict[str, zipfile.ZipInfo] = {}
        infos = self._zip.infolist()
        for info, name in zip(infos, _names(infos), strict=True):
            name = self._checked_name(info, name, path.name)
            if not info.is_dir() and not NOISE.search(name):
                self._members[name] = info

    @cached_property
    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted(self._members)

    def size(self, name: str) -> int:
        """Uncompressed size as the archive states it, in bytes."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """Read one member; see `Source.read`."""
        info = self._members[name]
        try:
            with self._zip.open(info) as stream:
                return self._drain(stream, name, info.compress_size)
        except LimitError:
            raise
        except _BROKEN as error:
            raise RecordError("unreadable_file", f"{name} is damaged: {error}") from error

    def _checked_name(self, info: zipfile.ZipInfo, name: str, archive: str) -> str:
        try:
            name = safe_name(name)
        except ForbiddenError as error:
            raise ForbiddenError(f"{archive} is refused: {error}") from error
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ForbiddenError(
                f"{archive} is refused: {name!r:.80} is a link; an export holds plain files"
            )
        if info.flag_bits & 0x1:
            raise InputError(f"{archive} is encrypted; unpack it and give the folder instead")
        check_growth(f"{archive}: {name}", info.file_size, info.compress_size, self.limits, 0)
        return name


def _names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """The members' names. Many tools write UTF-8 without its flag, Chinese Windows writes GBK."""
    utf8 = [_decoded(info, "utf-8") for info in infos]
    if None in utf8:
        chinese = [name for info in infos if (name := _decoded(info, "gb18030")) is not None]
        if len(chinese) == len(infos) and _reads_as_chinese("".join(chinese)):
            return chinese
    return [name or info.filename for info, name in zip(infos, utf8, strict=True)]


def _decoded(info: zipfile.ZipInfo, encoding: str) -> str | None:
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode(encoding)
    except UnicodeError:
        return None


def _reads_as_chinese(text: str) -> bool:
    """Whether most of the letters are everyday ones; `Müller` in cp437 is rare ones in GBK."""
    letters = [char for char in text if not char.isascii()]
    common = sum(bool(char.encode("gb2312", "ignore")) for char in letters)
    return all(map(str.isprintable, letters)) and common * 2 > len(letters)


def open_source(path: Path, limits: Limits, exclude: Path | None = None) -> Source:
    """Open an export: a file, a `.zip` or a folder.

    Args:
        path: Where it is.
        limits: Number and sizes.
        exclude: A folder to ignore inside it.

    Raises:
        InputError: When there is nothing at `path`, or an archive is refused.
    """
    if path.is_dir():
        return FolderSource(path, limits, exclude)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; check the path of the export")
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder; give the export itself")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    if path.suffix.lower() == ".zip" or start in (b"PK\x03\x04", b"PK\x05\x06"):
        return ZipSource(path, limits)
    return FolderSource(path, limits)
