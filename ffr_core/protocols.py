"""The seams: the only places where a back end is chosen. `profile.py` builds them from TOML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ffr_core.generation import Completion, GenerationRequest
from ffr_core.types import (
    Candidate,
    Dialogue,
    Filters,
    Fragment,
    Header,
    IndexedDialogue,
    IndexStats,
    Localization,
    Passage,
    PassageEvidence,
    StoredFragment,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """To vectors. All rows have unit norm, so a dot product is a cosine."""

    @property
    def dim(self) -> int:
        """D."""

    @property
    def max_tokens(self) -> int:
        """Longer passages are cut."""

    @property
    def fingerprint(self) -> str:
        """Model, adapter hash and settings; stored in the index, a mismatch is refused."""

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm; an empty sequence gives [0, D]."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""


class Engine(Protocol):
    """To text. A request that cannot be answered gives a completion with `error`, not a raise."""

    @property
    def fingerprint(self) -> str:
        """Model and settings that change its output, adapters left out."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order; an unknown adapter raises NotFoundError."""

    def load_adapter(self, name: str, path: str) -> None:
        """Make a PEFT folder usable as `name`; a name in use raises InputError, use a fresh one."""

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; the base weights stay bit-identical."""

    def close(self) -> None:
        """Release the model and its processes."""


class AsyncEngine(Protocol):
    """The form for serving: many requests in flight; cancelling the task aborts one."""

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request."""

    async def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`."""

    async def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""

    async def close(self) -> None:
        """As in `Engine`."""


class Segmenter(Protocol):
    """Dialogue -> fragments that partition its turns, possibly interleaved."""

    @property
    def fingerprint(self) -> str:
        """Everything that changes its output."""

    def segment(self, dialogues: Sequence[Dialogue]) -> list[tuple[Fragment, ...]]:
        """Segment each dialogue. Gold fragments of the input are never read."""


class Localizer(Protocol):
    """Query + part of a dialogue -> selected turns and images; may select none."""

    def localize(
        self,
        query: str,
        dialogue: Dialogue,
        turn_ids: Sequence[int] | None = None,
        evidence: Sequence[PassageEvidence] = (),
    ) -> Localization:
        """Select inside `turn_ids` (None: the whole dialogue), in the dialogue's own ids.

        `evidence` holds stored passage vectors of these turns; what it lacks is encoded.
        """


@runtime_checkable
class BatchLocalizer(Localizer, Protocol):
    """A localizer that reads many parts at once faster than one after the other."""

    def localize_many(
        self, items: Sequence[tuple[str, Dialogue, Sequence[int] | None]]
    ) -> list[Localization]:
        """Many (query, dialogue, turn_ids), as `localize`, in their order."""


class FragmentIndex(Protocol):
    """The vector index. Tenant is mandatory; nothing crosses it."""

    def upsert(self, tenant: str, item: IndexedDialogue, payload: str) -> None:
        """Add or replace one dialogue; its header row is written last."""

    def upsert_many(self, tenant: str, items: Sequence[tuple[IndexedDialogue, str]]) -> None:
        """Add or replace dialogues, each id once, with the names of their payloads."""

    def delete(self, tenant: str, dialogue_id: str) -> bool:
        """Remove the rows and leave a tombstone; False when the tenant has no such dialogue."""

    def headers(self, tenant: str, dialogue_ids: Iterable[str]) -> dict[str, Header]:
        """Headers (tombstones too) of those dialogues that the index knows."""

    def scan_headers(self, tenant: str) -> Iterator[Header]:
        """All headers of a tenant, tombstones too, ordered by dialogue_id."""

    def fragments(self, tenant: str, dialogue_id: str) -> list[StoredFragment]:
        """The live fragments of a dialogue with their vectors, by fragment_id; none if unknown."""

    def restore(self, tenant: str, dialogue_id: str) -> bool:
        """Drop a tombstone so that the dialogue may be indexed again."""

    def search(
        self,
        tenant: str,
        query_vector_D: NDArray[np.float32],
        query_text: str,
        filters: Filters,
        num_candidates: int,
    ) -> list[Candidate]:
        """Best candidates first, one per fragment, with the evidence of their passages."""

    def stats(self, tenant: str) -> IndexStats:
        """Counts of live rows."""

    def close(self) -> None:
        """Release the file or connection."""


class Storage(Protocol):
    """Named blobs: a local folder or an S3 prefix. Keys use `/` and never leave the root."""

    def read(self, key: str) -> bytes:
        """Return the content; NotFoundError when absent."""

    def write(self, key: str, data: bytes) -> None:
        """Create or replace atomically: a reader sees the old or the new content."""

    def exists(self, key: str) -> bool:
        """Whether the key is there."""

    def delete(self, key: str) -> bool:
        """Remove; False when it was not there."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
