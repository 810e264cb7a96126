"""Dialogues kept unpacked for a short while, and query vectors that need no second encoding."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.index.payload import PayloadStore


class PayloadCache:
    """The last dialogues read, by tenant and content hash, for at most `lifetime` seconds.

    A content hash comes from the index only, so a deleted dialogue cannot be asked for; the
    lifetime bounds how long its text stays in memory.
    """

    def __init__(
        self,
        payloads: PayloadStore,
        capacity: int,
        lifetime: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap a payload store."""
        self._payloads, self._capacity, self._lifetime = payloads, capacity, lifetime
        self._clock, self._lock = clock, threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Dialogue]] = OrderedDict()

    def get(self, tenant: str, payload: str) -> Dialogue:
        """Return a dialogue; NotFoundError when it was replaced or deleted meanwhile."""
        key = (tenant, payload)
        with self._lock:
            self._drop_old()
            found = self._kept.get(key)
        if found is not None:
            return found[1]
        dialogue = self._payloads.get(tenant, payload)
        with self._lock:
            self._kept[key] = (self._clock() + self._lifetime, dialogue)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return dialogue

    def drop(self, tenant: str, dialogue_id: str) -> None:
        """Forget a dialogue at once."""
        with self._lock:
            for key, (_, dialogue) in list(self._kept.items()):
                if key[0] == tenant and dialogue.dialogue_id == dialogue_id:
                    del self._kept[key]

    def _drop_old(self) -> None:
        """Entries stand in the order of their end."""
        while self._kept:
            key, (end, _) = next(iter(self._kept.items()))
            if end > self._clock():
                return
            del self._kept[key]


class PrimedEncoder:
    """An `Encoder` that knows the vectors of some queries and loads its model only when needed.

    A search encodes its query once; the processes that localize get the vector with their work.
    """

    def __init__(self, load: Callable[[], Encoder], capacity: int = 64) -> None:
        """Wrap the function that loads the model."""
        self._load, self._capacity, self._lock = load, capacity, threading.Lock()
        self._encoder: Encoder | None = None
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def prime(self, text: str, vector_D: NDArray[np.float32]) -> None:
        """Remember the vector of a query."""
        with self._lock:
            self._vectors[text] = vector_D
            while len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)

    @property
    def inner(self) -> Encoder:
        """The model, loaded on first use."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load()
            return self._encoder

    @property
    def dim(self) -> int:
        """D."""
        return self.inner.dim

    @property
    def max_tokens(self) -> int:
        """The model's limit."""
        return self.inner.max_tokens

    @property
    def fingerprint(self) -> str:
        """The model's."""
        return self.inner.fingerprint

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D]."""
        return self.inner.encode_passages(passages)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D]."""
        import numpy as np

        known = [self._vectors.get(text) for text in texts]
        rows = [vector for vector in known if vector is not None]
        if rows and len(rows) == len(known):
            return np.stack(rows)
        return self.inner.encode_queries(texts)
