"""What processes cost while a job runs: CPU time by part, memory of driver and object store."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


class Watch:
    """CPU time of this process and of all below it, and memory, while rows come out."""

    def __init__(
        self,
        process: Any,
        rows: Counter[str] | None = None,
        period: float = 2.0,
        part_of: Callable[[Any], str] | None = None,
    ) -> None:
        """Begin.

        Args:
            process: The driver.
            rows: Finished ones, counted by the caller.
            period: Seconds between two looks.
            part_of: Names the part that a process below the driver belongs to.
        """
        self._process, self._period = process, period
        self._rows = Counter() if rows is None else rows
        self._part_of = part_of or broad_part
        self._stop = threading.Event()
        self._seen: dict[int, tuple[str, float]] = {}
        self._before = self._cpu()
        self._started = time.time()
        self.samples: list[tuple[int, dict[str, float]]] = []
        """Rows that were finished, and CPU seconds by part until then."""
        self.driver_mib: list[float] = []
        self.store_mib: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """End; seconds of CPU by part, in all and a row of the steady time, and the samples."""
        self._look()
        self._stop.set()
        self._thread.join()
        return {
            "seconds": time.time() - self._started,
            "cpu": self.samples[-1][1],
            "steady": slope(self.samples),
            "processes": Counter(part for part, _ in self._seen.values()),
            "driver_mib": self.driver_mib,
            "store_mib": self.store_mib,
        }

    def _sample(self) -> None:
        import ray
        from ray._private.internal_api import node_stats

        node = ray.nodes()[0]
        while not self._stop.wait(self._period):
            self._look()
            self.driver_mib.append(self._process.memory_info().rss / 2**20)
            stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
            self.store_mib.append(stats.store_stats.object_store_bytes_used / 2**20)

    def _look(self) -> None:
        now = self._cpu()
        used = {part: now[part] - self._before.get(part, 0.0) for part in now}
        self.samples.append((self._rows.total(), used))

    def _cpu(self) -> dict[str, float]:
        """CPU seconds by part; processes that ended count as last seen."""
        import psutil

        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                part = "driver" if process == self._process else self._part_of(process)
            except psutil.Error:
                continue
            self._seen[process.pid] = (part, times.user + times.system)
        used: Counter[str] = Counter()
        for part, seconds in self._seen.values():
            used[part] += seconds
        return dict(used)


def slope(samples: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Seconds a row by part, between a fifth and nine tenths of the rows: no start, no end."""
    total = samples[-1][0]
    middle = [sample for sample in samples if 0.2 * total <= sample[0] <= 0.9 * total]
    if len(middle) < 2 or middle[0][0] == middle[-1][0]:
        return {}
    (low, before), (high, after) = middle[0], middle[-1]
    return {part: (after[part] - before.get(part, 0.0)) / (high - low) for part in after}


def broad_part(process: Any) -> str:
    """All workers together, and the parts of Ray."""
    name = process.name()
    if name.startswith("ray::"):
        return "workers"
    return {"raylet": "raylet", "gcs_server": "gcs"}.get(name, "other Ray processes")


def worker_part(process: Any) -> str:
    """Each kind of worker by itself: an actor class, a stage, an engine of vLLM."""
    title = " ".join(process.cmdline()) or process.name()
    if "VLLM::" in title:
        return "vLLM engine"
    stage = re.search(r"MapBatches\((\w+)\)", title)
    actor = re.match(r"ray::(\w+)", title)
    found = stage or actor
    return found.group(1) if found else "Ray itself"
