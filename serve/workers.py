"""What the replicas behind the ingress do, as plain classes without Ray.

Errors of ours come back as values: a raised one would be logged with its text, which may quote a
person's words.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ffr_core.errors import BusyError, FfrError
from ffr_core.parts import (
    build_builder,
    build_index,
    build_localizer,
    build_payloads,
    encoder_of,
)
from ffr_core.pipeline import check_query, localize_candidate
from ffr_core.profile import Profile
from ffr_core.types import Candidate, Dialogue, Filters, Header, IndexStats, Localization, Turn
from ffr_core.writing import Change, add_dialogue, delete_dialogue
from serve.caching import PrimedEncoder
from serve.problems import DeletedError, log_failure
from serve.tracing import span
from serve.versions import AdapterVersion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.protocols import Engine, FragmentIndex

T = TypeVar("T")
Returned: TypeAlias = T | FfrError
OPEN_TIMEOUT = 20.0
"""Seconds to wait for a process that is just closing the index file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recall:
    """Candidates of one query, best first, and the vector that found them."""

    vector_D: NDArray[np.float32]
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What adding a dialogue did."""

    change: Change
    fragments: int


class IndexWorker:
    """Holds index, encoder and builder: searches, adds, deletes."""

    def __init__(self, profile: Profile, engine: Engine | None = None) -> None:
        """Load the encoder and open the index; `engine` answers for a boundary model."""
        encoder = encoder_of(profile)
        self._builder = build_builder(profile, encoder, engine)
        self._index = _open_index(profile, encoder.fingerprint, encoder.dim)
        self._payloads = build_payloads(profile)
        self._threads = ThreadPoolExecutor(profile.serve.owner_threads, "owner")
        self._writer = ThreadPoolExecutor(1, "writer")
        encoder.encode_queries(["warm up"])

    async def ready(self) -> bool:
        """Whether this process answers."""
        return True

    async def recall(
        self, tenant: str, query: str, filters: Filters, num_candidates: int
    ) -> Returned[Recall]:
        """Step 3: encode the query, search the index."""

        def work() -> Recall:
            text = check_query(query)
            with span("encode query"):
                vector_D = self._builder.encoder.encode_queries([text])[0]
            with span("search index"):
                found = self._index.search(tenant, vector_D, text, filters, num_candidates)
            return Recall(vector_D=vector_D, candidates=found)

        return await self._run(work)

    async def header(self, tenant: str, dialogue_id: str) -> Returned[Header | None]:
        """The header of a live dialogue, or None."""

        def work() -> Header | None:
            header = self._index.headers(tenant, [dialogue_id]).get(dialogue_id)
            return None if header is None or header.deleted else header

        return await self._run(work)

    async def add(self, tenant: str, dialogue: Dialogue, restore: bool) -> Returned[Added]:
        """Steps 1 and 2 for one dialogue; writes follow each other, searches go on beside them."""

        def work() -> Added:
            name = dialogue.dialogue_id
            before = self._index.headers(tenant, [name]).get(name)
            if before is not None and before.deleted and not restore:
                raise DeletedError(
                    f"dialogue {name!r} was deleted; add ?restore=true to bring it back"
                )
            change = add_dialogue(
                self._builder, self._index, self._payloads, tenant, dialogue, restore
            )
            header = self._index.headers(tenant, [name])[name]
            return Added(change=change, fragments=header.num_fragments)

        return await in_thread(self._writer, _guarded, work)

    async def delete(self, tenant: str, dialogue_id: str) -> Returned[bool]:
        """Remove a dialogue; False when the tenant has none of that id."""

        def work() -> bool:
            return delete_dialogue(self._index, self._payloads, tenant, dialogue_id)

        return await in_thread(self._writer, _guarded, work)

    async def stats(self, tenant: str) -> Returned[IndexStats]:
        """Counts of one tenant."""
        return await self._run(lambda: self._index.stats(tenant))

    def close(self) -> None:
        """Let running work end and release the index."""
        for threads in (self._writer, self._threads):
            threads.shutdown(wait=True, cancel_futures=True)
        self._index.close()

    async def _run(self, work: Callable[[], T]) -> Returned[T]:
        return await in_thread(self._threads, _guarded, work)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Candidates of one query that one localizer reads."""

    tenant: str
    query: str
    vector_D: NDArray[np.float32]
    candidates: list[Candidate]
    adapter: AdapterVersion | None = None
    """The version that reads them; the worker's own when left out."""
    attempt: int = 0
    """How often they were tried before."""


class LocalizeWorker:
    """Step 4 for groups of candidates; reads the dialogues itself, by content hash."""

    def __init__(self, profile: Profile) -> None:
        """Build the localizer; an encoder loads its model only when it is needed."""
        config = profile.serve
        self._encoder = PrimedEncoder(lambda: encoder_of(profile))
        self._localizer = build_localizer(profile.localizer, self._encoder, config.cache_lifetime)
        self._payloads = build_payloads(profile, config.cache_dialogues, config.cache_lifetime)
        self._timeout = config.candidate_timeout
        self._threads = ThreadPoolExecutor(config.localizer_ongoing * 2, "localizer")
        for text in ("warm up", "准备好了吗"):
            turn = Turn(turn_id=0, speaker="?", text=text)
            self._localizer.localize(text, Dialogue(dialogue_id="warm up", turns=(turn,)))

    async def ready(self) -> bool:
        """Whether this process answers."""
        return True

    async def localize(self, group: Group) -> list[Localization | None]:
        """One result a candidate; None for one that failed or took too long.

        A caller that goes away ends the work before the next candidate.
        """
        self._encoder.prime(group.query, group.vector_D)
        return [await self._one(group, candidate) for candidate in group.candidates]

    async def _one(self, group: Group, candidate: Candidate) -> Localization | None:
        def work() -> Localization:
            dialogue = self._payloads.get(group.tenant, candidate.payload)
            return localize_candidate(self._localizer, group.query, dialogue, candidate)

        running = in_thread(self._threads, _guarded_all, work)
        try:
            with span("read candidate", turns=len(candidate.fragment.turn_ids)):
                return await asyncio.wait_for(running, self._timeout)
        except TimeoutError:
            return None


def in_thread(pool: ThreadPoolExecutor, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Run in a pool and keep the caller's context: its trace and request id."""
    context = contextvars.copy_context()
    return asyncio.get_running_loop().run_in_executor(pool, context.run, call, *args)


def _guarded(work: Callable[[], T]) -> Returned[T]:
    """Errors of ours as values; others without their text."""
    try:
        return work()
    except FfrError as error:
        return error
    except Exception as error:
        log_failure(error)
        raise RuntimeError(f"the index failed with {type(error).__name__}") from None


async def guarded_async(work: Coroutine[Any, Any, T]) -> Returned[T]:
    """As `_guarded`, for a coroutine."""
    try:
        return await work
    except FfrError as error:
        return error
    except Exception as error:
        log_failure(error)
        raise RuntimeError(f"the engine failed with {type(error).__name__}") from None


def _guarded_all(work: Callable[[], T]) -> T | None:
    """None for every error: the caller tries again elsewhere."""
    try:
        return work()
    except Exception as error:
        log_failure(error)
        return None


def _open_index(profile: Profile, fingerprint: str, dim: int) -> FragmentIndex:
    deadline = time.monotonic() + OPEN_TIMEOUT
    while True:
        try:
            return build_index(profile, fingerprint, dim)
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
