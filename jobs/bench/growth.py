"""Growing dialogues: quality and cost of segmenting only the tail, against indexing from scratch.

Each gold dialogue is indexed with its first turns, then sent again and again with a few more. At
its end its fragments are compared with the gold ones, and with those of the whole dialogue at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

from ffr_core.building import Builder
from ffr_core.embedding.wrapped import tokens_read
from ffr_core.growing import grow
from ffr_core.index.exact import ExactIndex
from ffr_core.metrics.segmentation import pairwise
from ffr_core.parts import build_builder, build_encoder
from ffr_core.profile import load_profile
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, IndexedDialogue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What grows, and how."""
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--data", type=Path, help="corpus with gold fragments; the sample else")
    parser.add_argument("--dialogues", type=int, default=20)
    parser.add_argument("--start", type=float, default=0.6, help="share that is indexed first")
    parser.add_argument("--step", type=int, default=5, help="turns that come at a time")
    parser.add_argument("--context", type=int, help="old turns read again; the segmenter's choice")


@dataclass(slots=True)
class Totals:
    """Sums over the dialogues."""

    f1: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


def run(
    profile: str,
    data: Path | None,
    dialogues: int,
    start: float,
    step: int,
    context: int | None = None,
) -> dict[str, Any]:
    """Grow each dialogue and measure; `whole` indexes from scratch at every step."""
    loaded = load_profile(profile)
    sample = Path(str(resources.files("ffr_core"))) / "data" / "sample"
    files = [data] if data else sorted(sample.glob("*.jsonl"))
    gold = [d for path in files for d in read_jsonl(path) if d.fragments and len(d.turns) > 20]
    encoder = build_encoder(loaded.encoder)
    grown, whole, agreement = Totals(), Totals(), []
    growing = partial(_grow, context=context)
    for dialogue in gold[:dialogues]:
        ends = [*range(int(len(dialogue.turns) * start), len(dialogue.turns), step)]
        parts = [_first(dialogue, end) for end in [*ends, len(dialogue.turns)]]
        found = {}
        for totals, way in ((grown, growing), (whole, _whole)):
            started, before = time.perf_counter(), tokens_read(encoder)
            built = way(lambda: build_builder(loaded, encoder), parts)
            clusters = [f.fragment.turn_ids for f in built.fragments]
            totals.seconds.append(time.perf_counter() - started)
            totals.tokens.append(tokens_read(encoder) - before)
            totals.f1.append(pairwise(clusters, dialogue.fragments or ()).f1)
            found[way] = clusters
        agreement.append(pairwise(found[growing], found[_whole]).f1)
    return {
        "dialogues": len(agreement),
        "mean_turns": round(mean(len(d.turns) for d in gold[:dialogues]), 1),
        "pairwise_f1_gold": {
            "grown": round(mean(grown.f1), 4),
            "whole": round(mean(whole.f1), 4),
        },
        "pairwise_f1_grown_against_whole": round(mean(agreement), 4),
        "seconds": {"grown": round(sum(grown.seconds), 2), "whole": round(sum(whole.seconds), 2)},
        "encoder_tokens": {"grown": sum(grown.tokens), "whole": sum(whole.tokens)},
    }


Fresh = Callable[[], Builder]
"""A builder that remembers nothing of earlier steps."""


def _grow(fresh: Fresh, parts: list[Dialogue], context: int | None) -> IndexedDialogue:
    [built] = fresh().build(parts[:1])
    for part in parts[1:]:
        builder = fresh()
        index = ExactIndex(dim=builder.encoder.dim, encoder_fingerprint=builder.encoder.fingerprint)
        index.upsert("t", built, "payload")
        stored = index.fragments("t", part.dialogue_id)
        built = grow(builder, built.dialogue, stored, part, context)
    return built


def _whole(fresh: Fresh, parts: list[Dialogue]) -> IndexedDialogue:
    return [fresh().build([part])[0] for part in parts][-1]


def _first(dialogue: Dialogue, count: int) -> Dialogue:
    return replace(dialogue, turns=dialogue.turns[:count], fragments=None, queries=None)
