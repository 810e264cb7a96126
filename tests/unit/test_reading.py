import gzip
import json
import os

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ResponseStreamingError
from botocore.response import StreamingBody
from moto.server import ThreadedMotoServer

from ffr_core.errors import FfrError, InputError, NotFoundError, RecordError
from jobs.index_rows import parse_record, rows_of
from jobs.index_stages import ReadStage
from jobs.reading import Source, list_sources, read_records


def source(path):
    return Source(uri=str(path), size=path.stat().st_size)


def test_lines_keep_their_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n  \n{"b": 2}\r\n\xff\xfe')
    found = list(read_records(source(path), 1000))
    assert [(r.position, r.raw) for r in found] == [
        (1, b'{"a": 1}'),
        (4, b'{"b": 2}'),
        (5, b"\xff\xfe"),
    ]
    assert sum(r.consumed for r in found) == path.stat().st_size


def test_a_line_over_the_limit_is_one_record_and_costs_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 5000 + b"\n{}\n")
    found = list(read_records(source(path), 100))
    assert [(r.position, len(r.raw), r.too_large) for r in found] == [(1, 101, True), (2, 2, False)]


def test_gzip_and_parquet_say_the_same(tmp_path):
    rows = [{"dialogue_id": str(i), "turns": [{"turn_id": 0, "text": "x"}]} for i in range(5)]
    zipped, table = tmp_path / "a.jsonl.gz", tmp_path / "a.parquet"
    with gzip.open(zipped, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), table)
    for path in (zipped, table):
        found = list(read_records(source(path), 1000))
        assert [json.loads(r.raw) for r in found] == rows
        assert [r.position for r in found] == [1, 2, 3, 4, 5]


def test_parquet_has_the_limit_of_lines_and_may_hold_turns_as_json(tmp_path):
    turns = [{"turn_id": 0, "text": "x"}]
    rows = [
        {"dialogue_id": "a", "turns": json.dumps(turns)},
        {"dialogue_id": "b", "turns": "x" * 500},
        {"dialogue_id": "c", "turns": "no json"},
    ]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    first, second, third = read_records(source(path), 100)
    assert json.loads(first.raw) == {"dialogue_id": "a", "turns": turns}
    assert (second.too_large, len(second.raw)) == (True, 101)
    assert json.loads(third.raw)["turns"] == "no json"


def test_a_damaged_gzip_file_is_a_dead_letter(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    data = gzip.compress(b"".join(b'{"a": %d}\n' % (i * i) for i in range(5_000)))
    path.write_bytes(data[:2_000] + bytes([data[2_000] ^ 255]) + data[2_001:])
    stage = ReadStage(max_bytes=1000, s3_endpoint=None)
    batches = list(stage({"uri": [str(path)], "size": [path.stat().st_size]}))
    rows = [row for batch in batches for row in rows_of(batch)]
    assert [row["reason"] for row in rows if row["status"]] == ["unreadable_file"]


def test_listing(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/x.jsonl", "a.parquet", "dead_letter.jsonl", "notes.txt"):
        (tmp_path / name).write_text("")
    found = [s.uri for s in list_sources((str(tmp_path), str(tmp_path / "b")))]
    assert found == [str(tmp_path / "a.parquet"), str(tmp_path / "b/x.jsonl")]
    with pytest.raises(NotFoundError, match="check the path"):
        list_sources((str(tmp_path / "none"),))
    with pytest.raises(InputError, match="not a corpus file"):
        list_sources((str(tmp_path / "notes.txt"),))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="ffrs import"):
        list_sources((str(tmp_path / "empty"),))


def test_a_row_of_parquet_that_cannot_be_said_in_json_costs_no_other(tmp_path):
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 1, 2, 3, 4, 5))
    titles = pa.StringArray.from_buffers(5, pa.py_buffer(offsets), pa.py_buffer(b"ab\xffde"))
    turns = ['[{"text": "\\ud800"}]', "[" * 100_000, "[]", "[" * 990 + "]" * 990, "[]"]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"title": titles, "turns": turns}), path)
    found = [record.raw for record in read_records(source(path), 1_000_000)]
    assert json.loads(found[0])["turns"] == [{"text": "?"}]
    assert json.loads(found[1])["turns"] == turns[1]
    with pytest.raises(RecordError, match="not UTF-8"):
        parse_record(found[2], "")
    assert [json.loads(raw)["title"] for raw in (found[3], found[4])] == ["d", "e"]


