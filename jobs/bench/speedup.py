"""Brute force against two stages: the same localizer, engine, queries and run. Source: Table 11.

Brute force reads every dialogue in windows, all windows of a query in flight together. Two stages
recall fragments that the profile's segmenter predicted and read the best K, all in flight together.
Cold: the prefix cache is emptied before each search. Warm: the same query once more, then another
query of the same dialogue. The corpus grows in steps; brute force over n dialogues is the sum over
the steps, each of which is one batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.engine.build import close_shared_engines
from ffr_core.parts import build_encoder, build_localizer, build_system, part_engine
from ffr_core.pipeline import System, localize_all
from ffr_core.profile import Profile, SegmenterConfig, load_profile
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, Localization, Query
from ffr_core.writing import write_dialogues
from jobs.bench.common import say
from jobs.bench.costs import Meter, Spent, added, compared, draw, record
from jobs.eval_index import placed
from jobs.eval_sets import turns_of

BATCH = 16
"""Dialogues that are segmented and written together."""
TENANT = "bench"
Pairs = set[tuple[str, int]]
"""(dialogue_id, turn_id) of what was found."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Corpus, queries, what is varied."""
    parser.add_argument("--profile", default="tiny")
    parser.add_argument(
        "--segmenter", choices=("profile", "texttiling"), default="profile", help="of fragments"
    )
    parser.add_argument("--dialogues", type=int, default=537)
    parser.add_argument("--turns", default="101:120", help="MIN:MAX turns of a dialogue")
    parser.add_argument("--topics", default="10:12", help="MIN:MAX topics of a dialogue")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--data", type=Path, help="corpus file, instead of a synthetic one")
    parser.add_argument("--queries", type=int, default=5, help="paired cold queries")
    parser.add_argument("--warm", type=int, default=2, help="of these, asked again warm")
    parser.add_argument("--steps", type=int, default=4, help="corpus sizes up to the whole")
    parser.add_argument("--candidates", type=int, default=20, help="K")
    parser.add_argument("--plot", type=Path, help="PNG of time and tokens over corpus size")


def run(plot: Path | None, data: Path | None, profile: str, **options: Any) -> dict[str, Any]:
    """Measure; `results.sizes[-1]` is the whole corpus."""
    with tempfile.TemporaryDirectory(prefix="ffrs-speedup-") as folder:
        path = data or write_corpus(Path(folder) / "corpus", options)
        loaded = placed(load_profile(profile, folder).with_image_root(path.parent), folder)
        if options["segmenter"] != "profile":
            segmenter = SegmenterConfig(kind=options["segmenter"])
            loaded = loaded.model_copy(update={"segmenter": segmenter})
        dialogues = list(read_jsonl(path))[: options["dialogues"]]
        with opened(loaded, options["candidates"]) as bench:
            results = measure(bench, dialogues, options)
    if plot is not None:
        draw(results["sizes"], plot)
    return results


@dataclass(slots=True)
class Bench:
    """An opened system and the meter inside its localizer."""

    system: System
    meter: Meter

    def timed(self, cold: bool, work: Callable[[], Pairs]) -> tuple[Spent, Pairs]:
        """Run a search and say what it cost."""
        if cold and hasattr(self.meter.engine, "forget_prefixes"):
            self.meter.engine.forget_prefixes()
        self.meter.spent = spent = Spent()
        started = time.perf_counter()
        found = work()
        spent.seconds = time.perf_counter() - started
        return spent, found

    def two_stages(self, query: Query, cold: bool) -> tuple[Spent, Pairs]:
        """Recall and read K fragments."""

        def work() -> Pairs:
            answers = self.system.search(query.query, tenant=TENANT)
            return {
                pair
                for answer in answers
                for pair in pairs_of(
                    self.system.payloads.get(TENANT, answer.payload), answer.localization
                )
            }

        return self.timed(cold, work)

    def brute_force(
        self, query: Query, dialogues: Sequence[Dialogue], cold: bool
    ) -> tuple[Spent, Pairs]:
        """Read every dialogue."""
        least = self.system.min_relevance

        def work() -> Pairs:
            parts = [(query.query, dialogue, None, ()) for dialogue in dialogues]
            read = localize_all(self.system.localizer, parts)
            return {
                pair
                for dialogue, found in zip(dialogues, read, strict=True)
                if found.relevance >= least
                for pair in pairs_of(dialogue, found)
            }

        return self.timed(cold, work)


def pairs_of(dialogue: Dialogue, found: Localization) -> Pairs:
    """Selected turns, and those of selected images."""
    return {(dialogue.dialogue_id, turn) for turn in turns_of(dialogue, found.selection)}


