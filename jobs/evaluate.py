"""Measure a profile on a file with gold labels: segmentation, recall, selection, whole system.

    ffrs eval --config PROFILE --data FILE --json OUT [--cache DIR] [--baseline]

All scores are shares of 1. Parts whose gold labels the file lacks are left out. Queries that their
source marks as unanswerable by construction (`qa_adversarial`) are left out everywhere. With
`[ocr] enabled = true` in the profile (`laptop-ocr`), the text in pictures is read once, first, and
every part and every baseline sees it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.metrics import segmentation, selection
from ffr_core.metrics.bootstrap import f1_of_shares, paired_difference
from ffr_core.metrics.ranking import RECALL_CUTOFFS, recall_at_k
from ffr_core.metrics.selection import Counts
from ffr_core.parts import (
    build_builder,
    build_localizer,
    build_system,
    encoder_of,
    part_engine,
)
from ffr_core.pipeline import localize_all
from ffr_core.profile import Profile, load_profile
from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Selection
from jobs import eval_baselines
from jobs.eval_index import TENANT, cached, fill, placed, rank_gold, read_pictures
from jobs.eval_sets import Asked, EvalSet, folder_of, load_set, turns_of

Clusters = list[tuple[int, ...]]
Part = tuple[dict[str, Any], dict[str, Any]]
"""Scores of the profile, and of each baseline by name (empty where none are asked for)."""


def evaluate_file(
    path: Path,
    profile_name: str,
    *,
    cache: Path | None = None,
    baseline: bool = False,
    hide_timestamps: bool = False,
    max_queries: int | None = None,
) -> dict[str, Any]:
    """Run all parts that the file has gold labels for."""
    data = load_set(path, max_queries, hide_timestamps)
    with tempfile.TemporaryDirectory(prefix="ffrs-eval-") as home:
        profile = load_profile(profile_name).with_image_root(folder_of(path))
        profile, seen = read_pictures(profile, data.dialogues)
        data = data.showing(seen)
        plain = encoder_of(profile)
        encoder = cached(plain, cache)
        results: dict[str, Any] = {}
        compared: dict[str, Any] = {}
        if data.gold:
            results["segmentation"], compared["segmentation"] = _segmentation(
                data, profile, encoder, baseline
            )
        if data.with_fragment:
            results["recall"], compared["recall"] = _recall(
                data, placed(profile, home, "gold"), encoder, baseline
            )
        if data.asked:
            results["selection"], compared["selection"] = _selection(
                data, profile, encoder, baseline
            )
            results["corpus"], compared["corpus"] = _corpus(
                data, placed(profile, home), encoder, plain, baseline
            )
    if baseline:
        results["baselines"] = compared
    results["queries"] = len(data.asked)
    return results


def _segmentation(data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool) -> Part:
    """Predicted fragments against gold, mean over dialogues."""
    dialogues = [dialogue for dialogue, _ in data.gold]
    segmenter = build_builder(profile, encoder).segmenter
    predicted = [[f.turn_ids for f in parts] for parts in segmenter.segment(dialogues)]
    scored, f1_D = _score_segmentation(dialogues, predicted)
    compared = {}
    if baseline:
        for name, clusters in eval_baselines.segmentations(data.gold, encoder).items():
            other, other_f1_D = _score_segmentation(dialogues, clusters)
            difference = paired_difference(
                f1_D[:, None], other_f1_D[:, None], lambda shares_S: float(shares_S[0])
            )
            compared[name] = {**other, "pairwise_f1_difference": asdict(difference)}
    return scored, compared


def _score_segmentation(
    dialogues: Sequence[Dialogue], predicted: Sequence[Clusters]
) -> tuple[dict[str, Any], np.ndarray]:
    gold = [dialogue.fragments or () for dialogue in dialogues]
    pairs = [segmentation.pairwise(p, g) for p, g in zip(predicted, gold, strict=True)]
    cubes = [segmentation.b_cubed(p, g) for p, g in zip(predicted, gold, strict=True)]
    scored = {
        "pairwise": asdict(segmentation.mean(pairs)),
        "b_cubed": asdict(segmentation.mean(cubes)),
    }
    return scored, np.array([pair.f1 for pair in pairs])


def _recall(data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool) -> Part:
    """Rank of each query's gold fragment among all gold fragments of the file."""
    asked = [data.asked[i] for i in data.with_fragment]
    found, _ = rank_gold(profile, encoder, data.gold, asked)
    compared = {}
    if baseline:
        rankings = eval_baselines.recall_ranks(data.gold, asked, encoder)
        for name, ranks in rankings.items():
            compared[name] = {
                **_recalls(ranks),
                "differences": {
                    f"recall@{k}": asdict(_recall_difference(found, ranks, k)) for k in (1, 5)
                },
            }
    return _recalls(found), compared


