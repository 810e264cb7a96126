"""Light modules load nothing heavy, so that help and configuration answer at once."""

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "ray", "vllm", "pymilvus", "transformers", "scipy", "boto3", "PIL", "jieba")


@pytest.mark.parametrize(
    "module",
    [
        "ffr_core.types",
        "ffr_core.config",
        "ffr_core.profile",
        "ffr_core.protocols",
        "ffr_core.records",
        "ffr_core.markup",
        "jobs.cli",
    ],
)
def test_module_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_answers_within_a_second():
    command = [sys.executable, "-m", "jobs.cli", "--help"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1
