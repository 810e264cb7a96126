"""Each tenant's collections: found, created, loaded, checked against the encoder, dropped."""

from __future__ import annotations

import threading

from ffr_core.errors import FingerprintError, InputError
from ffr_core.index.milvus_connection import Connection
from ffr_core.index.milvus_rows import Row, meta_key, meta_row
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS, PASSAGES, Layout, build_schema
from ffr_core.index.milvus_search import View


class Tenants:
    """Views of tenants, opened when first asked for."""

    def __init__(
        self,
        connection: Connection,
        layout: Layout,
        dim: int,
        encoder_fingerprint: str,
        k1: float,
        b: float,
    ) -> None:
        """Keep what collections are made from.

        Args:
            connection: To Lite or a server.
            layout: Where rows are.
            dim: D.
            encoder_fingerprint: What the vectors are made with.
            k1: BM25 saturation of new collections.
            b: BM25 length normalization of new collections.
        """
        self._connection, self._layout = connection, layout
        self._dim, self._fingerprint = dim, encoder_fingerprint
        self._k1, self._b = k1, b
        self._views: dict[str, View] = {}
        self._checked: set[str] = set()
        self._filled: set[str] = set()
        self._lock = threading.RLock()

    def find(self, tenant: str) -> View | None:
        """The tenant's collections; None when nothing was ever written."""
        if not tenant:
            raise InputError("the tenant has no name; every call to an index needs one")
        if tenant in self._views:
            return self._views[tenant]
        headers = self._layout.collection(HEADERS, tenant)
        return self._open(tenant) if self._connection.has(headers) else None

    def find_or_create(self, tenant: str) -> View:
        """The tenant's collections, ready for our encoder's vectors.

        Raises:
            FingerprintError: The tenant's rows come from another encoder.
        """
        view = self.find(tenant) or self._open(tenant)
        with self._lock:
            if not self.fits(view):
                if self._dim_of(view) != self._dim:
                    for collection in (view.passages, view.fragments):
                        self._connection.drop(collection)
                    self._filled.discard(tenant)
                    self._ensure(view)
                row = meta_row(tenant, self._fingerprint, self._dim)
                self._connection.upsert(view.headers, [row], 4096)
                self._checked.add(tenant)
        return view

    def fits(self, view: View) -> bool:
        """Compare the tenant's encoder with ours; False when it has no rows of any encoder.

        Raises:
            FingerprintError: The tenant's rows come from another encoder.
        """
        if view.tenant in self._checked:
            return True
        meta, dim = self.meta(view), self._dim_of(view)
        if meta and meta["fingerprint"] == self._fingerprint and dim == self._dim:
            self._checked.add(view.tenant)
            return True
        rows = sum(
            self._connection.count(collection, view.scope)
            for collection in (view.fragments, view.passages)
        )
        if rows or (self._layout.shared and dim != self._dim):
            found = repr(meta["fingerprint"]) if meta else "another encoder"
            raise FingerprintError(
                f"this index was built with {found} ({dim} dimensions), but the profile uses"
                f" {self._fingerprint!r} ({self._dim}); use the profile that built it, or drop the"
                " tenant and index again"
            )
        return False

    def has_rows(self, view: View) -> bool:
        """Whether there are passages to search; once there were, nothing is asked again.

        Lite fails when it looks for words in a collection that never held a row.
        """
        if view.tenant not in self._filled and self._connection.count(view.passages, view.scope):
            self._filled.add(view.tenant)
        return view.tenant in self._filled

    def meta(self, view: View) -> Row | None:
        """The row that names the tenant's encoder."""
        key = meta_key(view.tenant)
        return self._connection.get(view.headers, [key], ["fingerprint"], "Strong").get(key)

    def drop(self, tenant: str) -> None:
        """Remove all rows of a tenant, and its collections where they are its own.

        The headers of dialogues go first: a drop that breaks off leaves no dialogue that counts as
        stored and has lost rows. The row about the encoder goes last, so that calling again removes
        what is left, and no other encoder writes beside it.
        """
        with self._lock:
            view = self.find(tenant)
            if view is None:
                return
            self._views.pop(tenant)
            self._checked.discard(tenant)
            self._filled.discard(tenant)
            self._delete_rows(view, view.headers, kept=meta_key(tenant))
            for collection in (view.passages, view.fragments, view.headers):
                if self._layout.shared:
                    self._delete_rows(view, collection)
                else:
                    self._connection.drop(collection)

    def _delete_rows(self, view: View, collection: str, kept: str = "") -> None:
        keys = [row["id"] for row in self._connection.scan(collection, view.scope, [])]
        self._connection.delete(collection, [key for key in keys if key != kept])

    def clear(self) -> None:
        """Forget all views."""
        self._views.clear()
        self._checked.clear()
        self._filled.clear()

    def _open(self, tenant: str) -> View:
        with self._lock:
            if tenant not in self._views:
                view = View(
                    connection=self._connection,
                    tenant=tenant,
                    headers=self._layout.collection(HEADERS, tenant),
                    fragments=self._layout.collection(FRAGMENTS, tenant),
                    passages=self._layout.collection(PASSAGES, tenant),
                    scope=self._layout.scope(tenant),
                )
                self._ensure(view)
                self._views[tenant] = view
            return self._views[tenant]

    def _ensure(self, view: View) -> None:
        """Create and load; the headers last, since they say that a tenant exists."""
        for kind, collection in (
            (PASSAGES, view.passages),
            (FRAGMENTS, view.fragments),
            (HEADERS, view.headers),
        ):
            parts = build_schema(kind, self._layout, self._dim, self._k1, self._b)
            self._connection.ensure(collection, *parts)

    def _dim_of(self, view: View) -> int:
        return self._connection.vector_dim(view.fragments, "vector")
