"""An engine in another process: the index owner segments a new dialogue through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ffr_core.errors import InputError
from ffr_core.generation import Completion, GenerationRequest
from serve.problems import log_failure

TRIES = 2
"""A request whose process dies goes to another one."""


class Pending(Protocol):
    """A request on its way."""

    def result(self, timeout_s: float | None = None) -> Completion:
        """Wait for the answer, in a thread without an event loop."""


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
            timeout: Seconds for one answer.
        """
        self._call, self._fingerprint, self._timeout = call, fingerprint, timeout

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self._fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order; one that fails is sent once more."""
        answers: dict[int, Completion] = {}
        for attempt in range(1, TRIES + 1):
            missing = [number for number in range(len(requests)) if number not in answers]
            sent = [(number, self._call(requests[number])) for number in missing]
            for number, pending in sent:
                try:
                    answers[number] = pending.result(timeout_s=self._timeout)
                except Exception as error:
                    if attempt == TRIES:
                        raise
                    log_failure(error)
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
