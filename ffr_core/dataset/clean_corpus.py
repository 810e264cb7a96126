"""Clean a corpus of short dialogues from stored shards, in passes that hold one shard at a time.

Pass 1 finds the topics, pass 2 each dialogue's drift, pass 3 decides and writes; then
near-duplicates among what passed are dropped. Verdicts, shingles and vectors go to files (float16,
a row for each dialogue that passed); memory grows by a few numbers a dialogue.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ffr_core.dataset.cleaning import (
    CleaningRules,
    Verdict,
    clean_dialogue,
    drift_limit,
    topic_drift,
)
from ffr_core.dataset.clustering import k_means, unit
from ffr_core.dataset.features import (
    DialogueFeatures,
    image_text_similarity,
    load_shard,
    mean_features,
)
from ffr_core.dataset.near_duplicates import near_duplicate_pairs, shingles
from ffr_core.dataset.ranges import check_ranges
from ffr_core.dataset.steps import read_records, write_json, write_records
from ffr_core.dataset.stored import KeySets, StoredRows, StoredSets
from ffr_core.dataset.triplets import Features
from ffr_core.records import dialogue_from_record, record_from_dialogue
from ffr_core.types import Dialogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOPIC_SAMPLE = 10_000
"""Dialogues that the topics are found from."""
_TOPICS_PER_ROOT = 1.6
"""A corpus of N dialogues has at most this times sqrt(N) topics: fewer would mix subjects, with
more a dialogue's own subject would fall apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRules:
    """Settings of the filters that look at the whole corpus."""

    num_topics: int = 64
    """K of the topics."""
    drift_deviations: float = 3.5
    """Bound of the drift relative to the corpus, see `drift_limit`; 0: `max_drift` counts."""
    duplicate_threshold: float = 0.7
    """Jaccard index of shingles of a near-duplicate; above 1 keeps them all."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that are out of range with ConfigError."""
        check_ranges(
            self,
            num_topics=(1, math.inf),
            drift_deviations=(0, math.inf),
            duplicate_threshold=(0, math.inf),
            seed=(0, math.inf),
        )


def clean_corpus(
    corpus: Path, shards: Sequence[Path], out: Path, rules: CleaningRules, whole: CorpusRules
) -> dict[str, Any]:
    """Decide about every dialogue; writes `dialogues.jsonl`, `decisions.jsonl` and the features.

    A kept record has one key more than the schema, `image_keys`: the identity of each image.

    Args:
        corpus: JSON Lines of all dialogues, in the order of the shards.
        shards: Their features.
        out: Folder to write into.
        rules: Thresholds of one dialogue.
        whole: Settings over all.

    Returns:
        Counts: in = kept + reasons, for dialogues and for images.
    """
    drifts = array("d", _drifts(shards, whole))
    if whole.drift_deviations > 0:
        rules = replace(rules, max_drift=drift_limit(drifts, whole.drift_deviations))
    passing, decided = out / "passing.jsonl", out / "decided.jsonl"
    sets = StoredSets(out / "shingles.u32")
    streams: dict[str, IO[bytes]] = {}
    try:
        with decided.open("w", encoding="utf-8") as log:
            records = _decide(corpus, shards, rules, drifts, out, streams, log, sets)
            write_records(passing, records)
        copies = _copies(sets, whole.duplicate_threshold)
    finally:
        sets.close()
        for stream in streams.values():
            stream.close()
    kept = _without_copies(passing, out, copies)
    write_records(out / "decisions.jsonl", _final(decided, passing, copies))
    for file in (passing, decided, out / "shingles.u32"):
        file.unlink()
    write_json(out / "rows.json", {"kept": kept, "vectors": sorted(streams)})
    counts = count_decisions(read_records(out / "decisions.jsonl"))
    return {**counts, "max_drift": round(rules.max_drift, 4)}


def load_features(folder: Path, rows: Sequence[int] | None = None) -> Features:
    """Features of the dialogues of `dialogues.jsonl`, or of some of them by position."""
    index = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    at = np.asarray(index["kept"], dtype=np.int64)
    keys = KeySets(r["image_keys"] for r in read_records(folder / "dialogues.jsonl"))
    if rows is not None:
        at, keys = at[list(rows)], keys.some(rows)
    stored = {name: _open(folder, name, at) for name in index["vectors"]}
    return Features(
        text_ND=stored["text"],
        clip_text_ND=stored.get("clip_text"),
        clip_image_ND=stored.get("clip_image"),
        image_keys=keys,
    )


def dialogue_text(dialogue: Dialogue) -> str:
    """All utterances and captions, for comparing dialogues by their words."""
    parts = [t for turn in dialogue.turns for t in (turn.text, *(i.caption for i in turn.images))]
    return "\n".join(part for part in parts if part)


