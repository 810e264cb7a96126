"""A small cache that forgets: by number, by age, on demand."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT_SECONDS = 60.0
"""How long what was read of a dialogue stays in memory, so that a deleted one is gone by then."""


class Recent(Generic[K, V]):
    """The `capacity` values used last, each for at most `lifetime` seconds after it was put.

    A value leaves memory at the end of its life whether or not anybody asks again. Safe to share
    between threads.
    """

    def __init__(
        self,
        capacity: int,
        lifetime: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty; a `lifetime` of None keeps values until others push them out."""
        self._capacity, self._lifetime, self._clock = capacity, lifetime, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._timer: threading.Timer | None = None

    def get(self, key: K) -> V | None:
        """The value of a key, None when it is not kept."""
        with self._lock:
            self._drop_old()
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][1]

    def put(self, key: K, value: V) -> None:
        """Keep a value."""
        with self._lock:
            self._kept[key] = (self._clock() + (self._lifetime or 0.0), value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
            self._wake_later()

    def drop(self, unwanted: Callable[[K, V], bool]) -> None:
        """Forget every value that `unwanted` names."""
        with self._lock:
            for key, (_, value) in list(self._kept.items()):
                if unwanted(key, value):
                    del self._kept[key]

    def __len__(self) -> int:
        """Values in memory."""
        return len(self._kept)

    def _drop_old(self) -> None:
        if self._lifetime is None:
            return
        now = self._clock()
        for key, (end, _) in list(self._kept.items()):
            if end <= now:
                del self._kept[key]

    def _wake_later(self) -> None:
        """One timer a cache while it holds something; it keeps neither cache nor process alive."""
        if self._lifetime is None or self._timer is not None or not self._kept:
            return
        self._timer = threading.Timer(max(self._lifetime, 0.05), _sweep, [weakref.ref(self)])
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        with self._lock:
            self._timer = None
            self._drop_old()
            self._wake_later()


def _sweep(cache: weakref.ref[Recent[K, V]]) -> None:
    alive = cache()
    if alive is not None:
        alive._expire()
