"""Indexing speed: the encoder alone, the Milvus Lite sink alone, the whole Ray job.

The corpus is the sample corpus that ships, repeated under new ids where more is needed. Vectors of
the sink part are random: it measures writing, not embedding.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from ffr_core.parts import build_encoder, build_index, build_payloads
from ffr_core.passages import make_passages, passage_of
from ffr_core.profile import load_profile
from ffr_core.records import read_jsonl
from ffr_core.types import (
    Dialogue,
    Fragment,
    IndexedDialogue,
    IndexedFragment,
    IndexedPassage,
    fragments_from_clusters,
)
from jobs.bench.common import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the three parts."""
    parser.add_argument("--fragments", type=int, default=1000, help="fragments to embed")
    parser.add_argument("--rows", type=int, default=50_000, help="rows to write")
    parser.add_argument("--profile", default="laptop")


def run(fragments: int, rows: int, profile: str) -> dict[str, Any]:
    """Measure the three parts one after the other."""
    sample = Path(str(resources.files("ffr_core"))) / "data" / "sample"
    dialogues = [d for path in sorted(sample.glob("*.jsonl")) for d in read_jsonl(path)]
    results = {}
    for name, part in (
        ("encoder", lambda: _encoder(dialogues, fragments, profile)),
        ("sink", lambda: _sink(dialogues, rows, profile)),
        ("job", lambda: _job(sample, profile)),
    ):
        say(f"measuring {name}")
        results[name] = part()
    return results


def _encoder(dialogues: list[Dialogue], number: int, profile: str) -> dict[str, float]:
    """Passages of the first gold fragments, embedded as the job embeds them, after a warm-up."""
    loaded = load_profile(profile)
    encoder = build_encoder(loaded.encoder)
    whole = list(islice(_gold(dialogues), number))
    passages = [p for d, part in whole for p in make_passages(d, part, loaded.window_tokens)]
    encoder.encode_passages(passages[:64])
    started = time.perf_counter()
    encoder.encode_passages(passages)
    seconds = time.perf_counter() - started
    return {
        "fragments": len(whole),
        "passages": len(passages),
        "seconds": round(seconds, 2),
        "fragments_per_second": round(len(whole) / seconds, 1),
        "passages_per_second": round(len(passages) / seconds, 1),
    }


def _sink(dialogues: list[Dialogue], rows: int, profile: str) -> dict[str, float]:
    """Write dialogues in batches of 16 as the job does; a row is a fragment or a passage."""
    from ffr_core.writing import write_dialogues

    with tempfile.TemporaryDirectory(prefix="ffrs-bench-") as home:
        loaded = load_profile(profile, home)
        dim = 384
        index = build_index(loaded, "bench", dim)
        payloads = build_payloads(loaded)
        written = spent = 0.0
        items = _random_items(dialogues, dim, loaded.window_tokens)
        while written < rows:
            batch = list(islice(items, 16))
            started = time.perf_counter()
            write_dialogues(index, payloads, "bench", batch)
            spent += time.perf_counter() - started
            written += sum(1 + len(f.passages) for item in batch for f in item.fragments)
        stats = index.stats("bench")
        index.close()
    assert stats.fragments + stats.passages == written
    return {
        "rows": int(written),
        "dialogues": stats.dialogues,
        "seconds": round(spent, 2),
        "rows_per_second": round(written / spent, 1),
    }


def _job(sample: Path, profile: str) -> dict[str, Any]:
    """The whole index job over the sample corpus on a Ray of its own, then once more."""
    from jobs.index_corpus import IndexJobConfig
    from jobs.index_corpus import run as run_job

    with tempfile.TemporaryDirectory(prefix="ffrs-bench-") as home:
        config = IndexJobConfig(input=(str(sample),), home=home, profile=profile)
        first, again = run_job(config), run_job(config)
    return {
        "dialogues": first["read"],
        "turns": first["turns"],
        "fragments": first["fragments"],
        "tokens": first["tokens"],
        "seconds": first["seconds"],
        "turns_per_second": round(first["turns"] / first["seconds"], 1),
        "tokens_per_second": first["tokens_per_second"],
        "seconds_when_unchanged": again["seconds"],
    }


def _gold(dialogues: list[Dialogue]) -> Iterator[tuple[Dialogue, Fragment]]:
    """Gold fragments over and over."""
    parts = [
        (dialogue, fragment)
        for dialogue in dialogues
        for fragment in fragments_from_clusters([list(p) for p in dialogue.fragments or ()])
    ]
    return cycle(parts)


def _random_items(
    dialogues: list[Dialogue], dim: int, window_tokens: int
) -> Iterator[IndexedDialogue]:
    """Dialogues under new ids, with random unit vectors."""
    import numpy as np

    rng = np.random.default_rng(0)

    def unit() -> Any:
        vector_D = rng.standard_normal(dim, dtype=np.float32)
        return vector_D / np.linalg.norm(vector_D)

    for number, dialogue in enumerate(cycle(dialogues)):
        renamed = replace(dialogue, dialogue_id=f"{dialogue.dialogue_id}-{number}")
        fragments = fragments_from_clusters([list(p) for p in dialogue.fragments or ()])
        yield IndexedDialogue(
            dialogue=renamed,
            fingerprint=str(number),
            fragments=tuple(
                IndexedFragment(
                    fragment=fragment,
                    text=passage_of(renamed, fragment.turn_ids).text,
                    vector_D=unit(),
                    passages=tuple(
                        IndexedPassage(passage=passage, vector_D=unit())
                        for passage in make_passages(renamed, fragment, window_tokens)
                    ),
                )
                for fragment in fragments
            ),
        )
