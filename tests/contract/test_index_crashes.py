"""A write that breaks off anywhere is never half seen, and the same call repairs it."""

import itertools

import numpy as np
import pytest
from index_items import DIM, indexed, say, vector_of

from ffr_core.index import milvus_connection, milvus_rows
from ffr_core.index.fusion import FusionWeights
from ffr_core.index.milvus import MilvusIndex
from ffr_core.index.milvus_schema import FRAGMENTS, HEADERS, PASSAGES, Layout
from ffr_core.types import Filters

OLD = say("d", "red bus one", "red bus two", "red bus three", "red bus four")
SHORT = say("d", "blue bus one", "blue bus two")
LONG = say("d", *(f"green bus {i}" for i in range(6)))
REGROUPED = indexed(OLD.dialogue, [[0, 2], [1, 3]])
ITEMS = {"old": OLD, "short": SHORT, "long": LONG, "regrouped": REGROUPED}


class Crash(Exception):
    pass


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    layout = Layout(prefix="t", shared=True, partition_key=False, vector_index="FLAT")
    opened = MilvusIndex(
        str(tmp_path_factory.mktemp("crash") / "i.db"),
        dim=DIM,
        encoder_fingerprint="e",
        layout=layout,
        weights=FusionWeights(dense_fragment=1),
    )
    opened.upsert("first", OLD, "old")
    yield opened
    opened.close()


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(milvus_connection, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(milvus_connection, "_KEYS_AT_ONCE", 2)


class Breaking:
    """A client whose writes end after `steps` of them have been done."""

    def __init__(self, client, steps):
        self._client, self._left = client, steps

    def __getattr__(self, name):
        return getattr(self._client, name)

    def _write(self, method, *args, **kwargs):
        if self._left == 0:
            raise Crash
        self._left -= 1
        return method(*args, **kwargs)

    def upsert(self, *args, **kwargs):
        return self._write(self._client.upsert, *args, **kwargs)

    def delete(self, *args, **kwargs):
        return self._write(self._client.delete, *args, **kwargs)

    def drop_collection(self, *args, **kwargs):
        return self._write(self._client.drop_collection, *args, **kwargs)


def breaks_off(index, steps, action):
    """Run an action for so many writes; False when it needs no more."""
    connection = index._connection
    client = connection.client
    connection.client = Breaking(client, steps)
    try:
        action()
    except Crash:
        return True
    finally:
        connection.client = client
    return False


def rows(index, tenant):
    """All rows of a tenant with their kind, without the tenant's own keys and the revision."""
    view, result = index._tenants.find(tenant), []
    fields = ["turn_ids", "participants", "min_ms", "max_ms", "has_image", "text", "vector"]
    for kind, collection in (FRAGMENTS, view.fragments), (PASSAGES, view.passages):
        for row in view.connection.scan(collection, view.scope, fields):
            key = row.pop("id").split(":")[2:]
            result.append((kind, key, repr(sorted(row.items(), key=lambda x: x[0]))))
    return sorted(result)


def assert_no_mix(index, tenant):
    """Whatever is found belongs, with all its evidence, to the item that its payload names."""
    candidates = index.search(tenant, vector_of("Ana: red bus two"), "bus two", Filters(), 20)
    assert len({candidate.payload for candidate in candidates}) <= 1
    for candidate in candidates:
        part = ITEMS[candidate.payload].fragments[candidate.fragment.fragment_id]
        assert candidate.fragment == part.fragment
        vectors = {p.passage.turn_ids: p.vector_D for p in part.passages}
        for passage in candidate.passages:
            assert np.allclose(passage.vector_D, vectors[passage.turn_ids])
    return candidates


def assert_whole(index, tenant, live):
    """The index holds all fragments, with all passages, that the header counts."""
    stored = index.fragments(tenant, "d")
    assert len(stored) == (live.num_fragments if live else 0)
    assert sum(len(each.passages) for each in stored) == (live.num_passages if live else 0)


def put(index, tenant, name):
    index.upsert(tenant, ITEMS[name], name)


@pytest.mark.parametrize(
    ("before", "broken", "after"),
    [
        (None, "old", "old"),
        (None, "long", "short"),
        ("old", "short", "short"),
        ("old", "long", "long"),
        ("old", "regrouped", "regrouped"),
        ("old", "long", "short"),
        ("short", "long", "old"),
    ],
)
def test_upsert_breaks_off_anywhere(index, small_batches, before, broken, after):
    undisturbed = f"{before} {after}"
    put(index, undisturbed, after)
    for steps in itertools.count(1):
        tenant = f"{before} {broken} {after} {steps}"
        if before:
            put(index, tenant, before)
        did_break = breaks_off(index, steps, lambda tenant=tenant: put(index, tenant, broken))
        live = index.headers(tenant, ["d"]).get("d")
        assert live or not before
        expected = {live.payload} if live else set()
        assert {c.payload for c in assert_no_mix(index, tenant)} == expected
        assert_whole(index, tenant, live)
        if before and live.fingerprint:
            # Whoever compares fingerprints finds nothing to do, so nothing may be left over.
            put(index, f"{tenant} clean", live.payload)
            assert rows(index, tenant) == rows(index, f"{tenant} clean")
        put(index, tenant, after)
        assert rows(index, tenant) == rows(index, undisturbed)
        assert {c.payload for c in assert_no_mix(index, tenant)} == {after}
        assert index.stats(tenant).fragments == len(ITEMS[after].fragments)
        if not did_break:
            break
    assert steps > 4


def test_a_batch_breaks_off_anywhere(index, small_batches):
    others = [(say("e", "red bus e"), "e"), (say("f", "red bus f", "red bus g"), "f")]
    for steps in itertools.count(1):
        tenant = f"batch {steps}"
        put(index, tenant, "old")
        batch = [(LONG, "long"), *others]
        did_break = breaks_off(
            index, steps, lambda tenant=tenant, batch=batch: index.upsert_many(tenant, batch)
        )
        live = {h.dialogue_id: h for h in index.scan_headers(tenant)}
        found = index.search(tenant, vector_of("Ana: red bus e"), "bus", Filters(), 20)
        assert {(c.dialogue_id, c.payload) for c in found} <= {
            (name, header.payload) for name, header in live.items()
        }
        index.upsert_many(tenant, batch)
        assert index.stats(tenant).fragments == 6 + 1 + 2
        assert len(rows(index, tenant)) == 2 * (6 + 1 + 2)
        if not did_break:
            break
    assert steps > 4


def test_delete_breaks_off_anywhere(index, small_batches):
    for steps in itertools.count(1):
        tenant = f"delete {steps}"
        put(index, tenant, "old")
        did_break = breaks_off(index, steps, lambda tenant=tenant: index.delete(tenant, "d"))
        assert assert_no_mix(index, tenant) == []
        assert index.delete(tenant, "d") is did_break
        assert rows(index, tenant) == []
        assert index.headers(tenant, ["d"])["d"].deleted
        assert not index.delete(tenant, "d")
        if not did_break:
            break
    assert steps > 4


def test_restore_after_a_broken_delete_leaves_no_row(index, small_batches):
    put(index, "restore", "old")
    assert breaks_off(index, 1, lambda: index.delete("restore", "d"))
    assert rows(index, "restore") != []
    assert index.restore("restore", "d")
    assert rows(index, "restore") == []
    assert index.headers("restore", ["d"]) == {}


def test_rows_of_a_broken_first_write_can_be_deleted(index, small_batches):
    put(index, "first write", "short")
    index.drop_tenant("first write")
    assert breaks_off(index, 3, lambda: put(index, "first write", "old"))
    assert index.headers("first write", ["d"]) == {}
    assert index.delete("first write", "d")
    assert rows(index, "first write") == []
    assert index.headers("first write", ["d"])["d"].deleted


def test_a_repair_uses_a_revision_that_no_broken_row_has(index, small_batches):
    put(index, "revisions", "old")
    assert breaks_off(index, 2, lambda: put(index, "revisions", "long"))
    view = index._tenants.find("revisions")
    broken = {
        row["revision"] for row in view.connection.scan(view.fragments, view.scope, ["revision"])
    }
    put(index, "revisions", "short")
    assert index.headers("revisions", ["d"])["d"].revision > max(broken)


def test_left_overs_go_before_new_rows_come(index, small_batches):
    put(index, "left over", "old")
    assert breaks_off(index, 3, lambda: put(index, "left over", "long"))
    assert len(rows(index, "left over")) > 8
    assert breaks_off(index, 3, lambda: put(index, "left over", "long"))
    assert len(rows(index, "left over")) == 8
    assert {c.payload for c in assert_no_mix(index, "left over")} == {"old"}


@pytest.fixture(params=["shared", "own"])
def either(request, tmp_path):
    """An index in either layout: collections that tenants share, or collections of their own."""
    if request.param == "shared":
        yield request.getfixturevalue("index")
        return
    opened = MilvusIndex(str(tmp_path / "i.db"), dim=DIM, encoder_fingerprint="e")
    yield opened
    opened.close()


def test_drop_tenant_breaks_off_anywhere(either, small_batches):
    """What has a header is whole, so the index job writes the rest; a second drop ends it."""
    index = either
    batch = [(OLD, "old"), (say("e", "red bus e"), "e"), (say("f", "red bus f"), "f")]
    index.upsert_many("never dropped", batch)
    for steps in itertools.count(1):
        tenant = f"drop {steps}"
        for repair in (index.upsert_many, index.drop_tenant):
            index.upsert_many(tenant, batch)
            did_break = breaks_off(index, steps, lambda tenant=tenant: index.drop_tenant(tenant))
            left = {header.dialogue_id: header for header in index.scan_headers(tenant)}
            for name, header in left.items():
                stored = index.fragments(tenant, name)
                assert len(stored) == header.num_fragments
                assert sum(len(each.passages) for each in stored) == header.num_passages
            found = index.search(tenant, vector_of("Ana: red bus e"), "bus", Filters(), 20)
            assert {c.dialogue_id for c in found} == set(left)
            if repair == index.upsert_many:
                repair(tenant, [pair for pair in batch if pair[0].dialogue.dialogue_id not in left])
                assert rows(index, tenant) == rows(index, "never dropped")
            else:
                repair(tenant)
                assert_no_trace(index, tenant)
        if not did_break:
            break
    assert steps > 4


def assert_no_trace(index, tenant):
    layout, connection = index._tenants._layout, index._connection
    for kind in (HEADERS, FRAGMENTS, PASSAGES):
        collection = layout.collection(kind, tenant)
        if layout.shared:
            assert connection.count(collection, layout.scope(tenant)) == 0
        else:
            assert collection not in connection.names()


def test_a_first_write_deletes_nothing(index, monkeypatch):
    put(index, "no deletes", "old")
    monkeypatch.setattr(index._connection.client, "delete", None)
    index.upsert_many("no deletes", [(say("e", "red bus e"), "e"), (say("f", "bus f"), "f")])


def test_rows_of_older_versions_are_read_and_replaced(index, monkeypatch):
    monkeypatch.setattr(
        milvus_rows, "fragment_key", lambda dialogue, _, number: f"{dialogue}:{number}"
    )
    put(index, "older version", "old")
    monkeypatch.undo()
    assert len(assert_no_mix(index, "older version")) == 4
    assert len(index.fragments("older version", "d")) == 4
    two_kinds = 2
    assert breaks_off(index, two_kinds, lambda: put(index, "older version", "short"))
    assert {c.payload for c in assert_no_mix(index, "older version")} == {"old"}
    left_overs_new_rows_header = 2 + 2 + 1
    broken = breaks_off(
        index, left_overs_new_rows_header, lambda: put(index, "older version", "short")
    )
    assert broken and {c.payload for c in assert_no_mix(index, "older version")} == {"short"}
    put(index, "older version", "short")
    put(index, "new version", "short")
    assert rows(index, "older version") == rows(index, "new version")
    assert index.delete("older version", "d")
    assert rows(index, "older version") == []


class WritingMeanwhile:
    """A client that does something once, before the n-th read of the passages."""

    def __init__(self, client, passages, reads, action):
        self._client, self._passages, self._left, self._action = client, passages, reads, action

    def __getattr__(self, name):
        return getattr(self._client, name)

    def _read(self, method, collection, *args, **kwargs):
        if collection == self._passages:
            self._left -= 1
            if self._left == 0:
                self._action()
        return method(collection, *args, **kwargs)

    def search(self, *args, **kwargs):
        return self._read(self._client.search, *args, **kwargs)

    def query(self, *args, **kwargs):
        return self._read(self._client.query, *args, **kwargs)


@pytest.mark.parametrize("words_weigh", [0.5, 4.0])
@pytest.mark.parametrize("reads", [1, 2, 3, 4])
def test_a_write_during_a_search_shows_no_mix(index, reads, words_weigh, monkeypatch):
    tenant = f"meanwhile {reads} {words_weigh}"
    weights = FusionWeights(bm25_passage=words_weigh, bm25_fragment=words_weigh)
    monkeypatch.setattr(index, "_depth", 1)
    monkeypatch.setattr(index, "_weights", weights)
    put(index, tenant, "old")
    connection = index._connection
    client = connection.client

    def replace():
        connection.client = client
        put(index, tenant, "long")

    passages = index._tenants.find(tenant).passages
    connection.client = WritingMeanwhile(client, passages, reads, replace)
    query = vector_of("Ana: red bus two")
    try:
        found = index.search(tenant, query, "four", Filters(), 1)
    finally:
        connection.client = client
    assert index.headers(tenant, ["d"])["d"].payload == "long"
    assert {candidate.payload for candidate in found} in ({"old"}, {"long"})
    assert all(candidate.passages for candidate in found)
    for candidate in found:
        part = ITEMS[candidate.payload].fragments[candidate.fragment.fragment_id]
        vectors = [passage.vector_D for passage in part.passages]
        for passage in candidate.passages:
            assert any(np.allclose(passage.vector_D, vector_D) for vector_D in vectors)
        score = candidate.channels["dense_passage"]
        assert np.isnan(score) or score == pytest.approx(max(query @ v for v in vectors), abs=1e-5)
