"""An engine that computes in this process, in the form that serving wants."""

from __future__ import annotations

import asyncio

from ffr_core.generation import Completion, GenerationRequest
from ffr_core.protocols import Engine


class BackgroundEngine:
    """`AsyncEngine` over an `Engine`: requests that wait together are answered as one batch.

    A canceled request that still waits is dropped; one that is being computed runs to its end.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[GenerationRequest, asyncio.Future[Completion]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self._engine.fingerprint

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`."""
        await asyncio.to_thread(self._engine.load_adapter, name, path)

    async def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        await asyncio.to_thread(self._engine.unload_adapter, name)

    async def close(self) -> None:
        """As in `Engine`."""
        await asyncio.to_thread(self._engine.close)

    async def _work(self) -> None:
        """Answer batches until nothing waits; an error fails its batch one request at a time."""
        while self._waiting:
            batch = [item for item in self._waiting if not item[1].done()]
            self._waiting = []
            requests = [request for request, _ in batch]
            try:
                answers = await asyncio.to_thread(self._engine.generate, requests)
            except Exception as error:
                if len(batch) == 1:
                    _settle(batch[0][1], error)
                else:
                    for item in batch:
                        await self._alone(*item)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                _settle(future, answer)

    async def _alone(self, request: GenerationRequest, future: asyncio.Future[Completion]) -> None:
        try:
            _settle(future, (await asyncio.to_thread(self._engine.generate, [request]))[0])
        except Exception as error:
            _settle(future, error)


def _settle(future: asyncio.Future[Completion], outcome: Completion | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
