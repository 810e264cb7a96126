"""One search over Milvus: recall per channel, exact scores for the rest, fusion, evidence.

Rows are trusted only where their revision is the one in the header of their dialogue, so rows of a
write that broke off, or of a dialogue that was deleted, are never seen. A search that a write
overtook, which removed rows that it had found, runs a second time.

Legend: C candidates (fragments) of one query, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.index.filters import both, quoted
from ffr_core.index.fusion import best_first, fuse
from ffr_core.index.keys import dialogue_key, dialogue_of, fragment_of
from ffr_core.index.milvus_connection import MAX_WINDOW, Connection
from ffr_core.index.milvus_rows import Row, header_from_row, passage_keys
from ffr_core.index.milvus_schema import HEADER_FIELDS
from ffr_core.index.rows import unpack_ids
from ffr_core.types import Candidate, Fragment, Header, PassageEvidence, StoredFragment

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRAGMENT_FIELDS = ["revision", "fragment_id", "turn_ids", "num_passages"]
_KEYS_AT_ONCE = 1_000
_VECTORS_AT_ONCE = 500
"""Rows with their vectors that one call reads; a server sends 100 MB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One tenant's collections."""

    connection: Connection
    tenant: str
    headers: str
    fragments: str
    passages: str
    scope: str
    """Expression that selects the tenant's rows; empty when the collections are its own."""


class Search:
    """One query on one tenant."""

    def __init__(
        self,
        view: View,
        query_vector_D: NDArray[np.float32],
        words: str,
        expression: str,
        weights: dict[str, float],
        depth: int,
        consistency: str,
    ) -> None:
        """Prepare a query.

        Args:
            view: Where to look.
            query_vector_D: [D], unit norm.
            words: The query's tokens joined by spaces.
            expression: The person's filters.
            weights: Channel -> weight, those that count.
            depth: Rows that each channel recalls.
            consistency: Milvus consistency level.
        """
        self._view, self._connection = view, view.connection
        self._vector, self._words = query_vector_D.astype(np.float32), words
        self._expression = both(view.scope, expression)
        self._weights, self._depth = weights, min(depth, MAX_WINDOW)
        self._consistency = consistency
        self._headers: dict[str, Header | None] = {}
        self._overtaken = False

    def run(self, num_candidates: int) -> list[Candidate]:
        """Best candidates first, with the evidence of their passages."""
        candidates = self._run(num_candidates)
        if self._overtaken:
            self._headers.clear()
            candidates = self._run(num_candidates)
        return candidates

    def _run(self, num_candidates: int) -> list[Candidate]:
        scores = {channel: self._recall(channel) for channel in self._weights}
        rows = self._fragment_rows(sorted({key for found in scores.values() for key in found}))
        keys = sorted(rows)
        channels = {}
        for channel, found in scores.items():
            self._complete(channel, found, rows)
            absent = 0.0 if channel.startswith("bm25") else np.nan
            channels[channel] = np.array([found.get(key, absent) for key in keys], np.float32)
        fused_C = fuse(channels, self._weights)
        ties = [(dialogue_of(key), int(rows[key]["fragment_id"])) for key in keys]
        order = best_first(fused_C, ties)[:num_candidates]
        evidence = self._evidence([rows[keys[i]] for i in order])
        return [
            self._candidate(
                rows[keys[i]],
                float(fused_C[i]),
                {channel: float(scores_C[i]) for channel, scores_C in channels.items()},
                evidence[keys[i]],
            )
            for i in order
        ]

    def _recall(self, channel: str) -> dict[str, float]:
        """Fragment key -> best score, over the `depth` best live rows of a channel.

        Asks for more where rows of broken writes take places.
        """
        limit = self._depth
        while True:
            hits = self._hits(channel, self._expression, limit)
            self._read_headers({dialogue_of(key) for key, _, _ in hits})
            live = [
                (key, score)
                for key, score, revision in hits
                if self._is_live(dialogue_of(key), revision)
            ]
            if len(live) >= self._depth or len(hits) < limit or limit >= MAX_WINDOW:
                self._notice_newer({dialogue_of(key): revision for key, _, revision in hits}, live)
                best: dict[str, float] = {}
                for key, score in live[: self._depth]:
                    best.setdefault(_fragment_of(channel, key), score)
                return best
            limit = min(limit * 4, MAX_WINDOW)

    def _complete(self, channel: str, found: dict[str, float], rows: dict[str, Row]) -> None:
        """Add the scores of the fragments that this channel did not recall by itself."""
        missing = [key for key in sorted(rows) if key not in found]
        for start in range(0, len(missing), _KEYS_AT_ONCE):
            wanted = missing[start : start + _KEYS_AT_ONCE]
            if channel.endswith("fragment"):
                for key, score, _ in self._hits(channel, f"id in {quoted(wanted)}", len(wanted)):
                    found.setdefault(key, score)
            else:
                self._complete_passages(channel, found, rows, set(wanted))

    def _complete_passages(
        self, channel: str, found: dict[str, float], rows: dict[str, Row], wanted: set[str]
    ) -> None:
        """The first live passage of a fragment in the order of scores is its best one.

        A round finds the best of most fragments; those that are left take part in the next.
        """
        limit = max(1_000, 4 * len(wanted))
        while wanted:
            limit = min(limit, MAX_WINDOW)
            hits = self._hits(channel, f"fragment_key in {quoted(sorted(wanted))}", limit)
            for key, score, revision in hits:
                if revision == rows[fragment_of(key)]["revision"]:
                    found.setdefault(fragment_of(key), score)
            left = {key for key in wanted if key not in found}
            if len(hits) < limit or (len(left) == len(wanted) and limit == MAX_WINDOW):
                return
            if len(left) == len(wanted):
                limit *= 4
            wanted = left

    def _hits(self, channel: str, expression: str, limit: int) -> list[tuple[str, float, int]]:
        view = self._view
        dense = channel.startswith("dense")
        if not dense and not self._words:
            return []
        return self._connection.search(
            view.fragments if channel.endswith("fragment") else view.passages,
            "vector" if dense else "words",
            self._vector if dense else self._words,
            expression,
            limit,
            self._consistency,
        )

    def _read_headers(self, keys: set[str]) -> None:
        unknown = sorted(keys - self._headers.keys())
        rows = self._connection.get(self._view.headers, unknown, HEADER_FIELDS, self._consistency)
        for key in unknown:
            self._headers[key] = header_from_row(rows[key]) if key in rows else None

    def _is_live(self, dialogue: str, revision: int) -> bool:
        header = self._headers[dialogue]
        return header is not None and not header.deleted and header.revision == revision

    def _notice_newer(self, found: dict[str, int], live: list[tuple[str, float]]) -> None:
        """Dialogues of which only rows from before their header were found: flipped in between."""
        for dialogue in found.keys() - {dialogue_of(key) for key, _ in live}:
            header = self._headers[dialogue]
            if header is not None and not header.deleted and header.revision > found[dialogue]:
                self._overtaken = True

    def _fragment_rows(self, keys: Sequence[str]) -> dict[str, Row]:
        rows = self._connection.get(self._view.fragments, keys, _FRAGMENT_FIELDS, self._consistency)
        self._overtaken |= len(rows) < len(keys)
        return {
            key: row
            for key, row in rows.items()
            if self._is_live(dialogue_of(key), row["revision"])
        }

    def _evidence(self, rows: list[Row]) -> dict[str, tuple[PassageEvidence, ...]]:
        keys = {row["id"]: passage_keys(row) for row in rows}
        wanted = [key for part in keys.values() for key in part]
        fields = ["revision", "turn_ids", "vector"]
        passages = self._connection.get(self._view.passages, wanted, fields, self._consistency)
        self._overtaken |= len(passages) < len(wanted)
        return {
            row["id"]: tuple(
                PassageEvidence(
                    turn_ids=unpack_ids(passages[key]["turn_ids"]),
                    vector_D=np.array(passages[key]["vector"], dtype=np.float32),
                )
                for key in keys[row["id"]]
                if key in passages and passages[key]["revision"] == row["revision"]
            )
            for row in rows
        }

    def _candidate(
        self,
        row: Row,
        score: float,
        channels: dict[str, float],
        evidence: tuple[PassageEvidence, ...],
    ) -> Candidate:
        header = self._headers[dialogue_of(row["id"])]
        assert header is not None
        return Candidate(
            dialogue_id=header.dialogue_id,
            fragment=Fragment(
                fragment_id=int(row["fragment_id"]), turn_ids=unpack_ids(row["turn_ids"])
            ),
            score=score,
            payload=header.payload,
            channels=channels,
            passages=evidence,
        )


