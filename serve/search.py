"""The search as the ingress runs it: recall, localize in parallel, tell each dialogue when done.

Candidates travel in small groups, those of one dialogue together. A group that fails, dies with
its process or exceeds its time is tried once more, on another replica. What is missing after that
makes the answer partial. All candidates of a search are read by one version of the localizer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ffr_core.aggregation import MIN_CONFIDENCE, rank_answers, weigh
from ffr_core.errors import NotFoundError
from ffr_core.index.filters import keep_inside
from ffr_core.pipeline import aggregate
from ffr_core.types import Candidate, Dialogue, DialogueAnswer, Filters, Localization
from serve.problems import Problem, log_failure
from serve.tracing import span
from serve.versions import AdapterVersion
from serve.workers import Group, Recall

if TYPE_CHECKING:
    from ffr_core.index.payload import PayloadStore

RecallCall = Callable[[str, str, Filters, int], Awaitable[Recall]]
LocalizeCall = Callable[[Group], Awaitable[list[Localization | None]]]
VersionCall = Callable[[], Awaitable[AdapterVersion | None]]


async def no_version() -> AdapterVersion | None:
    """The version of a localizer that runs no model."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """One search."""

    tenant: str
    query: str
    filters: Filters
    num_candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One dialogue of an answer, with its turns."""

    answer: DialogueAnswer
    dialogue: Dialogue


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a search has so far; complete when its events end."""

    started: float = field(default_factory=time.perf_counter)
    partial: bool = False
    adapter: AdapterVersion | None = None
    """The version of the localizer that reads all candidates."""
    read: int = 0
    """Candidates that were read."""
    retried: int = 0
    """Candidates that were tried a second time."""
    missing: int = 0
    """Candidates that could not be read."""
    found: dict[str, Found] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    """Dialogues that `news` gave."""

    @property
    def took_ms(self) -> float:
        """Milliseconds since the start."""
        return round((time.perf_counter() - self.started) * 1000, 1)

    def ranked(self) -> list[Found]:
        """All dialogues that match, best first."""
        answers = rank_answers(found.answer for found in self.found.values())
        return [self.found[answer.dialogue_id] for answer in answers]

    def news(self, limit: int) -> list[Found]:
        """Those of the `limit` best that were not told yet.

        There may be several: a new dialogue can push one out and so let others in.
        """
        fresh = [
            found for found in self.ranked()[:limit] if found.answer.dialogue_id not in self.told
        ]
        self.told.update(found.answer.dialogue_id for found in fresh)
        return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """Steps 3 to 5 over the workers."""

    recall: RecallCall
    localize: LocalizeCall
    payloads: PayloadStore
    group_size: int
    candidate_timeout: float
    search_timeout: float
    min_relevance: float
    recall_weight: float = 0.0
    min_confidence: float = MIN_CONFIDENCE
    version: VersionCall = no_version
    """The version in force."""

    async def run(self, plan: SearchPlan, progress: Progress) -> AsyncGenerator[Found, None]:
        """Yield each dialogue when all its candidates are read; fills `progress` meanwhile."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.search_timeout
        async with asyncio.timeout_at(deadline):
            progress.adapter = await self.version()
            with span("recall", wanted=plan.num_candidates):
                recall = await self.recall(
                    plan.tenant, plan.query, plan.filters, plan.num_candidates
                )
        groups = make_groups(recall.candidates, self.group_size)
        waiting = {name: 0 for name in dict.fromkeys(c.dialogue_id for c in recall.candidates)}
        for group in groups:
            for name in {candidate.dialogue_id for candidate in group}:
                waiting[name] += 1
        read: dict[str, list[tuple[Candidate, Localization]]] = {name: [] for name in waiting}
        tasks = [
            asyncio.create_task(self._traced_group(plan, recall, group, deadline, progress))
            for group in groups
        ]
        try:
            for next_done in asyncio.as_completed(tasks):
                done, results = await next_done
                for candidate, localization in zip(done, results, strict=True):
                    if localization is None:
                        progress.partial = True
                        progress.missing += 1
                    else:
                        progress.read += 1
                        best = recall.candidates[0].score
                        weighed = weigh(
                            candidate,
                            localization,
                            best,
                            self.recall_weight,
                            self.min_confidence,
                        )
                        read[candidate.dialogue_id].append((candidate, weighed))
                for name in dict.fromkeys(candidate.dialogue_id for candidate in done):
                    waiting[name] -= 1
                    if not waiting[name]:
                        found = await self._finish(plan, read[name], progress)
                        if found is not None:
                            yield found
        finally:
            for task in tasks:
                task.cancel()

    async def _finish(
        self, plan: SearchPlan, read: list[tuple[Candidate, Localization]], progress: Progress
    ) -> Found | None:
        """Step 5 for one dialogue."""
        if not read:
            return None
        first = read[0][0]
        try:
            dialogue = await asyncio.to_thread(self.payloads.get, plan.tenant, first.payload)
        except NotFoundError:
            progress.partial = True
            return None
        same = [
            (c, keep_inside(plan.filters, dialogue, found))
            for c, found in read
            if c.payload == first.payload
        ]
        with span("aggregate", fragments=len(same)):
            answers = aggregate(same, {first.dialogue_id: dialogue}, self.min_relevance)
        if not answers:
            return None
        found = Found(answer=answers[0], dialogue=dialogue)
        progress.found[first.dialogue_id] = found
        return found

    async def _traced_group(
        self,
        plan: SearchPlan,
        recall: Recall,
        group: Sequence[Candidate],
        deadline: float,
        progress: Progress,
    ) -> tuple[Sequence[Candidate], list[Localization | None]]:
        with span("localize", candidates=len(group)):
            return await self._group(plan, recall, group, deadline, progress)

    async def _group(
        self,
        plan: SearchPlan,
        recall: Recall,
        group: Sequence[Candidate],
        deadline: float,
        progress: Progress,
    ) -> tuple[Sequence[Candidate], list[Localization | None]]:
        """Results in the order of the group; what the first call lacks is asked for again."""
        results: list[Localization | None] = [None] * len(group)
        for attempt in range(2):
            missing = [i for i, result in enumerate(results) if result is None]
            if not missing:
                break
            progress.retried += len(missing) * attempt
            part = Group(
                tenant=plan.tenant,
                query=plan.query,
                vector_D=recall.vector_D,
                candidates=[group[i] for i in missing],
                adapter=progress.adapter,
                attempt=attempt,
            )
            for i, result in zip(missing, await self._call(part, deadline), strict=True):
                results[i] = result
        return group, results

    async def _call(self, group: Group, deadline: float) -> list[Localization | None]:
        loop = asyncio.get_running_loop()
        enough = self.candidate_timeout * len(group.candidates) + 1.0
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + enough)):
                return await self.localize(group)
        except Exception as error:
            if isinstance(error, Problem) and error.status == 429:
                raise
            log_failure(error)
            return [None] * len(group.candidates)


def make_groups(candidates: Sequence[Candidate], size: int) -> list[list[Candidate]]:
    """Cut candidates into groups of `size`, best first, those of one dialogue side by side."""
    per_dialogue: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        per_dialogue.setdefault(candidate.dialogue_id, []).append(candidate)
    ordered = [candidate for part in per_dialogue.values() for candidate in part]
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
