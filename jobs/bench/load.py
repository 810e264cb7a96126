"""The service under load while its localizer processes are killed.

Clients of two tenants search all the time. Whenever both localizer processes have been ready for a
while, one is killed with SIGKILL. Counted are failed requests, dialogues of the wrong tenant,
partial answers, candidates that were tried again; memory is that of all processes together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ffr_core.profile import load_profile, remember_root
from ffr_core.records import read_jsonl, record_from_dialogue
from ffr_core.types import Dialogue
from jobs.bench.common import say

TENANTS = ("acme", "birch")
POLL = 1.0
"""Seconds between two looks at the localizer processes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Length and size."""
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kill-after", type=float, default=30.0, help="seconds all were ready")
    parser.add_argument("--dialogues", type=int, default=30, help="of each tenant")
    parser.add_argument("--seed", type=int, default=0)


def run(profile: str, dialogues: int, replicas: int, **options: Any) -> dict[str, Any]:
    """Start a service, load it, kill parts of it, count."""
    from serve.app import running
    from serve.runtime import free_port, ray_session

    with tempfile.TemporaryDirectory(prefix="ffrs-load-") as name:
        home = Path(name)
        corpora = {tenant: corpus(home / tenant, tenant, dialogues) for tenant in TENANTS}
        remember_root(home, str(home))
        loaded = load_profile(profile, home)
        numbers = loaded.serve.model_copy(
            update={
                "localizer_min": replicas,
                "localizer_max": replicas,
                "metrics_port": free_port(),
            }
        )
        loaded = loaded.model_copy(update={"serve": numbers})
        keys = write_keys(home)
        with (
            ray_session(num_cpus=4),
            running(loaded, "127.0.0.1", free_port(), home / "keys.toml") as url,
        ):
            load = Load(
                url=url,
                keys=keys,
                corpora=corpora,
                metrics=f"http://{numbers.metrics_host}:{numbers.metrics_port}/metrics",
            )
            return asyncio.run(load.run(replicas=replicas, **options))


@dataclass(slots=True, kw_only=True)
class Load:
    """One run."""

    url: str
    keys: dict[str, str]
    corpora: dict[str, list[Dialogue]]
    metrics: str
    outcomes: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """Of each search that was answered."""
    states: dict[int, dict[str, int]] = field(default_factory=dict)
    """Process id -> tokens of its engine when last seen."""
    kills: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    """Of all processes together, whenever all localizer processes were ready."""

    async def run(
        self, seconds: float, clients: int, replicas: int, kill_after: float, seed: int
    ) -> dict[str, Any]:
        """Add the dialogues, load the service for some time, sum up."""
        async with httpx.AsyncClient(base_url=self.url, timeout=120) as http:
            await self._ready(http)
            started = time.monotonic()
            for tenant, dialogues in self.corpora.items():
                for dialogue in dialogues:
                    record = record_from_dialogue(replace(dialogue, fragments=None, queries=None))
                    answer = await http.post(
                        "/v1/dialogues", json=record, headers=self._who(tenant)
                    )
                    answer.raise_for_status()
            adding = time.monotonic() - started
            say(f"added in {adding:.0f} s; loading for {seconds:.0f} s")
            before = await asyncio.to_thread(self._tokens)
            end = time.monotonic() + seconds
            tasks = [self._client(http, n, seed, end) for n in range(clients)]
            await asyncio.gather(*tasks, self._killer(replicas, kill_after, seed, end))
            candidates = await self._candidates(http)
            used = await asyncio.to_thread(self._tokens)
        used.subtract(before)
        return self._summary(seconds, used, candidates, adding)

    async def _ready(self, http: httpx.AsyncClient) -> None:
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)

    def _who(self, tenant: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[tenant]}"}

    async def _client(self, http: httpx.AsyncClient, number: int, seed: int, end: float) -> None:
        rng = random.Random(f"{seed}-{number}")
        while time.monotonic() < end:
            tenant = rng.choice(TENANTS)
            dialogue = rng.choice(self.corpora[tenant])
            query = rng.choice(dialogue.queries or ()).query
            started = time.perf_counter()
            try:
                answer = await http.post(
                    "/v1/search", json={"query": query}, headers=self._who(tenant)
                )
            except httpx.HTTPError as error:
                self.outcomes[f"failed: {type(error).__name__}"] += 1
                continue
            if answer.status_code != 200:
                self.outcomes[f"failed: status {answer.status_code}"] += 1
                continue
            self.milliseconds.append((time.perf_counter() - started) * 1000)
            self.outcomes["answered"] += 1
            found = answer.json()
            self.outcomes["partial"] += found["partial"]
            names = {d.dialogue_id for d in self.corpora[tenant]}
            self.outcomes["wrong_tenant"] += any(
                d["dialogue_id"] not in names for d in found["dialogues"]
            )

    async def _killer(self, replicas: int, kill_after: float, seed: int, end: float) -> None:
        rng = random.Random(seed)
        ready_since: float | None = None
        while time.monotonic() < end:
            await asyncio.sleep(POLL)
            memory = await asyncio.to_thread(self._look)
            alive = [pid for pid in self.states if _alive(pid)]
            now = time.monotonic()
            if len(alive) < replicas:
                ready_since = None
                continue
            self.memory_mib.append(memory)
            ready_since = ready_since or now
            if now - ready_since >= kill_after and end - now > kill_after:
                victim = rng.choice(alive)
                os.kill(victim, signal.SIGKILL)
                self.kills.append(now)
                ready_since = None
                say(f"killed {victim}, {end - now:.0f} s left")

    def _look(self) -> float:
        """Ask every localizer process for its counters; returns MiB of all processes."""
        import psutil
        from ray import serve

        from serve.app import APP

        handle = serve.get_deployment_handle("Localizer", APP)
        answers = handle.broadcast("state").results(timeout_s=60, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, dict):
                self.states[answer["pid"]] = answer["tokens"]
        total = 0.0
        for process in psutil.Process().children(recursive=True):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total / 2**20

    def _tokens(self) -> Counter[str]:
        """Counters of all processes that were seen."""
        self._look()
        return sum((Counter(counts) for counts in self.states.values()), Counter())

    async def _candidates(self, http: httpx.AsyncClient) -> dict[str, int]:
        """Candidates by outcome, from the service's metrics."""
        text = (await http.get(self.metrics)).text
        found = {}
        for line in text.splitlines():
            if line.startswith("ffrs_candidates_total{"):
                name, _, value = line.partition('outcome="')[2].partition('"} ')
                found[name] = int(float(value))
        return found

    def _summary(
        self, seconds: float, used: Counter[str], candidates: dict[str, int], adding: float
    ) -> dict[str, Any]:
        answered = self.outcomes["answered"]
        p50, p95, p99 = np.percentile(self.milliseconds or [0.0], [50, 95, 99])
        quarter = max(1, len(self.memory_mib) // 4)
        failed = {k: v for k, v in self.outcomes.items() if k.startswith("failed")}
        return {
            "seconds": seconds,
            "requests": answered + sum(failed.values()),
            "answers_per_second": round(answered / seconds, 2),
            "failed": failed,
            "wrong_tenant": self.outcomes["wrong_tenant"],
            "partial_share": round(self.outcomes["partial"] / max(1, answered), 4),
            "kills": len(self.kills),
            "candidates": candidates,
            "latency_ms": {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)},
            "tokens_per_second": round((used["prompt"] + used["output"]) / seconds),
            "cached_share_of_prompt_tokens": round(used["cached"] / max(1, used["prompt"]), 3),
            "memory_mib": {
                "first_quarter": round(float(np.mean(self.memory_mib[:quarter] or [0.0]))),
                "last_quarter": round(float(np.mean(self.memory_mib[-quarter:] or [0.0]))),
                "highest": round(max(self.memory_mib, default=0.0)),
            },
            "adding_seconds": round(adding, 1),
        }


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def corpus(folder: Path, tenant: str, count: int) -> list[Dialogue]:
    """Short synthetic dialogues of a tenant; ids differ between tenants."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    config = SynthConfig(
        dialogues=count,
        seed=100 + TENANTS.index(tenant),
        turns=(6, 16),
        topics=(2, 3),
        split="heldout",
    )
    write(config, folder)
    return list(read_jsonl(folder / "dialogues.jsonl"))


def write_keys(home: Path) -> dict[str, str]:
    """A key for each tenant, and the file that the service reads."""
    from serve.auth import describe_entry, new_key

    keys: dict[str, str] = {}
    entries: list[str] = []
    for tenant in TENANTS:
        keys[tenant], digest = new_key()
        entry = describe_entry(tenant, ["search", "write"], digest, tenant)
        entries.append(f'{entry}image_roots = ["{home / tenant}"]\n')
    (home / "keys.toml").write_text("\n".join(entries))
    return keys
