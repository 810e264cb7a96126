"""Kill parts of the index job at seeded random moments and compare what is stored in the end.

A calm run first. Then, each round in a fresh folder: one process of the job is killed with SIGKILL
(a worker, the owner of the index, the driver; with vLLM its engine), the command is given again
where the job did not end by itself, and the rows must be those of the calm run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffr_core.profile import Profile, build_index, load_profile, profile_path
from jobs.bench.common import say

VICTIMS = {
    "worker": "MapWorker(MapBatches(SegmentStage)",
    "owner": "ray::IndexOwner",
    "engine": "VLLM::",
}
"""What the command line of a process holds; the driver is the process that was started."""
MAX_RUNS = 4
"""Times that the command is given in one round."""
Rows = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Rounds and size."""
    parser.add_argument("--rounds", type=int, default=8, help="without vLLM")
    parser.add_argument("--vllm-rounds", type=int, default=2)
    parser.add_argument("--dialogues", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)


def run(rounds: int, vllm_rounds: int, dialogues: int, seed: int) -> dict[str, Any]:
    """All rounds; every one of them must end with the calm run's rows."""
    rng = random.Random(seed)
    results: dict[str, Any] = {"dialogues": dialogues, "rounds": []}
    with tempfile.TemporaryDirectory(prefix="ffrs-recovery-") as name:
        folder = Path(name)
        write_corpus(folder / "corpus", dialogues, seed)
        plan = [("transformers", ("worker", "owner", "driver")[i % 3]) for i in range(rounds)]
        plan += [("vllm", "engine")] * vllm_rounds
        calm: dict[str, tuple[Rows, float]] = {}
        for number, (engine, victim) in enumerate(plan):
            if engine not in calm:
                calm[engine] = calm_run(folder, engine)
                results[f"calm_seconds_{engine}"] = round(calm[engine][1], 1)
            expected, seconds = calm[engine]
            job = Job(folder, f"round-{number}", engine)
            started = time.monotonic()
            killed, runs = disturbed(job, victim, rng.uniform(0.2, 0.95) * seconds)
            row = {
                "engine": engine,
                "victim": victim,
                "killed_after": killed and round(killed, 1),
                "runs": runs,
                "seconds": round(time.monotonic() - started, 1),
                "exact": job.rows() == expected,
            }
            say(json.dumps(row))
            results["rounds"].append(row)
    kills = [row for row in results["rounds"] if row["killed_after"] is not None]
    results["killed"] = len(kills)
    results["exact"] = sum(row["exact"] for row in kills)
    return results


class Job:
    """One index job over the corpus, with a home of its own."""

    def __init__(self, folder: Path, name: str, engine: str) -> None:
        """Write its configuration."""
        self._home = folder / name
        self._home.mkdir()
        self._profile = self._home / "profile.toml"
        shipped = profile_path("tiny").read_text()
        self._profile.write_text(shipped.replace('kind = "vllm"', f'kind = "{engine}"'))
        self._config = self._home / "index.toml"
        self._config.write_text(
            f"input = [{json.dumps(str(folder / 'corpus' / 'dialogues.jsonl'))}]\n"
            f"home = {json.dumps(str(self._home))}\nprofile = {json.dumps(str(self._profile))}\n"
            'stages = "separate"\nblock_bytes = 2000\n'
            "[segment]\nbatch = 4\ncpus = 0.75\n[embed]\nbatch = 4\ncpus = 0.5\n"
        )

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The job's process; nothing of it is left at the end."""
        import psutil

        command = [sys.executable, "-m", "jobs.index_corpus", "--config", str(self._config)]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        with (self._home / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        family: dict[int, Any] = {}
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    family |= {p.pid: p for p in psutil.Process(process.pid).children(True)}
                process.kill()
                process.wait()
            for member in family.values():
                with contextlib.suppress(psutil.Error):
                    member.kill()

    def rows(self) -> Rows:
        """All that is stored: header, turns and passages of every fragment, by dialogue."""
        from jobs.index_stages import describe_models

        profile: Profile = load_profile(str(self._profile), self._home)
        recipe = describe_models(profile.model_dump())
        index = build_index(profile, recipe.encoder_fingerprint, recipe.dim)
        try:
            return {
                header.dialogue_id: (
                    header.payload,
                    header.num_fragments,
                    [
                        (f.fragment.fragment_id, f.fragment.turn_ids, len(f.passages))
                        for f in index.fragments("default", header.dialogue_id)
                    ],
                )
                for header in index.scan_headers("default")
            }
        finally:
            index.close()


def calm_run(folder: Path, engine: str) -> tuple[Rows, float]:
    """Rows and seconds of an undisturbed run."""
    job = Job(folder, f"calm-{engine}", engine)
    started = time.monotonic()
    with job.started() as process:
        if process.wait() != 0:
            raise RuntimeError(f"the calm run ended with {process.returncode}")
    seconds = time.monotonic() - started
    return job.rows(), seconds


def disturbed(job: Job, victim: str, moment: float) -> tuple[float | None, int]:
    """Kill once; run again until the job ends well. When it was killed, and how many runs."""
    killed: float | None = None
    for number in range(1, MAX_RUNS + 1):
        with job.started() as process:
            if number == 1:
                killed = kill_once(process, victim, moment)
                if victim == "driver" and killed is not None:
                    continue
            if process.wait() == 0:
                return killed, number
    raise RuntimeError(f"the job did not end well in {MAX_RUNS} runs")


def kill_once(process: subprocess.Popen[bytes], victim: str, moment: float) -> float | None:
    """Kill the victim at the moment, or as soon as it is there after; None if it came too late."""
    import psutil

    started = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if time.monotonic() - started < moment:
            continue
        if victim == "driver":
            return time.monotonic() - started
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                name = " ".join(child.cmdline()) + child.name()
                if VICTIMS[victim] in name and child.cpu_times().user > 0.5:
                    os.kill(child.pid, signal.SIGKILL)
                    return time.monotonic() - started
    return None


def write_corpus(folder: Path, dialogues: int, seed: int) -> None:
    """Short synthetic dialogues."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    sizes: dict[str, Any] = {"turns": (6, 16), "topics": (2, 3), "split": "heldout"}
    write(SynthConfig(dialogues=dialogues, seed=seed, **sizes), folder)
