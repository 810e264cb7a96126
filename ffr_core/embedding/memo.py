"""Remember the vectors of the last passages, so that a text embedded for one purpose serves two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.protocols import Encoder
from ffr_core.types import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray


Key = tuple[str, tuple[str | None, ...]]


class MemoEncoder(WrappedEncoder):
    """An `Encoder` that keeps up to `capacity` passage vectors in memory.

    A segmenter embeds the turns of a dialogue, then the same turns are embedded as passages.
    """

    def __init__(self, encoder: Encoder, capacity: int = 50_000) -> None:
        """Wrap an encoder."""
        super().__init__(encoder)
        self._capacity = capacity
        self._vectors: dict[Key, NDArray[np.float32]] = {}

    def remember(self, passage: Passage, vector_D: NDArray[np.float32]) -> None:
        """Take a vector that this encoder made before."""
        self._vectors[_key(passage)] = vector_D

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D]; each distinct text is embedded once."""
        keys = [_key(passage) for passage in passages]
        missing = {k: p for k, p in zip(keys, passages, strict=True) if k not in self._vectors}
        if len(self._vectors) + len(missing) > self._capacity:
            self._vectors.clear()
            missing = dict(zip(keys, passages, strict=True))
        vectors_MD = self.inner.encode_passages(list(missing.values()))
        self._vectors.update(zip(missing, vectors_MD, strict=True))
        rows = [self._vectors[key] for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)


def _key(passage: Passage) -> Key:
    return passage.text, tuple(image.uri for image in passage.images)
