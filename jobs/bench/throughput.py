"""Index throughput: the job beside a plain script with the same models.

The script takes one dialogue after the other: transformers writes its fragments, a prompt at a
time, each passage is embedded by itself, the rows are written. The job is that of `python -m
jobs.index_corpus` with the same file. Both read the same dialogues into Milvus Lite. What each
needs to start is measured apart (loading the models; the job over one dialogue) and taken off.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.parts import (
    build_builder,
    build_encoder,
    build_image_reader,
    build_index,
    build_payloads,
)
from ffr_core.profile import Profile, load_profile, remember_root
from ffr_core.records import read_jsonl
from ffr_core.types import Passage
from ffr_core.writing import write_dialogues
from jobs.bench.common import say
from jobs.bench.watch import Watch, worker_part
from jobs.index_corpus import IndexJobConfig
from jobs.index_corpus import run as run_job
from serve.runtime import ray_session

Clusters = dict[str, list[tuple[int, ...]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is indexed."""
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/tiny/index.toml"))
    parser.add_argument("--dialogues", type=int, default=400)
    parser.add_argument("--by-script", type=int, help="of these read by the script; all of them")
    parser.add_argument("--turns", default="6:16")
    parser.add_argument("--seed", type=int, default=5)


def run(
    config: Path, dialogues: int, by_script: int | None, turns: str, seed: int
) -> dict[str, Any]:
    """Index the same dialogues in both ways."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    low, _, high = turns.partition(":")
    with tempfile.TemporaryDirectory(prefix="ffrs-bench-") as name:
        folder = Path(name)
        sizes: dict[str, Any] = {"turns": (int(low), int(high)), "topics": (2, 3)}
        for part, number in (("one", 1), ("all", dialogues)):
            write(SynthConfig(dialogues=number, seed=seed, split="heldout", **sizes), folder / part)
        job_config = IndexJobConfig.load(config)
        say("job over one dialogue")
        start, _, _ = _job(job_config, folder / "one", folder / "home-one")
        say(f"job over {dialogues}")
        job, clusters, cpu = _job(job_config, folder / "all", folder / "home-all")
        number = by_script or dialogues
        say(f"script over {number}")
        script, plain = _script(job_config.profile, folder / "all", folder / "home-script", number)
    equal = sum(clusters[dialogue_id] == parts for dialogue_id, parts in plain.items())
    rate, plain_rate = dialogues / (job - start), number / script["seconds"]
    return {
        "job": {
            "dialogues": dialogues,
            "seconds": round(job, 1),
            "seconds_over_one_dialogue": round(start, 1),
            "dialogues_per_second": round(rate, 2),
            "cpu_seconds": cpu,
        },
        "script": {"dialogues": number, "dialogues_per_second": round(plain_rate, 2), **script},
        "speedup": round(rate / plain_rate, 2),
        "speedup_with_start": round(
            (dialogues / job) / (number / (script["seconds"] + script["seconds_to_load"])), 2
        ),
        "dialogues_with_equal_fragments": round(equal / number, 4),
    }


def _job(
    config: IndexJobConfig, corpus: Path, home: Path
) -> tuple[float, Clusters, dict[str, float]]:
    """Seconds with the start of Ray, what is stored, and CPU seconds by process."""
    import psutil

    from jobs.index_models import describe_models

    home.mkdir()
    started = time.perf_counter()
    given = {"input": (str(corpus / "dialogues.jsonl"),), "home": str(home)}
    with ray_session():
        watch = Watch(psutil.Process(), part_of=worker_part)
        run_job(config.model_copy(update=given))
        used = watch.stop()["cpu"]
    seconds = time.perf_counter() - started
    profile = load_profile(config.profile, home)
    recipe = describe_models(profile.model_dump())
    index = build_index(profile, recipe.encoder_fingerprint, recipe.dim)
    try:
        stored = {
            header.dialogue_id: sorted(
                f.fragment.turn_ids for f in index.fragments(config.tenant, header.dialogue_id)
            )
            for header in index.scan_headers(config.tenant)
        }
    finally:
        index.close()
    parts = sorted(used.items(), key=lambda part: -part[1])
    return seconds, stored, {part: round(spent, 1) for part, spent in parts}


def _script(
    profile_name: str, corpus: Path, home: Path, number: int
) -> tuple[dict[str, Any], Clusters]:
    """One dialogue, one prompt, one passage after the other; seconds of each step."""
    from ffr_core.engine.build import build_engine

    home.mkdir()
    remember_root(home, str(corpus))
    profile = load_profile(profile_name, home)
    started = time.perf_counter()
    encoder = build_encoder(profile.encoder)
    engine = build_engine(_one_by_one(profile), build_image_reader(profile))
    builder = build_builder(profile, OneByOne(encoder), engine)
    index = build_index(profile, encoder.fingerprint, encoder.dim)
    payloads = build_payloads(profile)
    loaded = time.perf_counter() - started
    seconds = {"segment": 0.0, "embed": 0.0, "write": 0.0}
    clusters: Clusters = {}
    for dialogue in islice(read_jsonl(corpus / "dialogues.jsonl"), number):
        clock = [time.perf_counter()]
        segmented = builder.segment([dialogue])
        clock.append(time.perf_counter())
        built = builder.embed(segmented)
        clock.append(time.perf_counter())
        write_dialogues(index, payloads, "default", built)
        clock.append(time.perf_counter())
        for step, begin, end in zip(seconds, clock, clock[1:], strict=False):
            seconds[step] += end - begin
        clusters[dialogue.dialogue_id] = sorted(f.turn_ids for f in segmented[0][1])
    index.close()
    engine.close()
    return {
        "seconds": round(sum(seconds.values()), 1),
        "seconds_to_load": round(loaded, 1),
        "seconds_by_step": {step: round(spent, 1) for step, spent in seconds.items()},
    }, clusters


def _one_by_one(profile: Profile) -> Any:
    config = profile.segmenter.engine or profile.engine
    return config.model_copy(update={"kind": "transformers", "max_batch_tokens": 1})


class OneByOne(WrappedEncoder):
    """An encoder that reads one passage at a time."""

    def encode_passages(self, passages: Sequence[Passage]) -> Any:
        """As in `Encoder`."""
        import numpy as np

        if not passages:
            return self.inner.encode_passages(passages)
        return np.concatenate([self.inner.encode_passages([passage]) for passage in passages])
