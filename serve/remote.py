"""The other deployments as an ingress process calls them, over their handles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from ffr_core.errors import FfrError
from ffr_core.index.keys import dialogue_key
from ffr_core.types import Dialogue, Filters, Header, IndexStats, Localization
from serve.problems import Problem
from serve.routing import fragment_key
from serve.versions import AdapterVersion
from serve.workers import Added, Group, Recall, Returned

GONE = ("ActorDiedError", "RayActorError", "ActorUnavailableError")
"""Errors that say that a process ended."""


class RemoteOwner:
    """`gateway.Owner` over a deployment handle."""

    def __init__(self, handle: DeploymentHandle, retry_after: int) -> None:
        self._handle, self._retry_after = handle, retry_after

    async def recall(
        self, tenant: str, query: str, filters: Filters, num_candidates: int
    ) -> Returned[Recall]:
        """Search."""
        call = self._handle.recall.remote(tenant, query, filters, num_candidates)
        return await finish(call, self._retry_after)

    async def header(self, tenant: str, dialogue_id: str) -> Returned[Header | None]:
        """Look up."""
        return await finish(self._handle.header.remote(tenant, dialogue_id), self._retry_after)

    async def add(self, tenant: str, dialogue: Dialogue, restore: bool) -> Returned[Added]:
        """Add or replace."""
        handle = self._handle.options(session_id=dialogue_key(tenant, dialogue.dialogue_id))
        return await finish(handle.add.remote(tenant, dialogue, restore), self._retry_after)

    async def delete(self, tenant: str, dialogue_id: str) -> Returned[bool]:
        """Remove."""
        handle = self._handle.options(session_id=dialogue_key(tenant, dialogue_id))
        return await finish(handle.delete.remote(tenant, dialogue_id), self._retry_after)

    async def stats(self, tenant: str) -> Returned[IndexStats]:
        """Count."""
        return await finish(self._handle.stats.remote(tenant), self._retry_after)

    async def ready(self) -> bool:
        """Answer."""
        ready: bool = await finish(self._handle.ready.remote(), self._retry_after)
        return ready


class RemoteLocalizer:
    """Localizer processes over a deployment handle."""

    def __init__(self, handle: DeploymentHandle, retry_after: int, by_fragment: bool) -> None:
        self._handle, self._retry_after, self._by_fragment = handle, retry_after, by_fragment

    def localize(self, group: Group) -> Awaitable[list[Localization | None]]:
        """Read a group; with an engine, where its first fragment was read before."""
        handle = self._handle
        if self._by_fragment:
            first = group.candidates[0]
            handle = handle.options(
                session_id=fragment_key(
                    group.tenant, first.payload, first.fragment.fragment_id, group.attempt
                )
            )
        return finish(handle.localize.remote(group), self._retry_after)

    async def ready(self) -> bool:
        """Answer; waits for a process while there is none."""
        ready: bool = await finish(self._handle.ready.remote(), self._retry_after)
        return ready

    async def load(self, version: AdapterVersion) -> list[Returned[list[str]]]:
        """Load a version in every process; one that ends meanwhile does not count."""
        answers = await self._handle.broadcast("load_version", version).results_async(
            return_exceptions=True
        )
        alive = [answer for answer in answers if type(answer).__name__ not in GONE]
        for answer in alive:
            if isinstance(answer, Exception) and not isinstance(answer, FfrError):
                raise answer
        if not alive:
            raise Problem(503, "no localizer process is ready; try again in a few seconds")
        return alive


async def finish(call: Any, retry_after: int) -> Any:
    """Wait for a call; a caller that gives up cancels it, a full queue becomes a 429."""
    try:
        return await call
    except asyncio.CancelledError:
        call.cancel()
        raise
    except BackPressureError:
        raise Problem(
            429, f"the service is full; try again in {retry_after} s", None, retry_after
        ) from None
