"""What only a Milvus Lite file can show: its lock, its limits, its windows."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from index_items import DIM, indexed, say, vector_of
from pymilvus.exceptions import MilvusException

from ffr_core.errors import BusyError, ConfigError, FfrError, RecordError
from ffr_core.index import milvus, milvus_connection
from ffr_core.index.lite import release_child, start_child
from ffr_core.index.milvus import MilvusIndex
from ffr_core.index.milvus_connection import check_server_version
from ffr_core.index.milvus_rows import dialogue_rows, row_bytes
from ffr_core.index.milvus_schema import PASSAGES, build_schema, layout_for
from ffr_core.types import Dialogue, Filters, Turn

HOLDER = """
import sys
from index_items import DIM, say
from ffr_core.index.milvus import MilvusIndex
index = MilvusIndex(sys.argv[1], dim=DIM, encoder_fingerprint="e")
for number in range(10_000):
    index.upsert("t", say(f"d{number}", "red bus", "hotel"), "p")
    print(number, flush=True)
"""


def open_lite(path):
    return MilvusIndex(str(path), dim=DIM, encoder_fingerprint="e")


def test_a_second_opener_gets_one_sentence_and_harms_nothing(tmp_path):
    first = open_lite(tmp_path / "i.db")
    first.upsert("t", say("d", "red bus"), "p")
    for _ in range(2):
        with pytest.raises(BusyError, match=r"i\.db is open in another process.*server"):
            open_lite(tmp_path / "i.db")
    assert first.stats("t").dialogues == 1
    first.close()
    first.close()
    second = open_lite(tmp_path / "i.db")
    assert second.search("t", vector_of("x"), "bus", Filters(), 5)[0].dialogue_id == "d"
    second.close()


def slow_child(folder, seconds):
    """The library's folder of binaries with a child that takes its time to listen."""
    from ffr_core.index.lite import _manager

    assert _manager()
    from milvus_lite.server import BIN_PATH

    for item in Path(BIN_PATH).iterdir():
        (folder / item.name).symlink_to(item)
    (folder / "milvus").unlink()
    (folder / "milvus").write_text(f'#!/bin/sh\nsleep {seconds}\nexec "{BIN_PATH}/milvus" "$@"\n')
    (folder / "milvus").chmod(0o755)
    return str(folder)


def test_a_child_that_starts_slowly_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("BIN_PATH", slow_child(tmp_path / "bin", 1.5))
    index = open_lite(tmp_path / "i.db")
    index.upsert("t", say("d", "red bus"), "p")
    assert index.stats("t").dialogues == 1
    index.close()


def test_a_child_that_never_listens_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("BIN_PATH", slow_child(tmp_path / "bin", 20))
    with pytest.raises(FfrError, match="does not listen after 1 s"):
        start_child(tmp_path / "i.db", timeout=1.0)
    release_child(tmp_path / "i.db")


def test_a_killed_owner_leaves_a_usable_file(tmp_path):
    path = tmp_path / "i.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    for _ in range(5):
        acknowledged = int(holder.stdout.readline())
    with pytest.raises(BusyError):
        open_lite(path)
    holder.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, holder.stdout.read().split())])
    holder.wait()
    index = open_lite(path)
    stats = index.stats("t")
    assert stats.dialogues in (acknowledged + 1, acknowledged + 2)
    assert stats.fragments == 2 * stats.dialogues
    index.close()


@pytest.mark.parametrize("name", ["index", "my index.db", "x" * 40 + ".db", "ü.db"])
def test_file_names_that_lite_cannot_use_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="36 characters"):
        open_lite(tmp_path / name)


def test_scans_are_exact_beyond_the_query_window(tmp_path):
    index = open_lite(tmp_path / "i.db")
    index.upsert("t", say("d", "red bus"), "p")
    connection, headers = index._connection, index._tenants.find("t").headers
    row = next(
        iter(
            connection.client.query(
                headers, filter='dialogue_id == "d"', limit=1, output_fields=["*"]
            )
        )
    )
    total = milvus_connection.MAX_WINDOW + 3_700
    copies = [dict(row) | {"id": f"{i:032x}", "dialogue_id": f"n{i}"} for i in range(total)]
    connection.upsert(headers, copies, 400)
    ids = [header.dialogue_id for header in index.scan_headers("t")]
    assert len(ids) == len(set(ids)) == total + 1
    assert ids == sorted(ids)
    assert index.stats("t").fragments == total + 1
    assert connection.count(headers, 'id < "meta:"') == total + 1
    index.close()


