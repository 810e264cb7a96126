"""The FragmentIndex on Milvus: a Lite file on a laptop, a server for many clients.

Order of a write: removal of what broken writes left, rows of the new revision beside those of the
old one, the header, which names the revision, and last removal of the old rows. A search believes
the header, so it sees the old revision up to that moment, also of a write that broke off. While an
update runs, the header has no fingerprint: whatever content comes next is written, and nothing is
left of the broken one. Order of a removal: tombstone, then rows.

One writer a dialogue at a time. Other than on Lite, BM25 term statistics of a server are shared
between tenants.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ffr_core.index.filters import both, milvus_expression, quoted
from ffr_core.index.fusion import FusionWeights
from ffr_core.index.headers import count_headers, tombstone
from ffr_core.index.keys import dialogue_key
from ffr_core.index.milvus_connection import Connection
from ffr_core.index.milvus_rows import Row, dialogue_rows, header_from_row, header_row, row_bytes
from ffr_core.index.milvus_schema import HEADER_FIELDS, Layout, layout_for
from ffr_core.index.milvus_search import Search, View, read_fragments
from ffr_core.index.milvus_tenants import Tenants
from ffr_core.index.rows import (
    check_dialogue_id,
    check_item,
    check_not_deleted,
    check_query,
    searchable,
)
from ffr_core.types import (
    Candidate,
    Filters,
    Header,
    IndexedDialogue,
    IndexStats,
    StoredFragment,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LITE_FRAGMENTS = 100_000
"""Beyond this many fragments Lite is slow; a warning names the server."""
_log = logging.getLogger(__name__)


class MilvusIndex:
    """See `FragmentIndex`; searches may run in several threads."""

    def __init__(
        self,
        uri: str,
        *,
        dim: int,
        encoder_fingerprint: str,
        token: str | None = None,
        weights: FusionWeights | None = None,
        depth: int = 200,
        bm25_k1: float = 1.2,
        bm25_b: float = 0.75,
        timeout: float = 30.0,
        prefix: str = "ffrs",
        search_consistency: str = "Bounded",
        layout: Layout | None = None,
    ) -> None:
        """Connect; nothing is created before the first write.

        Args:
            uri: Path of a Lite file that ends in `.db`, or `http(s)://host:port`.
            dim: D.
            encoder_fingerprint: What the vectors are made with.
            token: `user:password` or API key of a server.
            weights: Weight of each channel.
            depth: Rows that each channel recalls.
            bm25_k1: BM25 saturation; taken over by collections when they are created.
            bm25_b: BM25 length normalization; as `bm25_k1`.
            timeout: Seconds that one call to Milvus may take.
            prefix: Start of the collection names.
            search_consistency: Level for searches on a server; all else is Strong.
            layout: Where rows are, if not as `uri` suggests.

        Raises:
            BusyError: The Lite file is open elsewhere.
            ConfigError: Lite cannot use the path, or the server is too old.
        """
        self._connection = Connection(uri, token, timeout)
        is_lite = self._connection.is_lite
        layout = layout or layout_for(is_lite, prefix)
        self._tenants = Tenants(self._connection, layout, dim, encoder_fingerprint, bm25_k1, bm25_b)
        self._dim = dim
        self._weights, self._depth = weights or FusionWeights(), depth
        self._consistency = "Strong" if is_lite else search_consistency
        self._may_warn = is_lite
        self._lock = threading.RLock()

    def upsert(self, tenant: str, item: IndexedDialogue, payload: str) -> None:
        """Add or replace one dialogue; what was there is found until all of the new is written.

        Raises:
            RecordError: The dialogue has a tombstone, or holds what no row can hold.
            FingerprintError: The tenant's rows come from another encoder.
        """
        self.upsert_many(tenant, [(item, payload)])

    def upsert_many(self, tenant: str, items: Sequence[tuple[IndexedDialogue, str]]) -> None:
        """Add or replace dialogues, each id once, together: many times quicker than one by one.

        Args:
            tenant: Owner.
            items: Dialogues with the names of their payloads.

        Raises:
            RecordError: As `upsert`, for the first such dialogue; nothing is written then.
            FingerprintError: As `upsert`.
        """
        if not items:
            return
        names = [item.dialogue.dialogue_id for item, _ in items]
        assert len(set(names)) == len(names), f"a dialogue id twice in one batch: {names}"
        for item, _ in items:
            check_item(item, self._dim)
        with self._lock:
            view = self._tenants.find_or_create(tenant)
            known = self.headers(tenant, names)
            for item, _ in items:
                old = known.get(item.dialogue.dialogue_id)
                check_not_deleted(item.dialogue, old is not None and old.deleted)
            present = self._rows_of(view, names)
            replaced, left_over = _split(tenant, known, present)
            if known:
                self._write_headers(view, tenant, [*map(_unfinished, known.values())])
            self._remove(left_over)
            new: dict[str, list[Row]] = {view.fragments: [], view.passages: []}
            headers: list[Header] = []
            for item, payload in items:
                revision = _next_revision(tenant, item, known, present)
                fragments, passages = dialogue_rows(tenant, item, revision)
                new[view.fragments] += fragments
                new[view.passages] += passages
                headers.append(_header_of(item, payload, revision, len(fragments), len(passages)))
            for collection, rows in new.items():
                self._connection.upsert(collection, rows, row_bytes(rows, self._dim))
            updated = [header for header in headers if header.dialogue_id in known]
            others = [header for header in headers if header.dialogue_id not in known]
            self._write_headers(view, tenant, [*map(_unfinished, updated), *others])
            if updated:
                self._remove(replaced)
                self._write_headers(view, tenant, updated)
            self._warn_when_large(view)

    def _write_headers(self, view: View, tenant: str, headers: Sequence[Header]) -> None:
        rows = [header_row(tenant, header) for header in headers]
        self._connection.upsert(view.headers, rows, 8192)

    def delete(self, tenant: str, dialogue_id: str) -> bool:
        """Remove the rows and leave a tombstone; False when there is nothing to remove.

        Also completes a removal that broke off, and removes the rows of a first write that did.
        """
        check_dialogue_id(dialogue_id)
        with self._lock:
            view = self._tenants.find(tenant)
            if view is None:
                return False
            old = self._header(view, dialogue_id)
            present = self._rows_of(view, [dialogue_id])
            if (old is None or old.deleted) and not any(present.values()):
                return False
            if old is None or not old.deleted:
                revision = old.revision + 1 if old else 1
                row = header_row(tenant, tombstone(dialogue_id, revision))
                self._connection.upsert(view.headers, [row], 8192)
            self._remove(present)
            return True

    def restore(self, tenant: str, dialogue_id: str) -> bool:
        """Drop a tombstone so that the dialogue may be indexed again; False when there is none."""
        with self._lock:
            view = self._tenants.find(tenant)
            old = self._header(view, dialogue_id) if view else None
            if view is None or old is None or not old.deleted:
                return False
            self._remove(self._rows_of(view, [dialogue_id]))
            self._connection.delete(view.headers, [dialogue_key(tenant, dialogue_id)])
            return True

    def bury(self, tenant: str, dialogue_id: str) -> None:
        """Leave a tombstone, also where there never was such a dialogue."""
        check_dialogue_id(dialogue_id)
        with self._lock:
            if not self.delete(tenant, dialogue_id):
                view = self._tenants.find_or_create(tenant)
                if self._header(view, dialogue_id) is None:
                    row = header_row(tenant, tombstone(dialogue_id, 1))
                    self._connection.upsert(view.headers, [row], 8192)

    def drop_tenant(self, tenant: str) -> None:
        """Remove everything about a tenant, tombstones too; the way to change the encoder."""
        with self._lock:
            self._tenants.drop(tenant)

    def headers(self, tenant: str, dialogue_ids: Iterable[str]) -> dict[str, Header]:
        """Headers of those dialogues that the index knows, tombstones too."""
        view = self._tenants.find(tenant)
        keys = {dialogue_key(tenant, name): name for name in dialogue_ids}
        if view is None or not keys:
            return {}
        rows = self._connection.get(view.headers, list(keys), HEADER_FIELDS, "Strong")
        return {keys[key]: header_from_row(row) for key, row in rows.items()}

    def scan_headers(self, tenant: str) -> Iterator[Header]:
        """All headers, tombstones too, ordered by dialogue_id."""
        view = self._tenants.find(tenant)
        if view is None:
            return
        rows = self._connection.scan(view.headers, both(view.scope, 'id < "meta:"'), HEADER_FIELDS)
        yield from sorted(map(header_from_row, rows), key=lambda header: header.dialogue_id)

    def fragments(self, tenant: str, dialogue_id: str) -> list[StoredFragment]:
        """The live fragments of a dialogue with their vectors, by fragment_id; none if unknown."""
        view = self._tenants.find(tenant)
        header = self._header(view, dialogue_id) if view else None
        if view is None or header is None or header.deleted:
            return []
        return read_fragments(view, dialogue_id, header.revision)

    def stats(self, tenant: str) -> IndexStats:
        """Counts of live rows, from the headers."""
        view = self._tenants.find(tenant)
        meta = self._tenants.meta(view) if view else None
        return count_headers(self.scan_headers(tenant), meta["fingerprint"] if meta else None)

    def search(
        self,
        tenant: str,
        query_vector_D: NDArray[np.float32],
        query_text: str,
        filters: Filters,
        num_candidates: int,
    ) -> list[Candidate]:
        """Best candidates first, one per fragment, with the evidence of their passages."""
        expression = milvus_expression(filters, tenant)
        check_query(query_vector_D, self._dim, num_candidates)
        view = self._tenants.find(tenant)
        if view is None or not self._tenants.fits(view) or not self._tenants.has_rows(view):
            return []
        return Search(
            view,
            query_vector_D,
            searchable(query_text),
            expression,
            self._weights.active(),
            max(self._depth, num_candidates),
            self._consistency,
        ).run(num_candidates)

    def close(self) -> None:
        """Release the file or connection. Twice is as good as once."""
        with self._lock:
            self._tenants.clear()
            self._connection.close()

    def _header(self, view: View, dialogue_id: str) -> Header | None:
        return self.headers(view.tenant, [dialogue_id]).get(dialogue_id)

    def _rows_of(self, view: View, dialogue_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Collection -> keys and revisions of all rows of dialogues, whoever left them."""
        keys = [dialogue_key(view.tenant, name) for name in dialogue_ids]
        expression = both(view.scope, f"dialogue_key in {quoted(keys)}")
        fields = ["revision", "dialogue_key"]
        return {
            collection: list(self._connection.scan(collection, expression, fields))
            for collection in (view.fragments, view.passages)
        }

    def _remove(self, rows: dict[str, list[Row]]) -> None:
        for collection, part in rows.items():
            self._connection.delete(collection, [row["id"] for row in part])

    def _warn_when_large(self, view: View) -> None:
        if self._may_warn and self._connection.count(view.fragments, view.scope) > LITE_FRAGMENTS:
            self._may_warn = False
            _log.warning(
                "Milvus Lite holds more than %d fragments and gets slow; set the index uri to a"
                " Milvus server (http://host:19530)",
                LITE_FRAGMENTS,
            )


