"""What the index job costs beside its models: real stages, sleepers in place of models.

Sixteen workers sleep for as long as a model would work and hand on vectors of the usual size; a
counting sink takes them. Measured are the share of the workers' time that is sleep, the CPU time of
each stage and of the whole job, and the memory of driver and object store.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.profile import load_profile
from ffr_core.types import (
    Fragment,
    IndexedDialogue,
    IndexedFragment,
    IndexedPassage,
    Passage,
)
from jobs.bench.common import say
from jobs.bench.watch import Watch
from jobs.index_models import BuildStage
from jobs.index_rows import batch_of, rows_of

DIM = 384
STORE_BYTES = 2_000_000_000
"""Of sixteen workers; Ray's own default is 30 per cent of a node's memory."""
TURNS_OF_A_FRAGMENT = 5
TEXT = "shall we meet at the station on saturday or is the harbor closer for you"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--dialogues", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=25, help="turns of a dialogue")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rate", type=float, default=300.0, help="dialogues/s of all workers")
    parser.add_argument("--batch", type=int, default=16, help="dialogues of one model call")
    parser.add_argument("--files", type=int, default=16)


def run(
    dialogues: int, turns: int, workers: int, rate: float, batch: int, files: int
) -> dict[str, Any]:
    """Run the job once and account for its time."""
    import psutil
    import ray

    from jobs.index_corpus import IndexJobConfig, PoolConfig, pipeline
    from jobs.reading import list_sources
    from serve.runtime import ray_session

    with tempfile.TemporaryDirectory(prefix="ffrs-overhead-") as folder:
        say(f"writing {dialogues} dialogues")
        write_corpus(Path(folder) / "corpus", dialogues, turns, files)
        pool = PoolConfig(min_workers=workers, max_workers=workers, cpus=0.01, batch=batch)
        config = IndexJobConfig(input=(f"{folder}/corpus",), build=pool)
        profile = load_profile("laptop", folder).model_dump()
        sources = list_sources(config.input)
        with ray_session(num_cpus=4, object_store_bytes=STORE_BYTES):
            owner = ray.remote(num_cpus=0)(CountingOwner).remote()
            ray.get(owner.stats.remote())

            def wrap(stage: Any) -> Any:
                if stage is BuildStage:
                    return _sleeper(owner, workers / rate)
                return _timed(stage, owner) if isinstance(stage, type) else Timed(stage, owner)

            statuses: Counter[str] = Counter()
            watch = Watch(psutil.Process(), statuses)
            for row in pipeline(config, profile, "overhead", [owner], sources, False, wrap):
                statuses[row["status"]] += 1
            used = watch.stop()
            facts = ray.get(owner.facts.remote())
    assert statuses == {"indexed": dialogues}, statuses
    assert facts["written"] == dialogues, facts["written"]
    return account(facts, used, dialogues, workers, rate)


class CountingOwner:
    """The methods of `jobs.index_owner.IndexOwner` that the job calls; counts what it gets."""

    def __init__(self) -> None:
        self._written = 0
        self._cpu: Counter[str] = Counter()
        self._sleeps: list[tuple[int, float, float, float]] = []

    def decide(self, claims: Sequence[Any], restore: bool, dry_run: bool) -> list[str]:
        """Everything is new."""
        return ["new"] * len(claims)

    def write(self, items: Sequence[tuple[Any, bytes]]) -> list[None]:
        """Count."""
        self._written += len(items)
        return [None] * len(items)

    def note(self, stage: str, seconds: float) -> None:
        """CPU time of one call of a stage."""
        self._cpu[stage] += seconds

    def slept(self, worker: int, start: float, end: float, asleep: float) -> None:
        """One call of a sleeper, by the wall clock."""
        self._sleeps.append((worker, start, end, asleep))

    def stats(self) -> dict[str, Any]:
        """Answer."""
        return {"written": self._written}

    def facts(self) -> dict[str, Any]:
        """All that was noted."""
        return {"written": self._written, "cpu": dict(self._cpu), "sleeps": self._sleeps}


class Timed:
    """A stage that tells the CPU time of its calls."""

    def __init__(self, stage: Any, owner: Any) -> None:
        self._stage, self._owner = stage, owner
        self._name = type(stage).__name__

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Run the stage; a generator's work happens between its parts."""
        started = time.thread_time()
        parts = self._stage(batch)
        for part in [parts] if isinstance(parts, dict) else parts:
            self._owner.note.remote(self._name, time.thread_time() - started)
            yield part
            started = time.thread_time()


def _timed(stage: type[Any], owner: Any) -> Any:
    """An actor class whose stage tells the CPU time of its calls."""

    class TimedActor(Timed):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(stage(*arguments), owner)

    return TimedActor


