"""Algorithm 1 as plain functions: recall, localize, aggregate; `System` holds all of its parts.

Source: Sec 5.2.2, steps 3 to 5; `building` has steps 1 and 2, `writing` what changes an index. Jobs
and the service call the same functions, spread over their workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ffr_core.aggregation import MIN_CONFIDENCE, aggregate_dialogue, rank_answers, weigh
from ffr_core.building import Builder
from ffr_core.errors import InputError, NotFoundError
from ffr_core.index.filters import keep_inside
from ffr_core.protocols import BatchLocalizer
from ffr_core.types import (
    Candidate,
    Dialogue,
    DialogueAnswer,
    Filters,
    IndexStats,
    Localization,
    PassageEvidence,
)
from ffr_core.writing import Change, add_dialogue, delete_dialogue

if TYPE_CHECKING:
    from ffr_core.index.payload import PayloadStore
    from ffr_core.protocols import FragmentIndex, Localizer

logger = logging.getLogger(__name__)

MAX_QUERY_CHARS = 4_000


def check_query(query: str) -> str:
    """Return the query without surrounding white space; InputError when empty or too long.

    Lone surrogates, as a shell that writes no UTF-8 gives them, become `?`, as in records.
    """
    query = query.encode("utf-8", "replace").decode().strip()
    if not query:
        raise InputError("the query is empty; write what you are looking for")
    if len(query) > MAX_QUERY_CHARS:
        raise InputError(
            f"the query has {len(query)} characters, at most {MAX_QUERY_CHARS} are allowed;"
            " shorten it"
        )
    return query


def localize_candidate(
    localizer: Localizer, query: str, dialogue: Dialogue, candidate: Candidate
) -> Localization:
    """Step 4 for one candidate: read its turns again, knowing the query."""
    return localizer.localize(query, dialogue, candidate.fragment.turn_ids, candidate.passages)


Part = tuple[str, Dialogue, Sequence[int] | None, Sequence[PassageEvidence]]
"""Query, dialogue, the turns to read (None: all of them), and stored vectors of their passages."""


def localize_all(localizer: Localizer, parts: Sequence[Part]) -> list[Localization]:
    """Step 4 for many parts, together where the localizer can; in their order."""
    if isinstance(localizer, BatchLocalizer):
        return localizer.localize_many([part[:3] for part in parts])
    return [localizer.localize(*part) for part in parts]


def aggregate(
    found: Sequence[tuple[Candidate, Localization]],
    dialogues: Mapping[str, Dialogue],
    min_relevance: float,
) -> list[DialogueAnswer]:
    """Step 5: drop candidates below `min_relevance`, merge per dialogue, rank."""
    per_dialogue: dict[str, list[tuple[Candidate, Localization]]] = {}
    for candidate, localization in found:
        if localization.relevance >= min_relevance:
            per_dialogue.setdefault(candidate.dialogue_id, []).append((candidate, localization))
    return rank_answers(
        aggregate_dialogue(dialogues[dialogue_id], parts)
        for dialogue_id, parts in per_dialogue.items()
    )


@dataclass(slots=True, kw_only=True)
class System:
    """An opened index with its models: add, search, read and delete dialogues in one process."""

    builder: Builder
    index: FragmentIndex
    payloads: PayloadStore
    localizer: Localizer
    num_candidates: int = 20
    """K. Source: authors' setting."""
    min_relevance: float = 0.0
    recall_weight: float = 0.0
    min_confidence: float = MIN_CONFIDENCE
    """For both see `weigh`."""

    def __enter__(self) -> System:
        """Use as a context manager: the index closes at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the index."""
        self.close()

    def close(self) -> None:
        """Release the index file or connection."""
        self.index.close()

    def add(self, dialogue: Dialogue, tenant: str = "default", restore: bool = False) -> Change:
        """Add or replace one dialogue; does nothing when its fingerprint is unchanged.

        Raises:
            InputError: The dialogue was deleted; `restore=True` brings it back.
        """
        return add_dialogue(self.builder, self.index, self.payloads, tenant, dialogue, restore)

    def search(
        self,
        query: str,
        *,
        tenant: str = "default",
        filters: Filters | None = None,
        num_candidates: int | None = None,
    ) -> list[DialogueAnswer]:
        """Steps 3 to 5: recall, localize each candidate, merge per dialogue, best first.

        Candidates whose dialogue was deleted or replaced after the recall are left out, with a line
        in the log; the service calls such an answer partial.
        """
        found = self.find(query, tenant=tenant, filters=filters, num_candidates=num_candidates)
        return [answer for answer, _ in found]

    def find(
        self,
        query: str,
        *,
        tenant: str = "default",
        filters: Filters | None = None,
        num_candidates: int | None = None,
    ) -> list[tuple[DialogueAnswer, Dialogue]]:
        """As `search`, each answer with its dialogue as it was read."""
        query = check_query(query)
        filters = filters or Filters()
        query_vector_D = self.builder.encoder.encode_queries([query])[0]
        recalled = self.index.search(
            tenant,
            query_vector_D,
            query,
            filters,
            num_candidates or self.num_candidates,
        )
        candidates, dialogues = self.readable(tenant, recalled)
        parts = [
            (query, dialogues[c.dialogue_id], c.fragment.turn_ids, c.passages) for c in candidates
        ]
        read = localize_all(self.localizer, parts)
        weighed = [
            (c, self._weighed(c, localization, recalled[0].score))
            for c, localization in zip(candidates, read, strict=True)
        ]
        found = [
            (c, keep_inside(filters, dialogues[c.dialogue_id], localization))
            for c, localization in weighed
        ]
        answers = aggregate(found, dialogues, self.min_relevance)
        return [(answer, dialogues[answer.dialogue_id]) for answer in answers]

    def readable(
        self, tenant: str, recalled: Sequence[Candidate]
    ) -> tuple[list[Candidate], dict[str, Dialogue]]:
        """The candidates whose dialogue is there, one content of each, and the dialogues by id.

        How many are left out stands in the log.
        """
        contents: dict[str, str] = {}
        dialogues: dict[str, Dialogue] = {}
        for candidate in recalled:
            name = candidate.dialogue_id
            if name not in contents:
                with suppress(NotFoundError):
                    dialogues[name] = self.payloads.get(tenant, candidate.payload)
                    contents[name] = candidate.payload
        candidates = [c for c in recalled if contents.get(c.dialogue_id) == c.payload]
        if len(candidates) < len(recalled):
            logger.warning(
                "%d of %d candidates are left out: their dialogue is gone or was replaced",
                len(recalled) - len(candidates),
                len(recalled),
            )
        return candidates, dialogues

    def _weighed(self, candidate: Candidate, found: Localization, best: float) -> Localization:
        return weigh(candidate, found, best, self.recall_weight, self.min_confidence)

    def get(self, dialogue_id: str, tenant: str = "default") -> Dialogue:
        """The dialogue as it was indexed; NotFoundError when the tenant has none of that id."""
        header = self.index.headers(tenant, [dialogue_id]).get(dialogue_id)
        if header is None or header.deleted:
            raise NotFoundError(f"there is no dialogue {dialogue_id!r}; `ffrs stats` lists the ids")
        return self.payloads.get(tenant, header.payload)

    def delete(self, dialogue_id: str, tenant: str = "default") -> bool:
        """Remove a dialogue everywhere and leave a tombstone; False when there was none."""
        return delete_dialogue(self.index, self.payloads, tenant, dialogue_id)

    def dialogue_ids(self, tenant: str = "default") -> Iterator[str]:
        """Ids of all live dialogues, sorted."""
        return (h.dialogue_id for h in self.index.scan_headers(tenant) if not h.deleted)

    def stats(self, tenant: str = "default") -> IndexStats:
        """Counts of one tenant."""
        return self.index.stats(tenant)