def test_what_arrow_cannot_read_is_a_dead_letter(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"dialogue_id": ["a"]}), path)

    def refuse(*_, **__):
        raise pa.ArrowNotImplementedError("nested data")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuse)
    (batch,) = ReadStage(max_bytes=1000, s3_endpoint=None)({"uri": [str(path)], "size": [1]})
    (row,) = rows_of(batch)
    assert (row["reason"], row["position"]) == ("unreadable_file", 1)


def test_a_file_uri_is_unquoted(tmp_path):
    folder = tmp_path / "my chats"
    folder.mkdir()
    (folder / "a%20b.jsonl").write_text("{}")
    for given in (folder.as_uri(), str(folder), (folder / "a%20b.jsonl").as_uri()):
        assert [s.uri for s in list_sources((given,))] == [str(folder / "a%20b.jsonl")]


@pytest.fixture(scope="module")
def bucket():
    """An S3 client with a bucket `corpus`, and its endpoint."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="corpus")
        yield client, endpoint
        server.stop()


def test_names_of_objects_may_hold_any_character(bucket, tmp_path):
    client, endpoint = bucket
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"dialogue_id": ["a", "b"]}), table)
    client.put_object(Bucket="corpus", Key="in #1/a?b%20c.jsonl", Body=b"{}\n[]\n")
    client.put_object(Bucket="corpus", Key="in #1/t.parquet", Body=table.read_bytes())
    lines, rows = list_sources(("s3://corpus/in #1/",), endpoint)
    assert [r.raw for r in read_records(lines, 100, endpoint)] == [b"{}", b"[]"]
    assert len(list(read_records(rows, 100, endpoint))) == 2


def test_the_name_of_an_object_means_no_other(bucket):
    client, endpoint = bucket
    for name in ("x/a.jsonl", "x/a.jsonl.gz", "x/a.jsonl-old/b.jsonl", "x-private/c.jsonl"):
        client.put_object(Bucket="corpus", Key=name, Body=b"")
    (found,) = list_sources(("s3://corpus/x/a.jsonl",), endpoint)
    assert found.uri == "s3://corpus/x/a.jsonl"
    for folder in ("s3://corpus/x", "s3://corpus/x/"):
        assert len(list_sources((folder,), endpoint)) == 3


def test_a_connection_that_breaks_goes_on_where_it_was(bucket, monkeypatch):
    client, endpoint = bucket
    body = b"".join(b'{"a": %d}\n' % i for i in range(300_000))
    client.put_object(Bucket="corpus", Key="a.jsonl", Body=body)
    read, calls = StreamingBody.read, []

    def breaking(stream, amt=None):
        calls.append(amt)
        if len(calls) % 3 == 2:
            raise ResponseStreamingError(error="closed by the server")
        return read(stream, amt)

    monkeypatch.setattr(StreamingBody, "read", breaking)
    (found,) = list_sources(("s3://corpus/a.jsonl",), endpoint)
    records = list(read_records(found, 100, endpoint))
    assert b"".join(r.raw + b"\n" for r in records) == body
    assert len(calls) > 3 and sum(r.consumed for r in records) == len(body)

    def broken(*_, **__):
        raise ResponseStreamingError(error="closed by the server")

    monkeypatch.setattr(StreamingBody, "read", broken)
    with pytest.raises(FfrError, match="closed by the server"):
        list(read_records(found, 100, endpoint))


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, caplog):
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text("{}")
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (found,) = list_sources((str(tmp_path),))
    assert found.uri == str(tmp_path / "open" / "a.jsonl")
    assert "closed is left out: Permission denied" in caplog.text
