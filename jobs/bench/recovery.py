"""Kill parts of the index job at seeded random moments and compare what is stored in the end.

A calm run first, which also shows from when to when each process works. Then, each round in a fresh
folder: one process is killed with SIGKILL at a random moment of that time (a worker, the owner of
the index, the driver; with vLLM its engine), the command is given again where the job did not end
well by itself, and the rows must be those of the calm run. What a killed driver leaves behind lives
on beside the next run. A job that hangs is ended and counted.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffr_core.parts import build_index
from ffr_core.profile import Profile, load_profile, profile_path
from jobs.bench.common import say

VICTIMS = {
    "worker": "MapWorker(MapBatches(SegmentStage)",
    "owner": "ray::IndexOwner",
    "engine": "VLLM::",
}
"""What the command line of a process holds; the driver is the process that was started."""
PLAIN = ("worker", "owner", "driver")
"""Victims of the rounds without vLLM."""
BUSY = 0.5
"""Seconds of CPU time after which a process counts as at work."""
POLL = 0.1
"""Seconds between two looks at the processes."""
MAX_RUNS = 4
"""Times that the command is given in one round."""
PATIENCE = 300.0
"""Seconds, beside five times a calm run, after which a job hangs."""
Rows = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Rounds and size."""
    parser.add_argument("--rounds", type=int, default=8, help="without vLLM")
    parser.add_argument("--vllm-rounds", type=int, default=2)
    parser.add_argument("--victims", nargs="+", default=PLAIN, choices=PLAIN, help="in turn")
    parser.add_argument("--dialogues", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)


def run(
    rounds: int, vllm_rounds: int, victims: Sequence[str], dialogues: int, seed: int
) -> dict[str, Any]:
    """All rounds; every one of them must end with the calm run's rows."""
    rng = random.Random(seed)
    results: dict[str, Any] = {"dialogues": dialogues, "rounds": [], "calm": {}}
    with tempfile.TemporaryDirectory(prefix="ffrs-recovery-") as name:
        folder = Path(name)
        write_corpus(folder / "corpus", dialogues, seed)
        plan = [("transformers", victims[i % len(victims)]) for i in range(rounds)]
        plan += [("vllm", "engine")] * vllm_rounds
        calm: dict[str, Calm] = {}
        for number, (engine, victim) in enumerate(plan):
            if engine not in calm:
                calm[engine] = calm_run(folder, engine)
                results["calm"][engine] = calm[engine].summary()
                say(json.dumps(results["calm"]))
            share = rng.uniform(0.02, 0.9)
            for attempt in range(MAX_RUNS):
                job = Job(folder, f"round-{number}-{attempt}", engine)
                row = one_round(job, calm[engine], victim, share / 2**attempt)
                say(json.dumps(row))
                if row["killed_after"] is not None:
                    break
            results["rounds"].append(row)
    results["killed"] = sum(row["killed_after"] is not None for row in results["rounds"])
    results["hung"] = sum(row["hung"] for row in results["rounds"])
    results["exact"] = sum(row["exact"] for row in results["rounds"])
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Calm:
    """An undisturbed run."""

    rows: Rows
    seconds: float
    spans: dict[str, tuple[float, float]]
    """Victim -> seconds after the start when it was first and last seen at work."""

    def summary(self) -> dict[str, Any]:
        """For the results."""
        spans = {name: [round(t, 1) for t in span] for name, span in self.spans.items()}
        return {"seconds": round(self.seconds, 1), "at_work": spans}


