"""Algorithm 1 as plain functions: build what is indexed, recall, localize, aggregate.

Source: Sec 5.2.2. Jobs and the service call the same functions, spread over their workers.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ffr_core.aggregation import MIN_CONFIDENCE, aggregate_dialogue, rank_answers, weigh
from ffr_core.errors import InputError, NotFoundError
from ffr_core.index.filters import keep_inside
from ffr_core.passages import make_passages, passage_of, passage_windows
from ffr_core.protocols import BatchLocalizer
from ffr_core.records import content_hash
from ffr_core.types import (
    Candidate,
    Dialogue,
    DialogueAnswer,
    Filters,
    Fragment,
    Header,
    IndexedDialogue,
    IndexedFragment,
    IndexedPassage,
    IndexStats,
    Localization,
    PassageEvidence,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.index.payload import PayloadStore
    from ffr_core.ocr import OcrReader
    from ffr_core.protocols import Encoder, FragmentIndex, Localizer, Segmenter

logger = logging.getLogger(__name__)

FragmentVector = Literal["mean", "encode"]
Change = Literal["indexed", "updated", "unchanged"]
MAX_QUERY_CHARS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Steps 1 and 2: decompose dialogues and embed their fragments and passages."""

    segmenter: Segmenter
    encoder: Encoder
    fragment_vector: FragmentVector = "mean"
    """`mean`: the mean of the window vectors; `encode`: the encoder reads the whole fragment."""
    window_tokens: int = 0
    """Size of the windows of turns that are embedded beside the turns; 0: a window is a turn."""
    ocr: OcrReader | None = None
    """Reads the text in pictures first, where the profile asks for it."""

    @property
    def recipe(self) -> str:
        """Everything but the content that decides what is stored."""
        parts = [self.segmenter.fingerprint, self.encoder.fingerprint, self.fragment_vector]
        if self.window_tokens:
            parts.append(f"windows of {self.window_tokens}")
        return "\n".join([*parts, self.ocr.fingerprint] if self.ocr else parts)

    def read_images(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """The dialogues with the text of their pictures, where OCR is on."""
        return self.ocr.read_all(dialogues) if self.ocr else list(dialogues)

    def segment(self, dialogues: Sequence[Dialogue]) -> list[tuple[Dialogue, tuple[Fragment, ...]]]:
        """Step 1: each dialogue, its pictures read, with its fragments."""
        read = self.read_images(dialogues)
        return list(zip(read, self.segmenter.segment(read), strict=True))

    def embed(
        self, segmented: Sequence[tuple[Dialogue, tuple[Fragment, ...]]]
    ) -> list[IndexedDialogue]:
        """Step 2: all passages of all dialogues go to the encoder together."""
        passages = [
            [make_passages(dialogue, fragment, self.window_tokens) for fragment in parts]
            for dialogue, parts in segmented
        ]
        vectors_PD = self.encoder.encode_passages([p for d in passages for f in d for p in f])
        rows = iter(vectors_PD)
        built = []
        for (dialogue, parts), per_fragment in zip(segmented, passages, strict=True):
            embedded = [
                tuple(IndexedPassage(passage=p, vector_D=next(rows)) for p in fragment_passages)
                for fragment_passages in per_fragment
            ]
            whole_ND = self._fragment_vectors(dialogue, parts, embedded)
            built.append(
                IndexedDialogue(
                    dialogue=dialogue,
                    fingerprint=dialogue_fingerprint(dialogue, self.recipe),
                    fragments=tuple(
                        IndexedFragment(
                            fragment=fragment,
                            text=passage_of(dialogue, fragment.turn_ids).text,
                            vector_D=vector_D,
                            passages=fragment_passages,
                        )
                        for fragment, vector_D, fragment_passages in zip(
                            parts, whole_ND, embedded, strict=True
                        )
                    ),
                )
            )
        return built

    def build(self, dialogues: Sequence[Dialogue]) -> list[IndexedDialogue]:
        """Steps 1 and 2 in one go."""
        return self.embed(self.segment(dialogues))

    def _fragment_vectors(
        self,
        dialogue: Dialogue,
        fragments: Sequence[Fragment],
        embedded: Sequence[tuple[IndexedPassage, ...]],
    ) -> NDArray[np.float32]:
        import numpy as np

        if self.fragment_vector == "encode":
            return self.encoder.encode_passages(
                [passage_of(dialogue, fragment.turn_ids) for fragment in fragments]
            )
        means = []
        for fragment, part in zip(fragments, embedded, strict=True):
            vectors = {p.passage.turn_ids: p.vector_D for p in part}
            whole = passage_windows(dialogue, fragment.turn_ids, self.window_tokens)
            means.append(np.mean([vectors[turn_ids] for turn_ids in whole], axis=0))
        means_ND = np.stack(means)
        norms_N1 = np.linalg.norm(means_ND, axis=1, keepdims=True)
        result: NDArray[np.float32] = (means_ND / np.maximum(norms_N1, 1e-12)).astype(np.float32)
        return result


def dialogue_fingerprint(dialogue: Dialogue, recipe: str) -> str:
    """Content + recipe (64 hex): equal fingerprints mean that no work is needed."""
    return hashlib.sha256(f"{content_hash(dialogue)}\n{recipe}".encode()).hexdigest()


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


def add_dialogue(
    builder: Builder,
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    dialogue: Dialogue,
    restore: bool = False,
) -> Change:
    """Steps 1 and 2 for one dialogue, and the write; nothing is done for an unchanged one.

    Of a dialogue that only got longer, its tail is segmented and embedded; see `growing`.

    Raises:
        InputError: The dialogue was deleted and `restore` is not set.
    """
    header = index.headers(tenant, [dialogue.dialogue_id]).get(dialogue.dialogue_id)
    if header is not None and header.deleted:
        if not restore:
            raise InputError(
                f"dialogue {dialogue.dialogue_id!r} was deleted; restore it to index it again"
            )
        index.restore(tenant, dialogue.dialogue_id)
        header = None
    if (
        header is not None
        and header.fingerprint == dialogue_fingerprint(dialogue, builder.recipe)
        and payloads.exists(tenant, header.payload)
    ):
        return "unchanged"
    item = header and _grown(builder, index, payloads, tenant, header, dialogue)
    write_dialogues(index, payloads, tenant, [item] if item else builder.build([dialogue]))
    return "indexed" if header is None else "updated"


def _grown(
    builder: Builder,
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    header: Header,
    dialogue: Dialogue,
) -> IndexedDialogue | None:
    """The dialogue built from what is stored of it; None unless it only got longer."""
    from ffr_core.growing import grow, has_grown

    try:
        old = payloads.get(tenant, header.payload)
    except NotFoundError:
        return None
    same_recipe = header.fingerprint == dialogue_fingerprint(old, builder.recipe)
    if not same_recipe or not has_grown(old, dialogue):
        return None
    stored = index.fragments(tenant, dialogue.dialogue_id)
    turns = sorted(i for each in stored for i in each.fragment.turn_ids)
    if turns != list(range(len(old.turns))):
        return None
    return grow(builder, old, stored, dialogue)


def write_dialogues(
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    items: Sequence[IndexedDialogue],
    keep_others: bool = False,
) -> None:
    """Write payloads, then rows, then headers; a crash anywhere is repaired by a rerun.

    No dialogue id may stand twice in `items`. `keep_others` leaves other contents of the dialogues
    in the storage, for another index that points to them.

    Raises:
        RecordError: The index cannot hold one of them, or one was deleted; none is written then.
    """
    named = [(item, payloads.put(item.dialogue, tenant)) for item in items]
    try:
        index.upsert_many(tenant, named)
    finally:
        if not keep_others:
            _drop_unused(index, payloads, tenant, [item.dialogue.dialogue_id for item in items])


def _drop_unused(
    index: FragmentIndex, payloads: PayloadStore, tenant: str, dialogue_ids: Sequence[str]
) -> None:
    """Remove payloads that no header names: earlier contents, and what was refused just now."""
    headers = index.headers(tenant, dialogue_ids)
    for dialogue_id in dialogue_ids:
        header = headers.get(dialogue_id)
        if header is None or header.deleted:
            payloads.delete(tenant, dialogue_id)
        else:
            payloads.keep_only(tenant, header.payload)


def delete_dialogue(
    index: FragmentIndex, payloads: PayloadStore, tenant: str, dialogue_id: str
) -> bool:
    """Remove rows and payload; the tombstone stays. False when there was nothing."""
    deleted = index.delete(tenant, dialogue_id)
    payloads.delete(tenant, dialogue_id)
    return deleted
