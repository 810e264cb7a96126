"""An engine in another process: the index owner segments a new dialogue through it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ffr_core.errors import BusyError, InputError
from ffr_core.generation import Completion, GenerationRequest
from serve.problems import log_failure, problem_of

TRIES = 2
"""A request whose process dies goes to another one."""
PASSING = (429, 503, 504)
"""Status of the errors that say: later."""


class Pending(Protocol):
    """A request on its way."""

    def result(self, timeout_s: float | None = None) -> Completion:
        """Wait for the answer, in a thread without an event loop."""

    def cancel(self) -> None:
        """Give up; reaches the engine."""


class RemoteEngine:
    """`Engine` over calls to processes that hold one; all requests are in flight together.

    Adapters are loaded where the engine is, from its `[engine.adapters]`.
    """

    def __init__(
        self,
        call: Callable[[GenerationRequest], Pending],
        fingerprint: str,
        timeout: float,
    ) -> None:
        """Keep the way there.

        Args:
            call: Sends one request off.
            fingerprint: Of the engine on the other side.
            timeout: Seconds for all answers of one call, second tries included.
        """
        self._call, self._fingerprint, self._timeout = call, fingerprint, timeout

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self._fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order; one that fails is sent once more.

        Raises:
            BusyError: The other side is full, restarts, or takes too long. Whatever is still on its
                way is canceled, as after every error.
        """
        deadline = time.monotonic() + self._timeout
        answers: dict[int, Completion] = {}
        sent: dict[int, Pending] = {}
        try:
            for attempt in range(1, TRIES + 1):
                for number, request in enumerate(requests):
                    if number not in answers:
                        sent[number] = self._call(request)
                for number, pending in list(sent.items()):
                    try:
                        left = max(0.0, deadline - time.monotonic())
                        answers[number] = pending.result(timeout_s=left)
                        del sent[number]
                    except Exception as error:
                        if attempt == TRIES or time.monotonic() >= deadline:
                            raise
                        log_failure(error)
        except Exception as error:
            if problem_of(error).status not in PASSING:
                raise
            log_failure(error)
            raise BusyError(
                f"the boundary model did not answer {len(requests)} requests within"
                f" {self._timeout:g} s; it is busy or restarts, try again in a few seconds"
            ) from error
        finally:
            for pending in sent.values():
                with contextlib.suppress(Exception):  # Ray's says again why it failed
                    pending.cancel()
        return [answers[number] for number in range(len(requests))]

    def load_adapter(self, name: str, path: str) -> None:
        """Not from here."""
        raise InputError(
            f"adapter {name!r} cannot be loaded from here; add it to [engine.adapters]"
        )

    def unload_adapter(self, name: str) -> None:
        """Not from here."""
        raise InputError(f"adapter {name!r} cannot be unloaded from here")

    def close(self) -> None:
        """The other side ends by itself."""
