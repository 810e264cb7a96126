"""What the commands of `ffrs` share, and what they refuse before they do anything."""

import errno
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ffr_core.parts import open_system
from ffr_core.types import Dialogue, Turn
from jobs.cli import app
from jobs.cli_common import check_writable, clear_errors, file_sentence, read_home, read_time

runner = CliRunner()


@pytest.fixture
def in_tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2022-01-01", datetime(2021, 12, 31, 15, tzinfo=UTC)),
        ("2022-01-01T00:00", datetime(2021, 12, 31, 15, tzinfo=UTC)),
        ("2022-01-01 00:00:30", datetime(2021, 12, 31, 15, 0, 30, tzinfo=UTC)),
        ("2022-01-01T00:00Z", datetime(2022, 1, 1, tzinfo=UTC)),
        ("2022-01-01 00:00+01:00", datetime(2021, 12, 31, 23, tzinfo=UTC)),
    ],
)
def test_a_time_is_local_unless_it_names_an_offset(in_tokyo, text, expected):
    assert read_time(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2022-01-01+01:00", "2022-13-01", "0001-01-01"])
def test_other_times_are_refused(in_tokyo, text):
    with pytest.raises(typer.BadParameter, match=r"is no time; write 2025-03-02"):
        read_time(text)


def test_an_empty_home_is_none():
    assert read_home("") is None
    assert read_home(".") == Path(".")


@pytest.mark.parametrize(
    "command",
    [["search", "hello"], ["stats"], ["delete", "a"], ["backup", "--to", "copy"], ["expire"]],
)
@pytest.mark.parametrize("home", ["new", ""])
def test_what_only_reads_creates_no_index(tmp_path, monkeypatch, command, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("FFRS_HOME", home)
    done = runner.invoke(app, command)
    folder = tmp_path / home if home else tmp_path / "user" / ".ffrs"
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: there is no index in {folder}; run `ffrs index PATH --home {folder}` or correct"
        " --home\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_search_bears_that_its_dialogues_are_deleted_meanwhile(tmp_path, monkeypatch, caplog):
    profile = tmp_path / "p.toml"
    profile.write_text('[encoder]\nkind = "hashing"\n[index]\nkind = "exact"\n')
    system = open_system(str(profile), tmp_path)
    for name in ("early", "late"):
        turn = Turn(turn_id=0, speaker="Ana", text="the lamp is green")
        system.add(Dialogue(dialogue_id=name, turns=(turn,)))
    recall, localize = system.index.search, system.localizer.localize

    def recalled(*arguments):
        found = recall(*arguments)
        system.payloads.delete("default", "early")
        return found

    def localized(*arguments):
        system.payloads.delete("default", "late")
        return localize(*arguments)

    monkeypatch.setattr(system.index, "search", recalled)
    monkeypatch.setattr(system.localizer, "localize", localized)
    monkeypatch.setattr("jobs.cli.open_existing", lambda *_: system)
    done = runner.invoke(app, ["search", "green lamp", "--json"])
    assert done.exit_code == 0, done.stderr
    assert [answer["dialogue_id"] for answer in json.loads(done.stdout)] == ["late"]
    assert "1 of 2 candidates are left out" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["stats", "--home", "FILE"], "the data folder FILE is a file; give --home a folder"),
        (["synth", "--dialogues", "1", "--out", "FILE"], "FILE cannot be a folder (File exists)"),
        (
            ["eval", "--data", "none.jsonl", "--json", "FILE/x.json"],
            "FILE cannot be a folder (File exists)",
        ),
        (["eval", "--data", "none.jsonl", "--json", "."], ". cannot be used (Is a directory)"),
        (["judge", "/nope"], "there is no folder /nope; "),
    ],
)
def test_a_wrong_path_is_one_sentence(tmp_path, command, message):
    file = tmp_path / "file"
    file.touch()
    done = runner.invoke(app, [part.replace("FILE", str(file)) for part in command])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: " + message.replace("FILE", str(file)))
    assert done.stderr.count("\n") == 1
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    "command", [["eval", "--data", "x", "--max-queries"], ["judge", "--limit"]]
)
@pytest.mark.parametrize("number", ["0", "-3"])
def test_a_number_of_queries_is_at_least_one(command, number):
    done = runner.invoke(app, [*command, number])
    assert done.exit_code == 2
    assert "greater than or equal to" in done.stderr


def test_errors_of_files_are_a_sentence_and_others_are_not():
    def fail(error):
        raise error

    with pytest.raises(typer.Exit) as caught:
        clear_errors(fail)(PermissionError(errno.EACCES, "Permission denied", "/x/y"))
    assert caught.value.exit_code == 2
    for error in (ZeroDivisionError(), BrokenPipeError(errno.EPIPE, "Broken pipe")):
        with pytest.raises(type(error)):
            clear_errors(fail)(error)


def test_the_sentence_names_path_reason_and_next_step():
    denied = PermissionError(errno.EACCES, "Permission denied", "/x/y")
    assert file_sentence(denied) == (
        "/x/y cannot be used (Permission denied); check the path and its permissions"
    )
    assert file_sentence(OSError("no route to host")) == "no route to host"


def test_a_file_that_can_be_written_is_left_as_it_was(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("{}")
    check_writable(old)
    check_writable(tmp_path / "a" / "new.json")
    assert old.read_text() == "{}"
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize(("options", "warned"), [([], True), (["--timezone", "UTC"], False)])
def test_an_import_says_which_zone_it_took_and_what_comes_next(tmp_path, options, warned):
    export = tmp_path / "WhatsApp Chat with Bo.txt"
    export.write_text("31/12/21, 10:00 - Bo: hi\n")
    out = tmp_path / "my chats"
    done = runner.invoke(app, ["import", "whatsapp", str(export), "--out", str(out), *options])
    assert (done.exit_code, done.stderr) == (0, "")
    assert ("as those of UTC" in done.stdout) is warned
    assert done.stdout.endswith(f"written to {out}; `ffrs index '{out}'` makes it searchable\n")