def _sleeper(owner: Any, seconds: float) -> Any:
    """An actor class in place of `BuildStage`."""

    class Sleeper:
        def __init__(self, *_: Any) -> None:
            self._vector_D = np.full(DIM, DIM**-0.5, dtype=np.float32)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            start, cpu = time.time(), time.thread_time()
            rows = rows_of(batch)
            for row in rows:
                built = build(pickle.loads(row["item"]), self._vector_D.copy)
                row["fragments"] = len(built.fragments)
                row["item"] = pickle.dumps(built)
            busy = time.thread_time() - cpu
            time.sleep(seconds * len(rows))
            owner.note.remote("BuildStage", busy)
            owner.slept.remote(os.getpid(), start, time.time(), seconds * len(rows))
            return batch_of(rows)

    return Sleeper


def build(dialogue: Any, vector: Callable[[], Any]) -> IndexedDialogue:
    """A dialogue as the models would hand it on: a vector for each turn and fragment."""
    turns = range(len(dialogue.turns))
    starts = turns[::TURNS_OF_A_FRAGMENT]
    fragments = []
    for number, start in enumerate(starts):
        ids = tuple(turns[start : start + TURNS_OF_A_FRAGMENT])
        passages = tuple(
            IndexedPassage(
                passage=Passage(text=dialogue.turns[i].text, turn_ids=(i,)), vector_D=vector()
            )
            for i in ids
        )
        fragments.append(
            IndexedFragment(
                fragment=Fragment(fragment_id=number, turn_ids=ids),
                text=" ".join(dialogue.turns[i].text for i in ids),
                vector_D=vector(),
                passages=passages,
            )
        )
    return IndexedDialogue(dialogue=dialogue, fingerprint="x", fragments=tuple(fragments))


def account(
    facts: dict[str, Any], used: dict[str, Any], dialogues: int, workers: int, rate: float
) -> dict[str, Any]:
    """Shares and milliseconds a dialogue."""
    sleeps = facts["sleeps"]
    first = {worker: start for worker, start, _, _ in sorted(sleeps, key=lambda s: -s[1])}
    last = {worker: end for worker, _, end, _ in sorted(sleeps, key=lambda s: s[2])}
    low, high = max(first.values()), min(last.values())
    steady = [s for s in sleeps if s[1] >= low and s[2] <= high]
    window = (high - low) * workers
    whole = (max(last.values()) - min(first.values())) * workers
    ms = {name: 1000 * seconds / dialogues for name, seconds in used["cpu"].items()}
    stages = {name: round(1000 * s / dialogues, 3) for name, s in facts["cpu"].items()}
    ours = sum(stages.values())
    steady_ms = {name: 1000 * seconds for name, seconds in used["steady"].items()}
    driver_rate = 1000 / (steady_ms or ms)["driver"]
    return {
        "dialogues": dialogues,
        "workers": workers,
        "wanted_dialogues_per_second": rate,
        "dialogues_per_second": round(dialogues / (whole / workers), 1),
        "seconds": round(used["seconds"], 1),
        "model_share_of_worker_time": round(sum(s[3] for s in sleeps) / whole, 4),
        "model_share_steady": round(sum(s[3] for s in steady) / window, 4) if window > 0 else None,
        "cpu_ms_per_dialogue_by_stage": {**stages, "all stages": round(ours, 3)},
        "cpu_ms_per_dialogue_by_process": _rounded(ms),
        "cpu_ms_per_dialogue_by_process_steady": _rounded(steady_ms),
        "worker_processes": used["processes"]["workers"],
        "driver_dialogues_per_second": round(driver_rate, 1),
        "gpus_that_one_driver_feeds": round(driver_rate / (rate / workers), 1),
        "driver_mib": _course(used["driver_mib"]),
        "object_store_mib": _course(used["store_mib"]),
    }


def _rounded(ms: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in {**ms, "all": sum(ms.values())}.items()}


def _course(samples: Sequence[float]) -> dict[str, float]:
    """How memory went: mean of the second and of the last quarter, and the highest."""
    if len(samples) < 4:
        return {"highest": round(max(samples, default=0.0), 1)}
    quarter = len(samples) // 4
    return {
        "second_quarter": round(float(np.mean(samples[quarter : 2 * quarter])), 1),
        "last_quarter": round(float(np.mean(samples[-quarter:])), 1),
        "highest": round(max(samples), 1),
    }


def write_corpus(folder: Path, dialogues: int, turns: int, files: int) -> None:
    """Dialogues of plain turns, in several files."""
    folder.mkdir(parents=True)
    people = ("Ana", "Ben", "Chen")
    record = [
        {"turn_id": i, "speaker": people[i % 3], "text": f"{i} {TEXT}", "timestamp": None}
        for i in range(turns)
    ]
    streams = [(folder / f"{n}.jsonl").open("w", encoding="utf-8") for n in range(files)]
    tail = json.dumps(record)
    for number in range(dialogues):
        line = f'{{"dialogue_id": "d{number}", "turns": {tail}}}\n'
        streams[number * files // dialogues].write(line)
    for stream in streams:
        stream.close()
