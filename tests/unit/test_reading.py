import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffr_core.errors import InputError, NotFoundError
from jobs.index_rows import rows_of
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
