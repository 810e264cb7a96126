"""Versions of one adapter inside an engine: loaded when first asked for, dropped when not used."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ffr_core.errors import BusyError
from ffr_core.protocols import AsyncEngine
from serve.versions import AdapterVersion, check_weights

KEPT = 2
"""Versions that stay in memory: the one in force, and one that old searches may still use."""


@dataclass(slots=True, kw_only=True)
class _Loaded:
    """A version that the engine holds."""

    engine_name: str | None
    users: int = 0
    last_use: int = 0


class LoadedVersions:
    """Hands out the engine's name of a version for as long as somebody reads with it.

    An engine's adapter name serves once, so each load gets a fresh one. Loading goes on when the
    caller gives up: the next one finds it done.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        first: AdapterVersion,
        first_name: str | None,
        kept: int = KEPT,
        check: Callable[[AdapterVersion], None] = check_weights,
    ) -> None:
        """Take an engine that holds the `first` version already, under `first_name`.

        Args:
            engine: Loads adapters.
            first: The version that it holds.
            first_name: Its name there.
            kept: Versions in memory, at most.
            check: Raises when the weights at a version's path are other ones.
        """
        self._engine, self._kept, self._check = engine, kept, check
        self._loaded = {first.name: _Loaded(engine_name=first_name)}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._numbers, self._uses = itertools.count(1), itertools.count(1)
        self._one_at_a_time = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Versions in memory."""
        return sorted(self._loaded)

    async def load(self, version: AdapterVersion) -> None:
        """Bring a version into the engine.

        Raises:
            InputError: It does not fit the model, changes nothing, or is not what it was.
            NotFoundError: No adapter at its path.
            BusyError: Every version in memory is being used.
        """
        if version.name in self._loaded:
            return
        if version.name not in self._loading:
            task = asyncio.create_task(self._load(version))
            self._loading[version.name] = task
            task.add_done_callback(lambda done: self._loaded_or_failed(version.name, done))
        await asyncio.shield(self._loading[version.name])

    @contextlib.asynccontextmanager
    async def use(self, version: AdapterVersion) -> AsyncIterator[str | None]:
        """The engine's name of a version; it stays loaded inside the block."""
        while version.name not in self._loaded:
            await self.load(version)
        loaded = self._loaded[version.name]
        loaded.users += 1
        loaded.last_use = next(self._uses)
        try:
            yield loaded.engine_name
        finally:
            loaded.users -= 1

    async def _load(self, version: AdapterVersion) -> None:
        async with self._one_at_a_time:
            await asyncio.to_thread(self._check, version)
            await self._make_room()
            name = f"{version.name}-{next(self._numbers)}" if version.path else None
            if name is not None:
                await self._engine.load_adapter(name, version.path)
            self._loaded[version.name] = _Loaded(engine_name=name, last_use=next(self._uses))

    async def _make_room(self) -> None:
        while len(self._loaded) >= self._kept:
            idle = [name for name, loaded in self._loaded.items() if not loaded.users]
            if not idle:
                raise BusyError(
                    f"all {len(self._loaded)} adapter versions in memory are in use; try again"
                    " in a few seconds"
                )
            oldest = self._loaded.pop(min(idle, key=lambda name: self._loaded[name].last_use))
            if oldest.engine_name is not None:
                await self._engine.unload_adapter(oldest.engine_name)

    def _loaded_or_failed(self, name: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen here, also when nobody waits any more