def test_vectors_of_a_long_dialogue_are_read_page_by_page(tmp_path, monkeypatch):
    index, client_rows = open_lite(tmp_path / "i.db"), []
    item = say("d", *[f"red bus {i}" for i in range(1_100)])
    index.upsert("t", item, "p")
    client = index._connection.client
    query = client.query

    def counted(collection, **options):
        rows = query(collection, **options)
        client_rows.append(len(rows) if "vector" in options["output_fields"] else 0)
        return rows

    monkeypatch.setattr(client, "query", counted)
    stored = index.fragments("t", "d")
    index.close()
    assert [part.fragment for part in stored] == [part.fragment for part in item.fragments]
    assert all(len(part.passages) == 1 for part in stored)
    assert sum(client_rows) == 2 * 1_100 and max(client_rows) <= 500


def test_a_large_lite_file_names_the_server_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(milvus, "LITE_FRAGMENTS", 2)
    index = open_lite(tmp_path / "i.db")
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "c"):
            index.upsert("t", say(name, "red bus", "hotel"), "p")
    index.close()
    assert [record.message for record in caplog.records if "Milvus server" in record.message] == [
        "Milvus Lite holds more than 2 fragments and gets slow; set the index uri to a Milvus"
        " server (http://host:19530)"
    ]


def test_nothing_is_found_where_no_row_ever_was(tmp_path):
    index = open_lite(tmp_path / "i.db")
    index.bury("buried", "d")
    index._connection.upsert = broken_after(1, index._connection.upsert)
    with pytest.raises(KeyboardInterrupt):
        index.upsert("broken", say("d", "red bus"), "p")
    del index._connection.upsert
    for _ in range(2):
        for tenant in ("buried", "broken"):
            assert index.search(tenant, vector_of("x"), "bus", Filters(), 5) == []
        index.close()
        index = open_lite(tmp_path / "i.db")
    index.upsert("buried", say("e", "red bus"), "p")
    assert len(index.search("buried", vector_of("x"), "bus", Filters(), 5)) == 1
    index.delete("buried", "e")
    assert index.search("buried", vector_of("x"), "bus", Filters(), 5) == []
    index.close()