def count_decisions(decisions: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sum up; that in = kept + reasons is asserted for dialogues and images."""
    reasons: Counter[str] = Counter()
    image_reasons: Counter[str] = Counter()
    total = kept = kept_images = images = 0
    for decision in decisions:
        removed = decision["removed_images"]
        total += 1
        images += decision["images"]
        image_reasons.update(reason for _, reason in removed)
        left = decision["images"] - len(removed)
        if decision["reason"]:
            reasons[decision["reason"]] += 1
            image_reasons["with_dialogue"] += left
        else:
            kept += 1
            kept_images += left
    assert kept + sum(reasons.values()) == total
    assert kept_images + sum(image_reasons.values()) == images
    return {
        "in": total,
        "kept": kept,
        "reasons": dict(sorted(reasons.items())),
        "images_in": images,
        "images_kept": kept_images,
        "image_reasons": {name: n for name, n in sorted(image_reasons.items()) if n},
    }


def _drifts(shards: Sequence[Path], whole: CorpusRules) -> Iterator[float]:
    """Drift of every dialogue from topics found in a sample of the corpus."""
    total: NDArray[np.float64] | None = None
    num_rows = num_dialogues = 0
    for item in _features(shards):
        num_dialogues += 1
        num_rows += len(item.turns_RD)
        rows = item.turns_RD.sum(axis=0, dtype=np.float64)
        total = rows if total is None else total + rows
    if total is None:
        return
    mean_D = (total / max(1, num_rows)).astype(np.float32)
    every = -(-num_dialogues // _TOPIC_SAMPLE)
    sample = [
        unit(item.turns_RD - mean_D).sum(axis=0)
        for number, item in enumerate(_features(shards))
        if number % every == 0
    ]
    num_topics = max(1, min(whole.num_topics, round(_TOPICS_PER_ROOT * len(sample) ** 0.5)))
    centers_KD, _ = k_means(np.stack(sample), num_topics, seed=whole.seed)
    for item in _features(shards):
        yield topic_drift(unit(item.turns_RD - mean_D), centers_KD)


def _decide(
    corpus: Path,
    shards: Sequence[Path],
    rules: CleaningRules,
    drifts: Sequence[float],
    out: Path,
    streams: dict[str, IO[bytes]],
    log: IO[str],
    sets: StoredSets,
) -> Iterator[dict[str, Any]]:
    """Records of what passes; fills `log` and `sets`, and writes the features' rows."""
    records = read_records(corpus)
    for number, (record, item) in enumerate(zip(records, _features(shards), strict=True)):
        dialogue = dialogue_from_record(record)
        similarity = image_text_similarity(dialogue, item)
        verdict = clean_dialogue(
            dialogue, rules, facts=item.facts, image_text=similarity, drift=drifts[number]
        )
        decision = _decision(dialogue, verdict, drifts[number], similarity)
        log.write(json.dumps(decision, ensure_ascii=False) + "\n")
        if verdict.dialogue is None:
            continue
        sets.append(shingles(dialogue_text(verdict.dialogue)))
        for name, vector in mean_features(item, verdict.kept_images).items():
            if name not in streams:
                write_json(out / f"{name}.json", {"dim": len(vector)})
                streams[name] = (out / f"{name}.f16").open("wb")
            streams[name].write(vector.astype(np.float16).tobytes())
        keys = [item.facts[i].key for i in verdict.kept_images]
        yield {**record_from_dialogue(verdict.dialogue), "image_keys": keys}


def _decision(
    dialogue: Dialogue, verdict: Verdict, drift: float, similarity: dict[int, float] | None
) -> dict[str, Any]:
    return {
        "dialogue_id": dialogue.dialogue_id,
        "reason": verdict.reason,
        "images": len(dialogue.images),
        "removed_images": [list(pair) for pair in verdict.removed_images],
        "drift": round(drift, 4),
        "image_text": None if similarity is None else [round(v, 3) for v in similarity.values()],
    }


def _copies(sets: StoredSets, threshold: float) -> dict[int, int]:
    """Position of each near-duplicate -> the earlier one that is kept."""
    copies: dict[int, int] = {}
    for first, second in near_duplicate_pairs(sets, threshold):
        if first not in copies:
            copies.setdefault(second, first)
    return copies


def _without_copies(passing: Path, out: Path, copies: Mapping[int, int]) -> list[int]:
    """Write what is kept; returns the row of each kept dialogue in the feature files."""
    kept: list[int] = []

    def records() -> Iterator[Any]:
        for row, record in enumerate(read_records(passing)):
            if row not in copies:
                kept.append(row)
                yield record

    write_records(out / "dialogues.jsonl", records())
    return kept


def _final(decided: Path, passing: Path, copies: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    """The decisions, near-duplicates included."""
    wanted = set(copies.values())
    names = {
        row: record["dialogue_id"]
        for row, record in enumerate(read_records(passing))
        if row in wanted
    }
    row = 0
    for decision in read_records(decided):
        if not decision["reason"]:
            if row in copies:
                decision.update(reason="near_duplicate", copy_of=names[copies[row]])
            row += 1
        yield decision


def _features(shards: Sequence[Path]) -> Iterator[DialogueFeatures]:
    for shard in shards:
        yield from load_shard(shard)[1]


def _open(folder: Path, name: str, rows: NDArray[np.int64]) -> StoredRows:
    dim = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["dim"]
    return StoredRows(folder / f"{name}.f16", dim, rows)