def _recalls(ranks: Sequence[int | None]) -> dict[str, Any]:
    return {f"recall@{k}": recall_at_k(ranks, k) for k in RECALL_CUTOFFS}


def _recall_difference(a: Sequence[int | None], b: Sequence[int | None], k: int) -> Any:
    hits = [
        np.array([[float(rank is not None and rank < k)] for rank in ranks]) for ranks in (a, b)
    ]
    return paired_difference(hits[0], hits[1], lambda shares_S: float(shares_S[0]))


def _selection(data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool) -> Part:
    """The localizer reads the whole dialogue of each query; no recall stage."""
    localizer = build_localizer(
        profile.localizer, encoder, engine=part_engine(profile, profile.localizer)
    )
    read = localize_all(localizer, [(query.query, d, None, ()) for d, query in data.asked])
    chosen = [found.selection for found in read]
    scored, counts_QS = _score_selection(data.asked, chosen)
    compared = {}
    if baseline:
        for name, others in eval_baselines.selections(data.asked, encoder).items():
            other, other_QS = _score_selection(data.asked, others)
            difference = paired_difference(counts_QS, other_QS, f1_of_shares)
            compared[name] = {**other, "utterance_f1_difference": asdict(difference)}
    return scored, compared


def _score_selection(
    asked: Sequence[Asked], chosen: Sequence[Selection]
) -> tuple[dict[str, Any], np.ndarray]:
    """Micro scores per modality, and [Q, 3] tp, fp, fn of the utterances."""
    utterances, images = [], []
    for (dialogue, query), selected in zip(asked, chosen, strict=True):
        gold = query.relevance
        num_turns, num_images = len(dialogue.turns), len(dialogue.images)
        utterances.append(selection.count(selected.utterance_ids, gold.utterance_ids, num_turns))
        images.append(selection.count(selected.image_ids, gold.image_ids, num_images))
    utterance = selection.scores(sum(utterances, Counts()))
    scored = {"utterance": asdict(utterance)}
    if any(query.relevance.image_ids for _, query in asked):
        image = selection.scores(sum(images, Counts()))
        scored["image"] = asdict(image)
        scored["joint"] = asdict(selection.joint(utterance, image))
    return scored, _table(utterances)


def _corpus(
    data: EvalSet, profile: Profile, encoder: Encoder, plain: Encoder, baseline: bool
) -> Part:
    """The two-stage system on its own fragments; micro over (dialogue, turn) pairs.

    Latency is that of one search in this process, without a cache of vectors.
    """
    engine = part_engine(profile, profile.localizer)
    localizer = build_localizer(profile.localizer, plain, engine=engine)
    with build_system(profile, encoder, localizer) as system:
        fill(system, data.dialogues)
        searching = replace(system, builder=replace(system.builder, encoder=plain))
        found, seconds = [], []
        for _, query in data.asked:
            started = time.perf_counter()
            answers = searching.search(query.query, tenant=TENANT)
            seconds.append(time.perf_counter() - started)
            found.append(
                {(a.dialogue_id, t) for a in answers for span in a.spans for t in range(*span)}
            )
    scored, counts_QS = _score_corpus(data, found)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    scored["latency_ms"] = {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
    compared = {}
    if baseline:
        for name, pairs in eval_baselines.corpus_pairs(data.dialogues, data.asked, encoder).items():
            other, other_QS = _score_corpus(data, pairs)
            difference = paired_difference(counts_QS, other_QS, f1_of_shares)
            compared[name] = {**other, "f1_difference": asdict(difference)}
    return scored, compared


def _score_corpus(
    data: EvalSet, found: Sequence[set[tuple[str, int]]]
) -> tuple[dict[str, Any], np.ndarray]:
    num_turns = sum(len(dialogue.turns) for dialogue in data.dialogues)
    counts = []
    for (dialogue, query), pairs in zip(data.asked, found, strict=True):
        gold = {(dialogue.dialogue_id, turn) for turn in turns_of(dialogue, query.relevance)}
        tp = len(gold & pairs)
        fp, fn = len(pairs) - tp, len(gold) - tp
        counts.append(Counts(tp=tp, fp=fp, fn=fn, tn=num_turns - tp - fp - fn))
    return asdict(selection.scores(sum(counts, Counts()))), _table(counts)


def _table(counts: Sequence[Counts]) -> np.ndarray:
    return np.array([[c.tp, c.fp, c.fn] for c in counts], dtype=float)
