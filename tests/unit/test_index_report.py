"""What the index job says of a run: skipped records, dead letters, the time that is left."""

from collections import Counter

import pytest

from ffr_core.operations.config import LogConfig
from jobs.index_corpus import IndexJobConfig, _report_folder
from jobs.index_report import _tell_progress, collect, describe, exceeds, seconds_left
from jobs.index_rows import dead, empty_row


@pytest.fixture
def summary_of(tmp_path):
    """The summary of a run over rows with these reasons; an empty one is an indexed dialogue."""

    def run(*reasons):
        rows = [empty_row("a.jsonl", i, 1) for i in range(len(reasons))]
        done = (
            dead(row, reason, "...") if reason else {**row, "status": "indexed"}
            for row, reason in zip(rows, reasons, strict=True)
        )
        return collect(done, [], tmp_path, 0.0, False, LogConfig())

    return run


def test_deleted_and_replaced_records_are_no_errors(summary_of, tmp_path):
    summary = summary_of("deleted", "deleted", "duplicate_id")
    assert (summary["skipped"], summary["dead_lettered"]) == ({"deleted": 2, "duplicate_id": 1}, {})
    assert not exceeds(summary, 0)
    assert "3 skipped, 0 left out" in describe(summary)
    assert "  skipped, deleted: 2" in describe(summary)
    assert (tmp_path / "dead_letter.jsonl").read_text().count("\n") == 3


def test_the_share_is_that_of_the_records_that_were_meant(summary_of):
    summary = summary_of("deleted", "deleted", "bad_json", "")
    assert summary["dead_lettered"] == {"bad_json": 1}
    assert exceeds(summary, 0.4)
    assert not exceeds(summary, 0.5)


def test_a_dry_run_reports_beside_the_real_one(tmp_path):
    config = IndexJobConfig(input=())
    own = IndexJobConfig(input=(), report=str(tmp_path / "r"))
    folders = [_report_folder(c, tmp_path, dry) for c in (config, own) for dry in (False, True)]
    assert [str(f.relative_to(tmp_path)) for f in folders] == [
        "runs/index",
        "runs/dry-run",
        "r",
        "r/dry-run",
    ]


def test_the_time_left_is_that_of_the_pace_after_the_first_row(capsys):
    assert seconds_left(0.0, 0.9, 0.0) is None
    assert seconds_left(0.25, 0.75, 10.0) == 30
    for share, left in ((0.1, None), (0.25, 29.5), (1.0, 0.0)):
        _tell_progress(LogConfig(), Counter(read=1), share, 10.0, left)
    out, err = capsys.readouterr()
    assert out == ""  # which is the result's alone
    first, second, last = err.splitlines()
    assert "ETA" not in first
    assert second.endswith("ETA 30 s")
    assert last.endswith("ETA 0 s")


def test_what_was_built_and_not_written_is_not_counted_as_written(tmp_path):
    built = {**empty_row("a.jsonl", 1, 1), "fragments": 2, "passages": 9, "turns": 8, "tokens": 50}
    rows = [{**built, "status": "indexed"}, dead(built, "duplicate_id", "a later record")]
    summary = collect(iter(rows), [], tmp_path, 0.0, False, LogConfig())
    assert [summary[name] for name in ("fragments", "passages", "turns")] == [2, 9, 8]
    assert summary["tokens"] == 100
