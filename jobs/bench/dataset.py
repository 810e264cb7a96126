"""Cleaning decisions and triplet matching from stored embeddings, over several corpus sizes.

The corpora are drawn: 8 turns and 2 images a dialogue around 300 topics, random words. What is
measured are the steps after the embedding stage of `jobs.build_dataset`; drawing is not.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.dataset.clean_corpus import CorpusRules, clean_corpus, load_features
from ffr_core.dataset.cleaning import CleaningRules, ImageFacts
from ffr_core.dataset.clustering import unit
from ffr_core.dataset.features import DialogueFeatures, save_shard
from ffr_core.dataset.triplets import MatchingRules, match_triplets
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue, Image, Turn

DIM, CLIP_DIM, TOPICS, SHARD = 384, 512, 300, 512
_NOISE = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--dialogues", type=int, nargs="+", default=[10_000, 100_000])


def run(dialogues: list[int]) -> dict[str, Any]:
    """Seconds, CPU seconds and peak memory of each size; the drawing counts in none of them."""
    results: dict[str, Any] = {}
    for size in dialogues:
        with tempfile.TemporaryDirectory(prefix="ffrs-bench-") as name:
            folder = Path(name)
            _draw(folder, size)
            forget_peak()
            clean, counts = _timed(
                lambda folder=folder: clean_corpus(
                    folder / "corpus.jsonl",
                    sorted(folder.glob("*.npz")),
                    folder,
                    CleaningRules(),
                    CorpusRules(),
                )
            )
            triplets, matches = _timed(
                lambda folder=folder: match_triplets(load_features(folder), MatchingRules())
            )
            results[str(size)] = {
                "clean": {**clean, "kept": counts["kept"]},
                "triplets": {**triplets, "found": len(matches.triplets_T3)},
                "peak_mb": round(peak_mb()),
            }
            print(f"{size}: {json.dumps(results[str(size)])}", flush=True)
    return results


def forget_peak() -> None:
    """Let the highest memory of this process count from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Highest memory of this process since then, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / 1024


def _timed(work: Any) -> tuple[dict[str, float], Any]:
    started, cpu = time.monotonic(), time.process_time()
    result = work()
    seconds = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    return {name: round(value, 2) for name, value in seconds.items()}, result


def _draw(folder: Path, size: int) -> None:
    """A corpus file and its shards."""
    rng, words = np.random.default_rng(0), random.Random(0)
    topics = [unit(rng.standard_normal((TOPICS, d)).astype(np.float32)) for d in (DIM, CLIP_DIM)]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as stream:
        for start in range(0, size, SHARD):
            numbers = range(start, min(size, start + SHARD))
            for number in numbers:
                stream.write(json.dumps(record_from_dialogue(_dialogue(number, words))) + "\n")
            items = [_features(number, topics, rng) for number in numbers]
            save_shard(folder / f"{start:09d}.npz", [f"d{n}" for n in numbers], items)


def _dialogue(number: int, words: random.Random) -> Dialogue:
    def text(length: int) -> str:
        return " ".join(f"w{words.randrange(5000)}" for _ in range(length))

    images = [Image(image_id=i, uri=f"{number}-{i}.png", caption=text(6)) for i in range(2)]
    shared = {1: (images[0],), 5: (images[1],)}
    turns = tuple(
        Turn(turn_id=i, speaker="AB"[i % 2], text=text(8), images=shared.get(i, ()))
        for i in range(8)
    )
    return Dialogue(dialogue_id=f"d{number}", turns=turns)


def _features(number: int, topics: list[Any], rng: np.random.Generator) -> DialogueFeatures:
    topic = int(rng.integers(TOPICS))

    def near(kind: int, rows: int) -> Any:
        noise = rng.standard_normal((rows, topics[kind].shape[1])).astype(np.float32)
        scale = _NOISE / np.sqrt(topics[kind].shape[1])
        return unit(topics[kind][topic] + np.float32(scale) * noise)

    return DialogueFeatures(
        turns_RD=near(0, 8),
        captions_ID=near(0, 2),
        clip_turns_RC=near(1, 8),
        clip_captions_IC=near(1, 2),
        clip_images_IC=near(1, 2),
        facts={i: ImageFacts(width=600, height=600, key=f"{number}-{i}") for i in range(2)},
        text_turns=tuple(range(8)),
    )