def broken_after(calls, method):
    """The method, which is interrupted from the call after so many on."""
    left = iter(range(calls))

    def call(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return method(*args)

    return call


def test_passages_are_counted_until_there_are_some(tmp_path, monkeypatch):
    index = open_lite(tmp_path / "i.db")
    index.upsert("t", say("d", "red bus"), "p")
    for _ in range(2):
        assert index.search("t", vector_of("x"), "bus", Filters(), 5)
        monkeypatch.setattr(index._connection, "count", None)
    index.close()


def test_a_call_beyond_its_time_is_one_sentence(tmp_path):
    index = open_lite(tmp_path / "i.db")
    index.upsert("t", say("d", "red bus"), "p")
    index._connection.timeout = 0.0001
    message = r"gave no answer \(DEADLINE_EXCEEDED, limit 0\.0001 s\) while .*run the same command"
    with pytest.raises(BusyError, match=message):
        index.search("t", vector_of("x"), "bus", Filters(), 5)
    index._connection.timeout = 30.0
    assert index.search("t", vector_of("x"), "bus", Filters(), 5)
    index.close()


class RpcTrouble(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "token expired"


@pytest.mark.parametrize(
    ("trouble", "kind", "message"),
    [
        (RpcTrouble(grpc.StatusCode.UNAVAILABLE), BusyError, "UNAVAILABLE"),
        (MilvusException(grpc.StatusCode.UNAVAILABLE, "gone"), BusyError, "UNAVAILABLE"),
        (RpcTrouble(grpc.StatusCode.UNAUTHENTICATED), FfrError, "token expired; check"),
        (MilvusException(1, "full disk"), FfrError, "full disk; check"),
        (grpc.RpcError("odd"), FfrError, "odd; check"),
    ],
)
def test_errors_of_the_network_are_one_sentence(tmp_path, trouble, kind, message):
    index = open_lite(tmp_path / "i.db")

    def fail(*_, **__):
        raise trouble

    index._connection.client.has_collection = fail
    with pytest.raises(FfrError, match=message) as error:
        index.stats("t")
    assert type(error.value) is kind
    index.close()


@pytest.mark.parametrize("failures", [1, 4, 5])
def test_a_search_beside_a_write_is_repeated_when_lite_miscounts(tmp_path, monkeypatch, failures):
    index = open_lite(tmp_path / "i.db")
    index.upsert("t", say("d", "red bus"), "p")
    search, left = index._connection.client.search, iter(range(failures))

    def miscounting(*args, **options):
        if options["anns_field"] == "words" and next(left, None) is not None:
            raise MilvusException(2000, "Invalid sparse row: negative value: segcore error")
        return search(*args, **options)

    monkeypatch.setattr(index._connection.client, "search", miscounting)
    if failures < 5:
        assert index.search("t", vector_of("x"), "bus", Filters(), 5)
    else:
        with pytest.raises(FfrError, match="Invalid sparse row"):
            index.search("t", vector_of("x"), "bus", Filters(), 5)
    index.close()


def test_many_speakers_make_small_batches(tmp_path, monkeypatch):
    crowd = [f"{i:04d}" + "ü" * 100 for i in range(300)]
    turns = tuple(Turn(turn_id=i, speaker=name, text="hi") for i, name in enumerate(crowd))
    item = indexed(Dialogue(dialogue_id="d", turns=turns), [range(300)])
    _, passages = dialogue_rows("t", item, 1)
    assert row_bytes(passages, DIM) > 300 * 204
    index = open_lite(tmp_path / "i.db")
    monkeypatch.setattr(milvus_connection, "_BYTES_AT_ONCE", 2**20)
    upsert, sizes = index._connection.client.upsert, []

    def counted(collection, rows, **options):
        sizes.append(
            len(rows) * sum(len(name.encode()) for name in rows[0].get("participants", []))
        )
        return upsert(collection, rows, **options)

    monkeypatch.setattr(index._connection.client, "upsert", counted)
    index.upsert("t", item, "p")
    assert 2**17 < max(sizes) < 2**20
    ghost = Filters(participants=(crowd[299],))
    assert len(index.search("t", vector_of("x"), "hi", ghost, 5)[0].passages) == 300
    index.close()


def test_too_many_speakers_are_refused_with_their_number(tmp_path):
    turns = tuple(Turn(turn_id=i, speaker=f"P{i}", text="hi") for i in range(1025))
    index = open_lite(tmp_path / "i.db")
    with pytest.raises(
        RecordError, match="'d' has 1025 speakers, at most 1024 fit; split"
    ) as error:
        index.upsert("t", indexed(Dialogue(dialogue_id="d", turns=turns), [range(1025)]), "p")
    assert error.value.reason == "too_many_speakers"
    index.close()


@pytest.mark.parametrize("version", ["2.3.9", "v2.4.15", "2.4", "unknown"])
def test_old_servers_are_refused(version):
    with pytest.raises(ConfigError, match=r"2\.5\.0"):
        check_server_version(version)


@pytest.mark.parametrize("version", ["2.5.0", "v2.6.3", "3.0-rc1", "v2.5.10-dev"])
def test_servers_with_full_text_search_pass(version):
    check_server_version(version)


def test_the_server_layout_separates_tenants_by_partition_key():
    layout = layout_for(is_lite=False, prefix="p")
    schema, indexes = build_schema(PASSAGES, layout, 8, 1.2, 0.75)
    keys = [field.name for field in schema.fields if field.is_partition_key]
    assert keys == ["tenant"]
    assert len(indexes) == 3
    assert layout.collection("passages", "a") == layout.collection("passages", "b") == "p_passages"
    assert layout.scope("a") != layout.scope("b")
    assert '"' not in layout.scope('x" or tenant != "y').split('"')[1]