def one_round(job: Job, calm: Calm, victim: str, share: float) -> dict[str, Any]:
    """Kill the victim once, after a share of its working time; run until the job ends well."""
    if victim not in calm.spans:
        raise RuntimeError(f"the calm run showed no {victim} at work; give more --dialogues")
    first, last = calm.spans[victim]
    delay = share * (last - first)
    started = time.monotonic()
    killed: float | None = None
    runs = hung = 0
    ended = False
    with job:
        while not ended and runs < MAX_RUNS:
            runs += 1
            with job.started() as process:
                if runs == 1:
                    killed = kill_once(job, process, victim, delay)
                try:
                    ended = process.wait(PATIENCE + 5 * calm.seconds) == 0
                except subprocess.TimeoutExpired:
                    hung += 1
    return {
        "engine": job.engine,
        "victim": victim,
        "killed_after": killed and round(killed, 1),
        "runs": runs,
        "hung": hung,
        "seconds": round(time.monotonic() - started, 1),
        "exact": ended and job.rows() == calm.rows,
    }


class Job:
    """One index job over the corpus, with a home of its own."""

    def __init__(self, folder: Path, name: str, engine: str) -> None:
        """Write its configuration."""
        self.engine = engine
        self._left: dict[int, Any] = {}
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
        """The job's process; it does not outlive the block."""
        command = [sys.executable, "-m", "jobs.index_corpus", "--config", str(self._config)]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        with (self._home / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            self.note(children(process))
            process.kill()
            process.wait()

    def note(self, processes: Sequence[Any]) -> None:
        """Remember processes of the job, to end what is left of them."""
        self._left |= {process.pid: process for process in processes}

    def __enter__(self) -> None:
        """Run it once or more often inside."""

    def __exit__(self, *_: object) -> None:
        """End what is left of the job's processes."""
        import psutil

        for process in self._left.values():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def log(self) -> str:
        """What the job printed."""
        return (self._home / "log.txt").read_text(errors="replace")

    def rows(self) -> Rows:
        """All that is stored: header, turns and passages of every fragment, by dialogue."""
        from jobs.index_models import describe_models

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


def calm_run(folder: Path, engine: str) -> Calm:
    """Run undisturbed, watching the processes."""
    job = Job(folder, f"calm-{engine}", engine)
    started = time.monotonic()
    spans = {"driver": (0.0, 0.0)}
    with job, job.started() as process:
        while process.poll() is None:
            time.sleep(POLL)
            now = time.monotonic() - started
            spans["driver"] = (0.0, now)
            for victim in VICTIMS:
                if find(process, victim) is not None:
                    spans[victim] = (spans.get(victim, (now, now))[0], now)
        if process.returncode != 0:
            raise RuntimeError(f"the calm run ended with {process.returncode}: {job.log()[-2000:]}")
    seconds = time.monotonic() - started
    return Calm(rows=job.rows(), seconds=seconds, spans=spans)


def kill_once(
    job: Job, process: subprocess.Popen[bytes], victim: str, delay: float
) -> float | None:
    """Kill the victim some time after it began to work; seconds after the start of the job.

    None when the victim was gone by then.
    """
    started = time.monotonic()
    seen: float | None = None
    while process.poll() is None:
        found = find(process, victim)
        now = time.monotonic()
        if found is not None:
            seen = seen or now
            if now - seen >= delay:
                job.note(children(process))
                os.kill(found, signal.SIGKILL)
                return now - started
        time.sleep(POLL)
    return None


def find(process: subprocess.Popen[bytes], victim: str) -> int | None:
    """Process id of a victim that is at work."""
    import psutil

    if victim == "driver":
        return process.pid
    for child in children(process):
        with contextlib.suppress(psutil.Error):
            name = " ".join(child.cmdline()) + child.name()
            if VICTIMS[victim] in name and child.cpu_times().user > BUSY:
                pid: int = child.pid
                return pid
    return None


def children(process: subprocess.Popen[bytes]) -> list[Any]:
    """All processes below the job's."""
    import psutil

    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.Error:
        return []


def write_corpus(folder: Path, dialogues: int, seed: int) -> None:
    """Short synthetic dialogues."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    sizes: dict[str, Any] = {"turns": (6, 16), "topics": (2, 3), "split": "heldout"}
    write(SynthConfig(dialogues=dialogues, seed=seed, **sizes), folder)
