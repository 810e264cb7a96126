"""What a process with an engine does, without Ray: localize candidates, answer plain requests.

Everything of all queries is in flight together, the engine batches. A candidate has its own
deadline; whoever cancels a call, or runs out of time, cancels the request in the engine.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ffr_core.engine.build import build_async_engine
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.lazy import engine_died
from ffr_core.generation import Completion, GenerationRequest
from ffr_core.localization.calibration import Calibration
from ffr_core.localization.f2rvlm import AsyncF2rvlmLocalizer
from ffr_core.parts import build_image_reader, build_payloads, build_reader
from ffr_core.profile import Profile
from ffr_core.protocols import AsyncEngine
from ffr_core.recent import Recent
from ffr_core.types import Candidate, Dialogue, Localization, Turn
from serve.adapters import LoadedVersions
from serve.problems import log_failure
from serve.tracing import span
from serve.versions import AdapterVersion, localizer_engine, profile_version
from serve.workers import Group, Returned, guarded_async

REMEMBERED = 10_000
"""Fragments that a process remembers having read, to count repetitions."""
WARM_UP = (("where is the dog?", "Look, a dog!"), ("狗在哪里？", "看，一只狗！"))


class CountedEngine:
    """`AsyncEngine` that adds the tokens of another one to counters."""

    def __init__(self, engine: AsyncEngine, counts: Counter[str]) -> None:
        """Wrap a started engine."""
        self._engine, self._counts = engine, counts

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self._engine.fingerprint

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer and count."""
        answer = await self._engine.generate(request)
        self._counts.update(
            prompt=answer.num_prompt_tokens,
            cached=answer.num_cached_tokens,
            output=len(answer.token_ids),
        )
        return answer

    async def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`."""
        await self._engine.load_adapter(name, path)

    async def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        await self._engine.unload_adapter(name)

    async def close(self) -> None:
        """As in `Engine`."""
        await self._engine.close()


class EngineWorker:
    """One engine and the requests that reach it."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Take a started engine."""
        self.counts: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.engine = CountedEngine(engine, self.tokens)

    @classmethod
    async def start(cls, config: EngineConfig, profile: Profile) -> EngineWorker:
        """Start the engine of a table, with its adapters."""
        return cls(await build_async_engine(config, build_image_reader(profile)))

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, such as one of the boundary model."""
        self.counts["requests"] += 1
        try:
            return await self.engine.generate(request)
        except asyncio.CancelledError:
            self.counts["canceled"] += 1
            raise

    async def close(self) -> None:
        """End the engine."""
        await self.engine.close()


class EngineLocalizer(EngineWorker):
    """Step 4 on an engine; reads the dialogues itself, by content hash."""

    def __init__(
        self,
        engine: AsyncEngine,
        profile: Profile,
        on_dead: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a started engine that holds the profile's adapter.

        Args:
            engine: Answers.
            profile: Prompts, windows, places, limits.
            on_dead: Called when the engine's process has died.
        """
        super().__init__(engine)
        config = profile.serve
        version = profile_version(profile)
        assert version is not None, "a profile without `f2rvlm` needs no engine"
        self._first = version
        self._reader = build_reader(profile.localizer)
        self._versions = LoadedVersions(engine, version, profile.localizer.adapter)
        self._payloads = build_payloads(profile, config.cache_dialogues, config.cache_lifetime)
        self._timeout = config.candidate_timeout
        self._on_dead = on_dead
        self._seen: Recent[tuple[str, str, int], bool] = Recent(REMEMBERED)
        self._calibrations: Recent[str, Calibration] = Recent(8)

    @classmethod
    async def open(
        cls, profile: Profile, on_dead: Callable[[], None] = lambda: None
    ) -> EngineLocalizer:
        """Start engine and adapters and read something, so that the first query finds it warm."""
        config = localizer_engine(profile)
        engine = await build_async_engine(config, build_image_reader(profile))
        worker = cls(engine, profile, on_dead)
        for query, text in WARM_UP:
            turn = Turn(turn_id=0, speaker="?", text=text)
            dialogue = Dialogue(dialogue_id="warm up", turns=(turn,))
            await worker._read(worker._first, profile.localizer.adapter, query, dialogue, None)
        return worker

    @property
    def versions(self) -> list[str]:
        """Adapter versions in memory."""
        return self._versions.names

    async def load_version(self, version: AdapterVersion) -> Returned[list[str]]:
        """Bring a version into memory; returns all that are there, or why it cannot be.

        Its calibration is read anew, so that a file that was fitted again is what counts.
        """

        async def work() -> list[str]:
            if version.calibration is not None:
                fresh = await asyncio.to_thread(Calibration.load, version.calibration)
                self._calibrations.put(version.calibration, fresh)
            await self._versions.load(version)
            return self._versions.names

        return await guarded_async(work())

    async def localize(self, group: Group) -> list[Localization | None]:
        """One result a candidate; None for one that failed or took too long."""
        return list(await asyncio.gather(*(self._one(group, each) for each in group.candidates)))

    async def _one(self, group: Group, candidate: Candidate) -> Localization | None:
        key = (group.tenant, candidate.payload, candidate.fragment.fragment_id)
        self.counts["repeated" if self._seen.get(key) else "first"] += 1
        self._seen.put(key, True)
        version = group.adapter or self._first
        try:
            async with asyncio.timeout(self._timeout), self._versions.use(version) as name:
                dialogue = await asyncio.to_thread(
                    self._payloads.get, group.tenant, candidate.payload
                )
                turn_ids = candidate.fragment.turn_ids
                with span("read candidate", turns=len(turn_ids)):
                    found = await self._read(version, name, group.query, dialogue, turn_ids)
        except asyncio.CancelledError:
            self.counts["canceled"] += 1
            raise
        except TimeoutError:
            self.counts["timed_out"] += 1
            return None
        except Exception as error:  # the caller tries again elsewhere
            self.counts["failed"] += 1
            log_failure(error)
            if engine_died(error):
                self._on_dead()
            return None
        self.counts["read"] += 1
        return found

    async def _read(
        self,
        version: AdapterVersion,
        engine_name: str | None,
        query: str,
        dialogue: Dialogue,
        turn_ids: tuple[int, ...] | None,
    ) -> Localization:
        reader = replace(
            self._reader, adapter=engine_name, calibration=self._calibration(version.calibration)
        )
        return await AsyncF2rvlmLocalizer(self.engine, reader).localize(query, dialogue, turn_ids)

    def _calibration(self, path: str | None) -> Calibration:
        if path is None:
            return Calibration()
        known = self._calibrations.get(path)
        if known is None:
            known = Calibration.load(path)
            self._calibrations.put(path, known)
        return known
