"""The `ffrs` command on a home that another process holds."""

import subprocess
import sys

import pytest

from ffr_core.parts import open_system
from ffr_core.types import Dialogue, Turn

PROFILE = '[encoder]\nkind = "hashing"\n[index]\nkind = "milvus"\nuri = "{home}/i.db"\n'


@pytest.fixture
def held(tmp_path):
    """Profile and home of an index that this process has open."""
    profile = tmp_path / "p.toml"
    profile.write_text(PROFILE)
    turn = Turn(turn_id=0, speaker="Ana", text="the lamp is green")
    with open_system(str(profile), tmp_path / "home") as system:
        system.add(Dialogue(dialogue_id="lamp", turns=(turn,)))
        yield ["--profile", str(profile), "--home", str(tmp_path / "home")]
        assert list(system.dialogue_ids()) == ["lamp"]


@pytest.mark.parametrize("command", [["search", "green lamp"], ["delete", "lamp"], ["stats"]])
def test_an_index_that_another_process_holds_is_one_sentence(held, command):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *command, *held],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the index file ")
    assert "i.db is open in another process" in done.stderr
    assert "end that one" in done.stderr
