"""The index job over two Ray nodes, one of which goes away in the middle."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from index_place import Place, assert_same, start, wait_for_payloads


@pytest.fixture
def nodes():
    """(address, environment, kill) of a cluster with two nodes of three CPUs."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="ffrs-n-", ignore_cleanup_errors=True) as folder:
        holder = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), folder, "2", "3"],
            env={**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

        def answer():
            for line in holder.stdout:
                if line.startswith("{"):
                    return json.loads(line)
            raise AssertionError("the nodes did not start")

        def kill(number):
            holder.stdin.write(f"kill {number}\n")
            holder.stdin.flush()
            assert "killed" in answer()

        try:
            yield answer()["address"], token, kill
        finally:
            holder.stdin.close()
            try:
                holder.wait(60)
            finally:
                holder.kill()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_node_that_goes_away_loses_and_doubles_nothing(tmp_path, calm, nodes):
    address, token, kill = nodes
    place = Place(tmp_path)
    place.corpus = calm[0].corpus
    build = "min_workers = 2\nmax_workers = 2\nbatch = 4\ncpus = 2\n"
    process = start(place, address, build, **token)
    wait_for_payloads(place, 10, process)
    assert process.poll() is None, "the job ended before a node could be killed"
    kill(0)
    assert process.wait(300) == 0, (place.home.parent / "job.log").read_text()
    summary = json.loads((place.home / "runs" / "index" / "summary.json").read_text())
    assert summary["indexed"] + summary["updated"] + summary["unchanged"] == 96
    assert_same(place.rows(), calm[1])
