"""An engine's processes end when their owner was killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

WORKER = (
    "import time; from ffr_core.engine.vllm_owner import watch; "
    "watch(0.1); print('ready', flush=True); time.sleep(60)"
)
OWNER = """
import subprocess, sys, time
from ffr_core.engine.vllm_owner import claim
claim()
child = subprocess.Popen([sys.executable, "-c", {engine!r}], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
time.sleep(60)
"""
ENGINE = f"""
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", {WORKER!r}], stdout=subprocess.PIPE, text=True)
worker.stdout.readline()
print(worker.pid, flush=True)
time.sleep(60)
"""


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("nested", [False, True], ids=["model in the engine", "model in a worker"])
def test_what_an_owner_started_ends_when_it_is_killed(nested):
    engine = ENGINE if nested else WORKER
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(engine=engine)], stdout=subprocess.PIPE, text=True
    )
    started = [int(word) for word in owner.stdout.readline().split() if word.isdigit()]
    try:
        assert len(started) == 1 + nested
        time.sleep(0.5)
        assert not any(map(gone, started))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        end = time.monotonic() + 20
        while not all(map(gone, started)) and time.monotonic() < end:
            time.sleep(0.1)
        assert all(map(gone, started))
    finally:
        owner.kill()
        for pid in started:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
