"""An encoder whose model loads when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ffr_core.embedding.wrapped import WrappedEncoder, tokens_read
from ffr_core.protocols import Encoder


class LazyEncoder(WrappedEncoder):
    """For processes that may never embed, such as those that only run a boundary model."""

    def __init__(self, load: Callable[[], Encoder]) -> None:
        """Keep the function that loads the model."""
        self._load, self._lock = load, threading.Lock()
        self._model: Encoder | None = None

    @property
    def inner(self) -> Encoder:
        """The model, loaded on first use."""
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model

    @property
    def tokens_read(self) -> int:
        """Tokens that the model read; 0 while it is not loaded."""
        return tokens_read(self._model) if self._model is not None else 0