def _unfinished(header: Header) -> Header:
    """Without the fingerprint, so that a write that breaks off is done again, whatever comes."""
    return replace(header, fingerprint="")


def _split(
    tenant: str, known: dict[str, Header], present: dict[str, list[Row]]
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """The rows that searches see, and those that broken writes left."""
    revisions = {dialogue_key(tenant, name): header.revision for name, header in known.items()}
    live: dict[str, list[Row]] = {collection: [] for collection in present}
    left_over: dict[str, list[Row]] = {collection: [] for collection in present}
    for collection, rows in present.items():
        for row in rows:
            is_live = revisions.get(row["dialogue_key"]) == row["revision"]
            (live if is_live else left_over)[collection].append(row)
    return live, left_over


def _next_revision(
    tenant: str,
    item: IndexedDialogue,
    known: dict[str, Header],
    present: dict[str, list[Row]],
) -> int:
    """One more than any revision seen, so that rows of a write that broke off never count."""
    name = item.dialogue.dialogue_id
    key = dialogue_key(tenant, name)
    revisions = [
        int(row["revision"])
        for rows in present.values()
        for row in rows
        if row["dialogue_key"] == key
    ]
    return 1 + max([known[name].revision if name in known else 0, *revisions])


def _header_of(
    item: IndexedDialogue, payload: str, revision: int, fragments: int, passages: int
) -> Header:
    return Header(
        dialogue_id=item.dialogue.dialogue_id,
        fingerprint=item.fingerprint,
        revision=revision,
        num_fragments=fragments,
        num_passages=passages,
        payload=payload,
    )
