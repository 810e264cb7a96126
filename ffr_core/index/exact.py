"""The exact index: everything in memory, every score computed, nothing persisted.

It defines what a search means; the other indexes are compared with it. It is quick enough for some
ten thousand passages.

Legend: N fragments, P passages, C candidates, D embedding.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ffr_core.index.bm25 import Bm25
from ffr_core.index.filters import FragmentFacts, check_filters, facts_of, matches
from ffr_core.index.fusion import FusionWeights, best_first, fuse
from ffr_core.index.headers import count_headers, tombstone
from ffr_core.index.keys import dialogue_key
from ffr_core.index.rows import check_item, check_not_deleted, check_query
from ffr_core.types import (
    Candidate,
    Filters,
    Header,
    IndexedDialogue,
    IndexedFragment,
    IndexStats,
    PassageEvidence,
    StoredFragment,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """One fragment as it is searched."""

    key: str
    header: Header
    part: IndexedFragment
    facts: FragmentFacts


class _Snapshot:
    """The rows of one tenant as arrays, built once after each change."""

    def __init__(self, rows: list[_Row], dim: int, k1: float, b: float) -> None:
        self.rows = rows
        self._dim, self._k1, self._b = dim, k1, b
        passages = [(i, passage) for i, row in enumerate(rows) for passage in row.part.passages]
        self.owners_P = np.array([i for i, _ in passages], dtype=np.int64)
        self._passages = [passage for _, passage in passages]

    @cached_property
    def _fragments_ND(self) -> NDArray[np.float32]:
        return _stack([row.part.vector_D for row in self.rows], self._dim)

    @cached_property
    def _passages_PD(self) -> NDArray[np.float32]:
        return _stack([passage.vector_D for passage in self._passages], self._dim)

    @cached_property
    def _fragment_words(self) -> Bm25:
        return Bm25((row.part.text for row in self.rows), self._k1, self._b)

    @cached_property
    def _passage_words(self) -> Bm25:
        return Bm25((passage.passage.text for passage in self._passages), self._k1, self._b)

    def row_scores(
        self, channel: str, vector_D: NDArray[np.float32], text: str
    ) -> NDArray[np.float32]:
        """Return [N] or [P], by the channel."""
        match channel:
            case "dense_fragment":
                scores = self._fragments_ND @ vector_D
            case "dense_passage":
                scores = self._passages_PD @ vector_D
            case "bm25_fragment":
                scores = self._fragment_words.scores(text)
            case _:
                scores = self._passage_words.scores(text)
        return np.asarray(scores, dtype=np.float32)

    def best_of_fragment(self, scores_P: NDArray[np.float32]) -> NDArray[np.float32]:
        """[P] -> [N], the best passage of each fragment; NaN where it has none."""
        best_N = np.full(len(self.rows), -np.inf, dtype=np.float32)
        np.maximum.at(best_N, self.owners_P, scores_P)
        return np.where(np.isinf(best_N), np.float32(np.nan), best_N)


@dataclass(slots=True, kw_only=True, eq=False)
class _Tenant:
    """All that the index knows about one tenant."""

    headers: dict[str, Header] = field(default_factory=dict)
    items: dict[str, IndexedDialogue] = field(default_factory=dict)
    snapshot: _Snapshot | None = None
    """None: something changed since the last search."""


class ExactIndex:
    """A FragmentIndex over NumPy arrays. Every write is atomic; one encoder for its whole life."""

    def __init__(
        self,
        *,
        dim: int,
        encoder_fingerprint: str,
        weights: FusionWeights | None = None,
        depth: int = 200,
        bm25_k1: float = 1.2,
        bm25_b: float = 0.75,
    ) -> None:
        """Open an empty index.

        Args:
            dim: D.
            encoder_fingerprint: What the vectors are made with.
            weights: Weight of each channel.
            depth: Rows that each channel recalls.
            bm25_k1: BM25 saturation.
            bm25_b: BM25 length normalization.
        """
        self._dim, self._fingerprint = dim, encoder_fingerprint
        self._weights, self._depth = weights or FusionWeights(), depth
        self._k1, self._b = bm25_k1, bm25_b
        self._tenants: dict[str, _Tenant] = {}
        self._lock = threading.RLock()

    def upsert(self, tenant: str, item: IndexedDialogue, payload: str) -> None:
        """Add or replace one dialogue."""
        check_item(item, self._dim)
        name = item.dialogue.dialogue_id
        with self._lock:
            state = self._tenants.setdefault(tenant, _Tenant())
            old = state.headers.get(name)
            check_not_deleted(item.dialogue, old is not None and old.deleted)
            state.items[name] = item
            state.headers[name] = Header(
                dialogue_id=name,
                fingerprint=item.fingerprint,
                revision=old.revision + 1 if old else 1,
                num_fragments=len(item.fragments),
                num_passages=sum(len(part.passages) for part in item.fragments),
                payload=payload,
            )
            state.snapshot = None

    def upsert_many(self, tenant: str, items: Sequence[tuple[IndexedDialogue, str]]) -> None:
        """Add or replace dialogues with the names of their payloads, all or none."""
        with self._lock:
            known = self.headers(tenant, [item.dialogue.dialogue_id for item, _ in items])
            for item, _ in items:
                old = known.get(item.dialogue.dialogue_id)
                check_item(item, self._dim)
                check_not_deleted(item.dialogue, old is not None and old.deleted)
            for item, payload in items:
                self.upsert(tenant, item, payload)

    def delete(self, tenant: str, dialogue_id: str) -> bool:
        """Remove a dialogue and leave a tombstone; False when there is none."""
        with self._lock:
            state = self._tenants.get(tenant, _Tenant())
            old = state.headers.get(dialogue_id)
            if old is None or old.deleted:
                return False
            state.headers[dialogue_id] = tombstone(dialogue_id, old.revision + 1)
            del state.items[dialogue_id]
            state.snapshot = None
            return True

    def restore(self, tenant: str, dialogue_id: str) -> bool:
        """Drop a tombstone; False when there is none."""
        with self._lock:
            state = self._tenants.get(tenant, _Tenant())
            old = state.headers.get(dialogue_id)
            if old is None or not old.deleted:
                return False
            del state.headers[dialogue_id]
            return True

    def drop_tenant(self, tenant: str) -> None:
        """Forget everything about a tenant, tombstones too."""
        with self._lock:
            self._tenants.pop(tenant, None)

    def headers(self, tenant: str, dialogue_ids: Iterable[str]) -> dict[str, Header]:
        """Headers of those dialogues that the index knows, tombstones too."""
        known = self._tenants.get(tenant, _Tenant()).headers
        return {name: known[name] for name in dialogue_ids if name in known}

    def scan_headers(self, tenant: str) -> Iterator[Header]:
        """All headers, tombstones too, ordered by dialogue_id."""
        known = self._tenants.get(tenant, _Tenant()).headers
        yield from [known[name] for name in sorted(known)]

    def fragments(self, tenant: str, dialogue_id: str) -> list[StoredFragment]:
        """The fragments of a dialogue with their vectors, by fragment_id."""
        item = self._tenants.get(tenant, _Tenant()).items.get(dialogue_id)
        return [
            StoredFragment(
                fragment=part.fragment,
                vector_D=part.vector_D,
                passages=tuple(
                    PassageEvidence(turn_ids=each.passage.turn_ids, vector_D=each.vector_D)
                    for each in part.passages
                ),
            )
            for part in (item.fragments if item else ())
        ]

    def stats(self, tenant: str) -> IndexStats:
        """Counts of live rows."""
        return count_headers(self.scan_headers(tenant), self._fingerprint)

    def close(self) -> None:
        """Forget everything."""
        self._tenants.clear()

    def search(
        self,
        tenant: str,
        query_vector_D: NDArray[np.float32],
        query_text: str,
        filters: Filters,
        num_candidates: int,
    ) -> list[Candidate]:
        """Best candidates first, one per fragment."""
        check_filters(filters)
        check_query(query_vector_D, self._dim, num_candidates)
        snapshot = self._snapshot(tenant)
        depth = max(self._depth, num_candidates)
        found, channels = self._recall(snapshot, query_vector_D, query_text, filters, depth)
        fused_C = fuse(channels, self._weights.active())
        rows = [snapshot.rows[i] for i in found]
        ties = [(row.key, row.part.fragment.fragment_id) for row in rows]
        return [
            _candidate(
                rows[i],
                float(fused_C[i]),
                {name: float(scores_C[i]) for name, scores_C in channels.items()},
            )
            for i in best_first(fused_C, ties)[:num_candidates]
        ]

    def _recall(
        self,
        snapshot: _Snapshot,
        vector_D: NDArray[np.float32],
        text: str,
        filters: Filters,
        depth: int,
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Rows that some channel has among its best, [C], and all their scores, [C] a channel."""
        passes_N = np.array(
            [matches(filters, row.facts, row.header.dialogue_id) for row in snapshot.rows],
            dtype=bool,
        )
        found_N = np.zeros(len(snapshot.rows), dtype=bool)
        scores: dict[str, NDArray[np.float32]] = {}
        for channel in self._weights.active():
            scores_R = snapshot.row_scores(channel, vector_D, text)
            of_passages = channel.endswith("passage")
            owners_R = snapshot.owners_P if of_passages else np.arange(len(snapshot.rows))
            allowed_R = passes_N[owners_R]
            if channel.startswith("bm25"):
                allowed_R = allowed_R & (scores_R > 0)
            found_N[owners_R[_top(scores_R, allowed_R, depth)]] = True
            scores[channel] = snapshot.best_of_fragment(scores_R) if of_passages else scores_R
        found = np.flatnonzero(found_N)
        return found, {name: scores_N[found] for name, scores_N in scores.items()}

    def _snapshot(self, tenant: str) -> _Snapshot:
        with self._lock:
            state = self._tenants.get(tenant, _Tenant())
            if state.snapshot is None:
                rows = [
                    _Row(
                        key=dialogue_key(tenant, name),
                        header=state.headers[name],
                        part=part,
                        facts=facts_of(item.dialogue, part.fragment.turn_ids),
                    )
                    for name, item in state.items.items()
                    for part in item.fragments
                ]
                state.snapshot = _Snapshot(rows, self._dim, self._k1, self._b)
            return state.snapshot


def _stack(vectors: Sequence[NDArray[np.float32]], dim: int) -> NDArray[np.float32]:
    return np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, dim), np.float32)


def _top(
    scores_R: NDArray[np.float32], allowed_R: NDArray[np.bool_], depth: int
) -> NDArray[np.int64]:
    """Rows of the `depth` best allowed scores, in no order."""
    rows = np.flatnonzero(allowed_R)
    if len(rows) <= depth:
        return rows
    return rows[np.argpartition(-scores_R[rows], depth - 1)[:depth]]


def _candidate(row: _Row, score: float, channels: dict[str, float]) -> Candidate:
    return Candidate(
        dialogue_id=row.header.dialogue_id,
        fragment=row.part.fragment,
        score=score,
        payload=row.header.payload,
        channels=channels,
        passages=tuple(
            PassageEvidence(turn_ids=passage.passage.turn_ids, vector_D=passage.vector_D)
            for passage in row.part.passages
        ),
    )
