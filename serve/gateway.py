"""What the HTTP routes call: the workers behind their handles, images, addresses, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from ffr_core.answers import answer_record, turn_record
from ffr_core.errors import FfrError, InputError, NotFoundError
from ffr_core.images import ImageReader
from ffr_core.parts import build_image_reader, build_payloads
from ffr_core.profile import Profile
from ffr_core.records import dialogue_from_record
from ffr_core.storage import open_storage
from ffr_core.types import Dialogue, Filters, Header, Image, IndexStats, Localization
from serve.auth import Principal
from serve.guards import Load
from serve.metrics import Metrics
from serve.problems import Problem, problem_of
from serve.search import Found, Progress, Searcher, SearchPlan, no_version
from serve.signing import UrlSigner
from serve.versions import AdapterVersion, VersionBook, folder_version, profile_version
from serve.workers import Added, Group, Recall, Returned

T = TypeVar("T")
DECODERS = 2
"""Pictures decoded at the same time in one process; a large one takes much memory."""

READY_TIMEOUT = 5.0
"""Seconds within which a ready index answers."""

LoadCall = Callable[[AdapterVersion], Awaitable[list[Returned[list[str]]]]]
"""Loads a version in every localizer process; one result a process."""


class Owner(Protocol):
    """The calls of `workers.IndexWorker`, wherever it runs."""

    def recall(
        self, tenant: str, query: str, filters: Filters, num_candidates: int
    ) -> Awaitable[Returned[Recall]]:
        """Search."""

    def header(self, tenant: str, dialogue_id: str) -> Awaitable[Returned[Header | None]]:
        """Look up."""

    def add(self, tenant: str, dialogue: Dialogue, restore: bool) -> Awaitable[Returned[Added]]:
        """Add or replace."""

    def delete(self, tenant: str, dialogue_id: str) -> Awaitable[Returned[bool]]:
        """Remove."""

    def stats(self, tenant: str) -> Awaitable[Returned[IndexStats]]:
        """Count."""

    def ready(self) -> Awaitable[bool]:
        """Answer."""


class Gateway:
    """One ingress process."""

    def __init__(
        self,
        profile: Profile,
        owner: Owner,
        localize: Callable[[Group], Awaitable[list[Localization | None]]],
        secret: bytes,
        load: LoadCall | None = None,
        localizer_ready: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Join the parts.

        Args:
            profile: Limits and places.
            owner: The index.
            localize: Reads one group of candidates.
            secret: Signs image addresses; the same in all processes of one service.
            load: Loads an adapter version everywhere, for a localizer that runs a model.
            localizer_ready: Answers once a localizer process is warm; asked until it was.
        """
        self.profile, self.config = profile, profile.serve
        self.metrics = Metrics()
        self.load = Load()
        self.signer = UrlSigner(secret, self.config.image_url_lifetime)
        self._owner, self._load_version = owner, load
        self._localizer_ready, self._warm = localizer_ready, localizer_ready is None
        self._versions = _open_versions(profile)
        self._images = build_image_reader(profile)
        self._decoders = asyncio.Semaphore(DECODERS)
        self._payloads = build_payloads(
            profile, self.config.cache_dialogues, self.config.cache_lifetime
        )
        self._searcher = Searcher(
            recall=self._recall,
            localize=localize,
            payloads=self._payloads,
            group_size=self.config.group_size,
            candidate_timeout=self.config.candidate_timeout,
            search_timeout=self.config.search_timeout,
            min_relevance=profile.search.min_relevance,
            recall_weight=profile.search.recall_weight,
            min_confidence=profile.search.min_confidence,
            version=self._versions.current if self._versions else no_version,
        )

    @property
    def searcher(self) -> Searcher:
        """Runs searches."""
        return self._searcher

    def plan(
        self, tenant: str, query: str, filters: Filters, num_candidates: int | None
    ) -> SearchPlan:
        """Fill in the profile's numbers; Problem when one is out of range."""
        wanted = num_candidates or self.profile.search.num_candidates
        if wanted > self.config.max_candidates:
            raise Problem(
                422, f"num_candidates {wanted} is too many; use 1 to {self.config.max_candidates}"
            )
        if not query.strip():
            raise Problem(422, "the query is empty; write what you are looking for")
        return SearchPlan(
            tenant=tenant, query=query.strip(), filters=filters, num_candidates=wanted
        )

    def check_limit(self, limit: int) -> int:
        """Return a number of dialogues; Problem when there are too many."""
        if limit > self.config.max_dialogues:
            raise Problem(422, f"limit {limit} is too many; use 1 to {self.config.max_dialogues}")
        return limit

    def found_record(self, tenant: str, found: Found) -> dict[str, Any]:
        """One dialogue of an answer as JSON."""
        address = self._addresses(tenant, found.dialogue.dialogue_id)
        return answer_record(found.answer, found.dialogue, address)

    async def add(self, caller: Principal, record: dict[str, Any], restore: bool) -> Added:
        """Check a record and its images, then index it."""
        if len(record["turns"]) > self.config.max_turns:
            raise Problem(
                413,
                f"the dialogue has {len(record['turns'])} turns, at most"
                f" {self.config.max_turns} are allowed; cut it",
            )
        dialogue = dialogue_from_record(record)
        await asyncio.to_thread(self._check_images, caller, dialogue)
        async with asyncio.timeout(self.config.write_timeout):
            added = value(await self._owner.add(caller.tenant, dialogue, restore))
        self._payloads.forget(caller.tenant, dialogue.dialogue_id)
        return added

    async def delete(self, tenant: str, dialogue_id: str) -> None:
        """Remove a dialogue everywhere; NotFoundError when there is none."""
        async with asyncio.timeout(self.config.write_timeout):
            deleted = value(await self._owner.delete(tenant, dialogue_id))
        self._payloads.forget(tenant, dialogue_id)
        if not deleted:
            raise self._unknown(dialogue_id)

    async def dialogue(self, tenant: str, dialogue_id: str) -> Dialogue:
        """A whole dialogue; NotFoundError when the tenant has none of that id."""
        for _ in range(2):
            async with asyncio.timeout(self.config.search_timeout):
                header = value(await self._owner.header(tenant, dialogue_id))
            if header is None:
                break
            try:
                return await asyncio.to_thread(self._payloads.get, tenant, header.payload)
            except NotFoundError:
                continue
        raise self._unknown(dialogue_id)

    def page_record(
        self, tenant: str, dialogue: Dialogue, start: int, limit: int
    ) -> dict[str, Any]:
        """Some turns of a dialogue as JSON."""
        address = self._addresses(tenant, dialogue.dialogue_id)
        turns = dialogue.turns[start : start + limit]
        return {
            "dialogue_id": dialogue.dialogue_id,
            "title": dialogue.title,
            "language": dialogue.language,
            "participants": list(dialogue.participants),
            "num_turns": len(dialogue.turns),
            "start": start,
            "turns": [turn_record(turn, image_url=address) for turn in turns],
        }

    async def image(self, tenant: str, dialogue_id: str, image_id: int) -> bytes:
        """A picture as JPEG; NotFoundError when the dialogue has none of that number."""
        dialogue = await self.dialogue(tenant, dialogue_id)
        uri = dialogue.images[image_id].uri if image_id < len(dialogue.images) else None
        if uri is not None:
            try:
                async with self._decoders:
                    return await asyncio.to_thread(self._images.reencoded, uri)
            except (InputError, NotFoundError):
                self.metrics.images_refused.inc()
        raise NotFoundError(
            f"dialogue {dialogue_id!r:.200} has no picture {image_id} that can be shown"
        )

    async def stats(self, tenant: str) -> IndexStats:
        """Counts of a tenant."""
        async with asyncio.timeout(self.config.search_timeout):
            return value(await self._owner.stats(tenant))

    async def localizer(self) -> AdapterVersion:
        """The version of the localizer in force; Problem where it runs no model."""
        return await self._book().current()

    async def roll_over(
        self, path: str, calibration: str | None
    ) -> tuple[AdapterVersion, AdapterVersion, int]:
        """Load an adapter in every localizer process, then use it; nothing changes on an error.

        Returns:
            The new version, the one before, and how many processes hold the new one.
        """
        book, load = self._book(), self._load_version
        assert load is not None
        version = await asyncio.to_thread(folder_version, path, calibration)
        async with asyncio.timeout(self.config.write_timeout):
            results = await load(version)
            for result in results:
                value(result)
            before = await book.switch(version)
        return version, before, len(results)

    def count_candidates(self, progress: Progress) -> None:
        """Add what a search did to the metrics."""
        for outcome in ("read", "retried", "missing"):
            self.metrics.candidates.labels(outcome).inc(getattr(progress, outcome))

    async def drain(self) -> None:
        """Take nothing new and return when everything begun is answered, or time is up."""
        self.load.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.drain_timeout
        while self.load.ongoing and loop.time() < deadline:
            await asyncio.sleep(0.05)

    async def ready(self) -> bool:
        """Whether the index answers within a few seconds; not while this process stops.

        Not before a localizer process was warm once: an engine takes longer to start.
        """
        if self.load.draining:
            return False
        async with asyncio.timeout(READY_TIMEOUT):
            if not self._warm:
                assert self._localizer_ready is not None
                self._warm = await self._localizer_ready()
            return self._warm and await self._owner.ready()

    async def _recall(
        self, tenant: str, query: str, filters: Filters, num_candidates: int
    ) -> Recall:
        return value(await self._owner.recall(tenant, query, filters, num_candidates))

    def _book(self) -> VersionBook:
        if self._versions is None:
            raise Problem(409, "this profile's localizer has no adapter that could change")
        return self._versions

    def _addresses(self, tenant: str, dialogue_id: str) -> Callable[[Image], str | None]:
        def address(image: Image) -> str | None:
            uri = image.uri
            if uri is None or uri.startswith(("http://", "https://")):
                return None
            return self.signer.url(tenant, dialogue_id, image.image_id)

        return address

    def _check_images(self, caller: Principal, dialogue: Dialogue) -> None:
        """Refuse pictures that could not be shown later; a missing one is the caller's mistake."""
        own = self._images
        if caller.image_roots is not None:
            limits = self.profile.images.model_copy(update={"roots": caller.image_roots})
            own = ImageReader(limits=limits)
        for image in dialogue.images:
            if image.uri is None:
                continue
            own.check_allowed(image.uri)
            self._images.check_allowed(image.uri)
            try:
                self._images.check_readable(image.uri)
            except NotFoundError as error:
                raise InputError(str(error)) from error

    def _unknown(self, dialogue_id: str) -> NotFoundError:
        return NotFoundError(f"there is no dialogue {dialogue_id!r:.200}; check its id")


def _open_versions(profile: Profile) -> VersionBook | None:
    first = profile_version(profile)
    if first is None:
        return None
    storage = open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)
    return VersionBook(storage, first)


def value(returned: Returned[T]) -> T:
    """Raise what a worker returned as an error."""
    if isinstance(returned, FfrError):
        raise problem_of(returned)
    return returned
