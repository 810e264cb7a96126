"""What every benchmark shares: the envelope of its results, percentiles, a stopwatch.

A benchmark is a module of this package with two functions: `add_arguments(parser)` adds its
options, `run(**options)` measures and returns a dict for JSON.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.checkout import commit


def envelope(benchmark: str, arguments: Sequence[str], results: dict[str, Any]) -> dict[str, Any]:
    """`{benchmark, command, commit, machine, results}`, enough to run the same thing again."""
    return {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", "jobs.bench", *arguments]),
        "commit": commit(),
        "machine": machine(),
        "results": results,
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write results; the folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, system and Python, as far as they can be found."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": _memory_gib(),
        "gpu": _gpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _gpu_name() -> str | None:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def latency_ms(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Run each call once, one after the other; p50 and p95 in milliseconds."""
    import numpy as np

    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50": round(float(p50) * 1e3, 3), "p95": round(float(p95) * 1e3, 3)}


def say(text: str) -> None:
    """Progress, on the standard error."""
    print(text, file=sys.stderr, flush=True)
