"""A disk cache around any encoder: the same text is embedded once, in this run and in later ones.

One SQLite file a directory; several processes may share it. A row's key is a hash of the encoder's
fingerprint, the role (passage or query) and the text, so a change of settings never meets old rows.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.errors import ConfigError
from ffr_core.protocols import Encoder
from ffr_core.types import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOOKUP = 500
"""Keys in one SELECT; SQLite allows 999 variables in old builds."""
_SAVE = 2000
"""Texts embedded between two commits, so that an interrupted run keeps most of its work."""


class CachedEncoder(WrappedEncoder):
    """An `Encoder` that remembers; everything else is the inner encoder's."""

    def __init__(self, encoder: Encoder, directory: str | Path) -> None:
        """Wrap `encoder`; `directory` is created.

        Raises:
            OSError: The directory cannot be made.
            ConfigError: It cannot hold the file, or the file is no cache.
        """
        super().__init__(encoder)
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "vectors.sqlite"
        try:
            with closing(self._connect()) as connection, connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS vectors"
                    " (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
                )
        except sqlite3.Error as error:
            raise ConfigError(
                f"{self._path} cannot hold embeddings ({error}); give another cache folder"
            ) from error

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm; only texts (with their images) not yet known are embedded."""
        keys = [
            self._key("passage", passage.text, *(image.uri or "" for image in passage.images))
            for passage in passages
        ]
        return self._cached(
            keys, lambda missing: self.inner.encode_passages([passages[i] for i in missing])
        )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""
        keys = [self._key("query", text) for text in texts]
        return self._cached(
            keys, lambda missing: self.inner.encode_queries([texts[i] for i in missing])
        )

    def _cached(
        self, keys: list[bytes], encode: Callable[[list[int]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        vectors = np.zeros((len(keys), self.dim), np.float32)
        with closing(self._connect()) as connection:
            known = _lookup(connection, list(dict.fromkeys(keys)))
            first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
            missing = sorted(first.values())
            for start in range(0, len(missing), _SAVE):
                part = missing[start : start + _SAVE]
                fresh = [(keys[i], v.tobytes()) for i, v in zip(part, encode(part), strict=True)]
                with connection:
                    connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", fresh)
                known.update(fresh)
        for i, key in enumerate(keys):
            vectors[i] = np.frombuffer(known[key], np.float32)
        return vectors

    def _key(self, *parts: str) -> bytes:
        digest = hashlib.sha256()
        for part in (self.fingerprint, *parts):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60)


def _lookup(connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
    known: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _LOOKUP):
        part = keys[start : start + _LOOKUP]
        marks = ",".join("?" * len(part))
        known.update(
            connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
        )
    return known
