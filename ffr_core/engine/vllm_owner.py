"""Ends an engine whose owner is gone.

vLLM's processes outlive the process that started them when that one is killed: they wait on, keep
the GPU's memory and burn a third of a CPU. The owner leaves its process id in the environment; the
process of the model, the only place where our code runs there, looks whether it still lives.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

OWNER = "FFRS_ENGINE_OWNER"
"""Environment variable with the process id of an engine's owner."""


def claim() -> None:
    """Engines that start from now on belong to this process."""
    os.environ[OWNER] = str(os.getpid())


def watch(period: float = 2.0) -> None:
    """In a process of an engine: end it, and the process above it, when the owner is gone."""
    import psutil

    owner = int(os.environ.get(OWNER, "0"))
    if owner in (0, os.getpid()):
        return
    # Process objects, since a number may belong to another process by the time it is used.
    pids = [os.getpid()] if os.getppid() == owner else [os.getppid(), os.getpid()]
    arguments = (psutil.Process(owner), [psutil.Process(pid) for pid in pids], period)
    threading.Thread(target=_end_after, args=arguments, daemon=True, name="engine-owner").start()


def _end_after(owner: Any, engine: list[Any], period: float) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):  # gone between the two questions
        while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(period)
    for process in engine:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
