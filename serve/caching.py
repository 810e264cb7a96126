"""Query vectors that need no second encoding."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.protocols import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PrimedEncoder(WrappedEncoder):
    """An `Encoder` that knows the vectors of some queries and loads its model only when needed.

    A search encodes its query once; the processes that localize get the vector with their work.
    """

    def __init__(self, load: Callable[[], Encoder], capacity: int = 64) -> None:
        """Wrap the function that loads the model."""
        self._load, self._capacity, self._lock = load, capacity, threading.Lock()
        self._model: Encoder | None = None
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
            if self._model is None:
                self._model = self._load()
            return self._model

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D]."""
        import numpy as np

        known = [self._vectors.get(text) for text in texts]
        rows = [vector for vector in known if vector is not None]
        if rows and len(rows) == len(known):
            return np.stack(rows)
        return self.inner.encode_queries(texts)