def read_fragments(view: View, dialogue_id: str, revision: int) -> list[StoredFragment]:
    """All fragments of one revision of a dialogue, by fragment_id, with their passages."""
    key = dialogue_key(view.tenant, dialogue_id)
    expression = both(view.scope, f"dialogue_key in {quoted([key])}")

    def rows(collection: str, *fields: str) -> list[Row]:
        names = ["revision", "turn_ids", "vector", *fields]
        found = view.connection.scan(collection, expression, names, _VECTORS_AT_ONCE)
        return [row for row in found if int(row["revision"]) == revision]

    passages = {
        row["id"]: PassageEvidence(turn_ids=unpack_ids(row["turn_ids"]), vector_D=_vector(row))
        for row in rows(view.passages)
    }
    stored = [
        StoredFragment(
            fragment=Fragment(
                fragment_id=int(row["fragment_id"]), turn_ids=unpack_ids(row["turn_ids"])
            ),
            vector_D=_vector(row),
            passages=tuple(passages[key] for key in passage_keys(row) if key in passages),
        )
        for row in rows(view.fragments, "fragment_id", "num_passages")
    ]
    return sorted(stored, key=lambda each: each.fragment.fragment_id)


def _vector(row: Row) -> NDArray[np.float32]:
    return np.array(row["vector"], dtype=np.float32)


def _fragment_of(channel: str, key: str) -> str:
    return key if channel.endswith("fragment") else fragment_of(key)
