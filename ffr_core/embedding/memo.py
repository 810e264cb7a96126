"""Remember the vectors of the last passages, so that a text embedded for one purpose serves two."""

from __future__ import annotations

import hashlib
import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.protocols import Encoder
from ffr_core.recent import KEPT_SECONDS, Recent
from ffr_core.types import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MemoEncoder(WrappedEncoder):
    """An `Encoder` that keeps up to `capacity` passage vectors in memory.

    A segmenter embeds the turns of a dialogue, then the same turns are embedded as passages. No
    text is kept, only its hash; vectors go after `lifetime` seconds at most, those of one half of
    it together, so that nothing stays of a dialogue that is deleted.
    """

    def __init__(
        self,
        encoder: Encoder,
        capacity: int = 50_000,
        lifetime: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap an encoder."""
        super().__init__(encoder)
        self._capacity, self._half, self._clock = capacity, lifetime / 2, clock
        self._halves: Recent[int, dict[bytes, NDArray[np.float32]]] = Recent(2, lifetime, clock)

    def remember(self, passage: Passage, vector_D: NDArray[np.float32]) -> None:
        """Take a vector that this encoder made before."""
        self._kept()[_key(passage)] = vector_D

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D]; each distinct text is embedded once."""
        keys, kept = [_key(passage) for passage in passages], self._kept()
        found = {key: kept[key] for key in keys if key in kept}
        missing = {k: p for k, p in zip(keys, passages, strict=True) if k not in found}
        vectors_MD = self.inner.encode_passages(list(missing.values()))
        made = dict(zip(missing, vectors_MD, strict=True))
        if sum(map(len, kept.maps)) + len(made) > self._capacity:
            self._halves.drop(lambda *_: True)
        self._kept().update(made)
        found |= made
        rows = [found[key] for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _kept(self) -> ChainMap[bytes, NDArray[np.float32]]:
        """The vectors of this half lifetime, which takes new ones, and of the one before."""
        number = int(self._clock() / self._half)
        new = self._halves.get(number)
        if new is None:
            new = {}
            self._halves.put(number, new)
        return ChainMap(new, self._halves.get(number - 1) or {})


def _key(passage: Passage) -> bytes:
    content = repr((passage.text, [image.uri for image in passage.images]))
    return hashlib.sha256(content.encode()).digest()
