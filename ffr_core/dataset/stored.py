"""Rows and sets that stay in files, so that memory does not grow with a corpus.

Legend: N rows, D embedding.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows: TypeAlias = "NDArray[np.float32] | NDArray[np.float16] | StoredRows"

_GATHER = 1024
"""Rows read before their pages are given back."""


class StoredRows:
    """Rows of a float16 file in an order of their own; reading some copies those alone.

    The file is mapped and its pages are given back after each read: they stay in the system's
    cache, not in this process.
    """

    def __init__(self, path: Path, dim: int, rows: NDArray[np.int64]) -> None:
        """Map the file.

        Args:
            path: Float16 values, `dim` to a row.
            dim: D.
            rows: Which row of the file each row is, [N].
        """
        self._rows, self._dim, self._map = rows, dim, None
        if path.stat().st_size:
            with path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        """N."""
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self._rows), self._dim

    def __getitem__(self, key: Any) -> NDArray[np.float16]:
        """Some rows as an array, [R, D], or one, [D]; `key` is a position, a slice or an array."""
        at = np.atleast_1d(self._rows[key])
        found = np.empty((len(at), self._dim), dtype=np.float16)
        if self._map is not None:
            stored = np.frombuffer(self._map, dtype=np.float16).reshape(-1, self._dim)
            order = np.argsort(at, kind="stable")
            for start in range(0, len(at), _GATHER):
                part = order[start : start + _GATHER]
                found[part] = stored[at[part]]
                self._map.madvise(mmap.MADV_DONTNEED)
        return found if np.ndim(self._rows[key]) else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows in memory."""
        return self[:].astype(dtype or np.float16)


class StoredSets(Sequence["NDArray[np.uint32]"]):
    """Sets of 32-bit numbers in a file that is written once, front to back."""

    def __init__(self, path: Path) -> None:
        """Start an empty file."""
        self._stream = path.open("w+b")
        self._ends = array("q", [0])

    def append(self, values: NDArray[np.uint32]) -> None:
        """Write one set behind the others."""
        os.pwrite(self._stream.fileno(), values.tobytes(), 4 * self._ends[-1])
        self._ends.append(self._ends[-1] + len(values))

    def __len__(self) -> int:
        """Number of sets."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint32]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint32]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Read one set, or some that stand together with one read."""
        if isinstance(index, int):
            at = range(len(self))[index]
            return self[at : at + 1][0]
        start, stop, step = index.indices(len(self))
        assert step == 1
        if stop <= start:
            return []
        ends = np.asarray(self._ends[start : stop + 1])
        data = os.pread(self._stream.fileno(), 4 * int(ends[-1] - ends[0]), 4 * int(ends[0]))
        return np.split(np.frombuffer(data, dtype=np.uint32), ends[1:-1] - ends[0])

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


class KeySets(Sequence["frozenset[int]"]):
    """Sets of texts, each text as a 64-bit hash: eight bytes a text instead of a hundred."""

    def __init__(self, sets: Iterable[Sequence[str]]) -> None:
        """Take the sets in order."""
        self._hashes, self._ends = array("Q"), array("q", [0])
        for texts in sets:
            for text in texts:
                digest = blake2b(text.encode(), digest_size=8).digest()
                self._hashes.append(int.from_bytes(digest, "little"))
            self._ends.append(len(self._hashes))

    def __len__(self) -> int:
        """Number of sets."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> frozenset[int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[frozenset[int]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """One set."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return frozenset(self._hashes[self._ends[at] : self._ends[at + 1]])

    def some(self, rows: Iterable[int]) -> KeySets:
        """Some of the sets, in the order of `rows`."""
        chosen = KeySets(())
        for row in rows:
            chosen._hashes.extend(self._hashes[self._ends[row] : self._ends[row + 1]])
            chosen._ends.append(len(chosen._hashes))
        return chosen