def measure(bench: Bench, dialogues: Sequence[Dialogue], options: dict[str, Any]) -> dict[str, Any]:
    """Grow the corpus step by step; ask every query both ways at every size."""
    num_steps = min(options["steps"], len(dialogues))
    ends = [round(len(dialogues) * (i + 1) / num_steps) for i in range(num_steps)]
    asked = pick_queries(dialogues[: ends[0]], options["queries"])
    brute = [Spent() for _ in asked]
    brute_found: list[Pairs] = [set() for _ in asked]
    sizes, lengths, build_seconds, start = [], [], 0.0, 0
    for end in ends:
        started = time.perf_counter()
        lengths += add(bench.system, dialogues[start:end])
        build_seconds += time.perf_counter() - started
        two, two_found = [], []
        for number, (_, query) in enumerate(asked):
            spent, found = bench.two_stages(query, cold=True)
            two.append(spent)
            two_found.append(found)
            spent, found = bench.brute_force(query, dialogues[start:end], cold=True)
            brute[number] = added(brute[number], spent)
            brute_found[number] |= found
            say(
                f"{end} dialogues, query {number}: {two[-1].seconds:.2f} s,"
                f" brute force {brute[number].seconds:.1f} s"
            )
        sizes.append(
            {
                "dialogues": end,
                **compared(two, brute),
                "f1": {
                    "two_stages": f1(asked, two_found),
                    "brute_force": f1(asked, brute_found),
                },
            }
        )
        start = end
    return {
        "queries": len(asked),
        "segmenter": options["segmenter"],
        "num_candidates": bench.system.num_candidates,
        "mean_turns": round(float(np.mean([len(d.turns) for d in dialogues])), 1),
        "min_turns": min(len(d.turns) for d in dialogues),
        "fragments": len(lengths),
        "mean_fragment_turns": round(float(np.mean(lengths)), 2),
        "max_fragment_turns": max(lengths),
        "index_seconds": round(build_seconds, 1),
        "sizes": sizes,
        "per_query": [
            {"two_stages": record([a]), "brute_force": record([b])}
            for a, b in zip(two, brute, strict=True)
        ],
        "warm": warm(bench, dialogues, asked[: options["warm"]]),
    }


def warm(
    bench: Bench, dialogues: Sequence[Dialogue], asked: Sequence[tuple[Dialogue, Query]]
) -> dict[str, Any]:
    """The same query again, and another query of the same dialogue, with the cache as it is."""
    repeated: tuple[list[Spent], list[Spent]] = ([], [])
    overlapping: tuple[list[Spent], list[Spent]] = ([], [])
    for dialogue, query in asked:
        other = next((q for q in dialogue.queries or () if q.query != query.query), query)
        bench.two_stages(query, cold=True)
        repeated[0].append(bench.two_stages(query, cold=False)[0])
        overlapping[0].append(bench.two_stages(other, cold=False)[0])
        bench.brute_force(query, dialogues, cold=True)
        repeated[1].append(bench.brute_force(query, dialogues, cold=False)[0])
        overlapping[1].append(bench.brute_force(other, dialogues, cold=False)[0])
    if not asked:
        return {}
    return {"repeated": compared(*repeated), "overlapping": compared(*overlapping)}


def add(system: System, dialogues: Sequence[Dialogue]) -> list[int]:
    """Index dialogues; lengths of the predicted fragments in turns."""
    lengths = []
    for start in range(0, len(dialogues), BATCH):
        items = system.builder.build(dialogues[start : start + BATCH])
        write_dialogues(system.index, system.payloads, TENANT, items)
        lengths += [len(f.fragment.turn_ids) for item in items for f in item.fragments]
    return lengths


def pick_queries(dialogues: Sequence[Dialogue], count: int) -> list[tuple[Dialogue, Query]]:
    """Evenly spaced queries that have an answer."""
    every = [(d, q) for d in dialogues for q in d.queries or () if q.relevance]
    return [every[i * len(every) // count] for i in range(min(count, len(every)))]


def f1(asked: Sequence[tuple[Dialogue, Query]], found: Sequence[Pairs]) -> float:
    """Micro F1 over (dialogue, turn) pairs of the corpus."""
    hits = wanted = shown = 0
    for (dialogue, query), pairs in zip(asked, found, strict=True):
        gold = {(dialogue.dialogue_id, turn) for turn in turns_of(dialogue, query.relevance)}
        hits, wanted, shown = hits + len(gold & pairs), wanted + len(gold), shown + len(pairs)
    return round(2 * hits / max(1, wanted + shown), 4)


def write_corpus(folder: Path, options: dict[str, Any]) -> Path:
    """Held-out synthetic dialogues; pictures have no captions."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    low, high = (int(n) for n in options["turns"].split(":"))
    few, many = (int(n) for n in options["topics"].split(":"))
    config = SynthConfig(
        dialogues=options["dialogues"],
        seed=options["seed"],
        turns=(low, high),
        topics=(few, many),
        split="heldout",
    )
    say(write(config, folder).as_text())
    return folder / "dialogues.jsonl"


@contextmanager
def opened(profile: Profile, num_candidates: int) -> Iterator[Bench]:
    """One engine for segmenter and localizer, in this process."""
    encoder = build_encoder(profile.encoder)
    engine = part_engine(profile, profile.localizer)
    assert engine is not None, "the profile's localizer needs an engine; use `tiny` or `paper`"
    meter = Meter(engine)
    localizer = build_localizer(profile.localizer, encoder, engine=meter)
    search = profile.search.model_copy(update={"num_candidates": num_candidates})
    system = build_system(profile.model_copy(update={"search": search}), encoder, localizer)
    try:
        with system:
            yield Bench(system, meter)
    finally:
        close_shared_engines()
