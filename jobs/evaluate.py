"""Measure a profile on a file with gold labels: segmentation, recall, selection, whole system.

    ffrs eval --config PROFILE --data FILE --json OUT [--cache DIR] [--baseline]

All scores are shares of 1. Parts whose gold labels the file lacks are left out. Queries that their
source marks as unanswerable by construction (`qa_adversarial`) are left out everywhere. With
`[ocr] enabled = true` in the profile (`laptop-ocr`), the text in pictures is read once, first, and
every part and every baseline sees it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.errors import InputError, RecordError
from ffr_core.metrics import segmentation, selection
from ffr_core.metrics.bootstrap import f1_of_shares, paired_difference
from ffr_core.metrics.ranking import RECALL_CUTOFFS, recall_at_k
from ffr_core.metrics.selection import Counts
from ffr_core.parts import (
    build_builder,
    build_image_reader,
    build_index,
    build_localizer,
    build_system,
    encoder_of,
    part_engine,
)
from ffr_core.pipeline import localize_all, write_dialogues
from ffr_core.profile import Profile, load_profile
from ffr_core.protocols import Encoder, FragmentIndex
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, Filters, Fragment, Query, Selection
from jobs import eval_baselines
from jobs.index_rows import parse_record
from jobs.reading import list_sources, read_records

TENANT = "evaluation"
BATCH = 16
"""Dialogues written together."""
EXCLUDED = frozenset({"qa_adversarial"})
Asked = tuple[Dialogue, Query]
Clusters = list[tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """A file, and which of its queries are asked."""

    dialogues: list[Dialogue]
    asked: list[Asked]

    @property
    def with_fragment(self) -> list[Asked]:
        """Queries that name a gold fragment."""
        return [(d, q) for d, q in self.asked if q.fragment_id is not None and d.fragments]


def folder_of(path: Path) -> Path:
    """The folder of a set: pictures lie below it."""
    return path if path.is_dir() else path.parent


def read_set(path: Path) -> list[Dialogue]:
    """The dialogues of a corpus file, or of the `*.jsonl` of a folder.

    Raises:
        NotFoundError: There is no such file.
        RecordError: A record or a file cannot be read.
        InputError: Two dialogues have one id; vectors and answers are kept by it.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    dialogues: list[Dialogue] = []
    file_of: dict[str, Path] = {}
    for file in files:
        for dialogue in _read_file(file):
            first = file_of.setdefault(dialogue.dialogue_id, file)
            if len(file_of) == len(dialogues):
                raise InputError(
                    f"dialogue id {dialogue.dialogue_id!r} stands in {first} and again in {file};"
                    " each dialogue of a set needs an id of its own, rename or remove one"
                )
            dialogues.append(dialogue)
    return dialogues


def _read_file(path: Path) -> Iterator[Dialogue]:
    return _read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)


def _read_parquet(path: Path) -> Iterator[Dialogue]:
    (source,) = list_sources((str(path),))
    position = 0
    try:
        for record in read_records(source, sys.maxsize):
            position = record.position
            yield parse_record(record.raw, source.base)
    except RecordError as error:
        raise RecordError(error.reason, f"{path} row {position}: {error}") from error
    except (OSError, ValueError) as error:  # pyarrow's own are such
        raise RecordError(
            "unreadable_file", f"{path} breaks off after row {position}: {error}; copy it again"
        ) from error


def load_set(path: Path, max_queries: int | None, hide_timestamps: bool) -> EvalSet:
    """Read a corpus file, or the `*.jsonl` of a folder as one set.

    Raises:
        InputError: Neither gold fragments nor queries, or one id for two dialogues.
    """
    dialogues = read_set(path)
    if hide_timestamps:
        dialogues = [without_times(dialogue) for dialogue in dialogues]
    asked = [
        (dialogue, query)
        for dialogue in dialogues
        for query in dialogue.queries or ()
        if query.source_kind not in EXCLUDED
    ]
    if max_queries and len(asked) > max_queries:
        asked = [asked[i * len(asked) // max_queries] for i in range(max_queries)]
    if not asked and all(dialogue.fragments is None for dialogue in dialogues):
        raise InputError(f"{path} has neither gold fragments nor queries; nothing can be measured")
    return EvalSet(dialogues=dialogues, asked=asked)


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
        if profile.ocr.enabled:
            data, profile = _read_pictures(data, profile)
        plain = encoder_of(profile)
        encoder = _cached(plain, cache)
        results: dict[str, Any] = {}
        compared: dict[str, Any] = {}
        if any(dialogue.fragments for dialogue in data.dialogues):
            results["segmentation"], compared["segmentation"] = _segmentation(
                data, profile, encoder, baseline
            )
        if data.with_fragment:
            results["recall"], compared["recall"] = _recall(
                data, _at(profile, home, "gold"), encoder, baseline
            )
        if data.asked:
            results["selection"], compared["selection"] = _selection(
                data, profile, encoder, baseline
            )
            results["corpus"], compared["corpus"] = _corpus(
                data, _at(profile, home, "own"), encoder, plain, baseline
            )
    if baseline:
        results["baselines"] = compared
    results["queries"] = len(data.asked)
    return results


def _read_pictures(data: EvalSet, profile: Profile) -> tuple[EvalSet, Profile]:
    """The set with the text in its pictures, and the profile without the reading."""
    from ffr_core.ocr import OcrReader

    reader = OcrReader(
        images=build_image_reader(profile),
        min_confidence=profile.ocr.min_confidence,
    )
    read = reader.read_all(data.dialogues)
    by_id = {id(old): new for old, new in zip(data.dialogues, read, strict=True)}
    asked = [(by_id[id(dialogue)], query) for dialogue, query in data.asked]
    off = profile.ocr.model_copy(update={"enabled": False})
    return EvalSet(dialogues=read, asked=asked), profile.model_copy(update={"ocr": off})


def _segmentation(
    data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predicted fragments against gold, mean over dialogues."""
    dialogues = [dialogue for dialogue in data.dialogues if dialogue.fragments]
    segmenter = build_builder(profile, encoder).segmenter
    predicted = [[f.turn_ids for f in parts] for parts in segmenter.segment(dialogues)]
    scored, f1_D = _score_segmentation(dialogues, predicted)
    compared = {}
    if baseline:
        for name, clusters in eval_baselines.segmentations(dialogues, encoder).items():
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


def _recall(
    data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rank of each query's gold fragment among all gold fragments of the file."""
    builder = build_builder(profile, encoder)
    dialogues = [dialogue for dialogue in data.dialogues if dialogue.fragments]
    gold = [
        tuple(
            Fragment(fragment_id=i, turn_ids=tuple(sorted(set(part))))
            for i, part in enumerate(dialogue.fragments or ())
            if part
        )
        for dialogue in dialogues
    ]
    index = build_index(profile, encoder.fingerprint, encoder.dim)
    try:
        items = builder.embed(list(zip(dialogues, gold, strict=True)))
        for start in range(0, len(items), BATCH):
            index.upsert_many(TENANT, [(item, "") for item in items[start : start + BATCH]])
        found = _rank(index, encoder, data.with_fragment)
    finally:
        index.close()
    scored = _recalls(found)
    compared = {}
    if baseline:
        rankings = eval_baselines.recall_ranks(dialogues, gold, data.with_fragment, encoder)
        for name, ranks in rankings.items():
            compared[name] = {
                **_recalls(ranks),
                "differences": {
                    f"recall@{k}": asdict(_recall_difference(found, ranks, k)) for k in (1, 5)
                },
            }
    return scored, compared


def _rank(index: FragmentIndex, encoder: Encoder, asked: Sequence[Asked]) -> list[int | None]:
    vectors_QD = encoder.encode_queries([query.query for _, query in asked])
    ranks: list[int | None] = []
    for (dialogue, query), vector_D in zip(asked, vectors_QD, strict=True):
        candidates = index.search(TENANT, vector_D, query.query, Filters(), max(RECALL_CUTOFFS))
        keys = [(c.dialogue_id, c.fragment.fragment_id) for c in candidates]
        gold = (dialogue.dialogue_id, query.fragment_id)
        ranks.append(keys.index(gold) if gold in keys else None)
    return ranks


def _recalls(ranks: Sequence[int | None]) -> dict[str, Any]:
    return {f"recall@{k}": recall_at_k(ranks, k) for k in RECALL_CUTOFFS}


def _recall_difference(a: Sequence[int | None], b: Sequence[int | None], k: int) -> Any:
    hits = [
        np.array([[float(rank is not None and rank < k)] for rank in ranks]) for ranks in (a, b)
    ]
    return paired_difference(hits[0], hits[1], lambda shares_S: float(shares_S[0]))


def _selection(
    data: EvalSet, profile: Profile, encoder: Encoder, baseline: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
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
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two-stage system on its own fragments; micro over (dialogue, turn) pairs.

    Latency is that of one search in this process, without a cache of vectors.
    """
    engine = part_engine(profile, profile.localizer)
    localizer = build_localizer(profile.localizer, plain, engine=engine)
    with build_system(profile, encoder, localizer) as system:
        for start in range(0, len(data.dialogues), BATCH):
            items = system.builder.build(data.dialogues[start : start + BATCH])
            write_dialogues(system.index, system.payloads, TENANT, items)
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
        turns = {*query.relevance.utterance_ids}
        turns |= {dialogue.turn_of_image[i] for i in query.relevance.image_ids}
        gold = {(dialogue.dialogue_id, turn_id) for turn_id in turns}
        tp = len(gold & pairs)
        fp, fn = len(pairs) - tp, len(gold) - tp
        counts.append(Counts(tp=tp, fp=fp, fn=fn, tn=num_turns - tp - fp - fn))
    return asdict(selection.scores(sum(counts, Counts()))), _table(counts)


def _table(counts: Sequence[Counts]) -> np.ndarray:
    return np.array([[c.tp, c.fp, c.fn] for c in counts], dtype=float)


def _at(profile: Profile, home: str, name: str) -> Profile:
    """The profile with an index and a store of its own below `home`."""
    index = profile.index.model_copy(update={"uri": f"{home}/{name}.db"})
    storage = profile.storage.model_copy(update={"uri": f"{home}/{name}"})
    return profile.model_copy(update={"index": index, "storage": storage})


def _cached(encoder: Encoder, cache: Path | None) -> Encoder:
    from ffr_core.embedding.cache import CachedEncoder

    return encoder if cache is None else CachedEncoder(encoder, cache)


def without_times(dialogue: Dialogue) -> Dialogue:
    """The dialogue with no time at any turn."""
    turns = tuple(replace(t, timestamp=None, timestamp_text=None) for t in dialogue.turns)
    return replace(dialogue, turns=turns)


def describe(results: dict[str, Any]) -> str:
    """The results in per cent, a line per part and system."""
    compared = results.get("baselines", {})
    lines = [f"{results['queries']} queries"]
    for part, pick in _SHOWN.items():
        if part in results:
            lines.append(f"{part:13} {'profile':16} {pick(results[part])}")
            for name, other in compared.get(part, {}).items():
                lines.append(f"{'':13} {name:16} {pick(other)}{_interval(other)}")
    return "\n".join(lines)


def _interval(other: dict[str, Any]) -> str:
    for key in ("pairwise_f1_difference", "utterance_f1_difference", "f1_difference"):
        if key in other:
            return _shown_difference("F1", other[key])
    return "".join(
        _shown_difference(name, value) for name, value in other.get("differences", {}).items()
    )


def _shown_difference(name: str, value: dict[str, float]) -> str:
    mean, low, high = (100 * value[key] for key in ("mean", "low", "high"))
    return f"  profile - this, {name}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _shown(**scores: float) -> str:
    return "  ".join(f"{name} {100 * value:5.1f}" for name, value in scores.items())


_SHOWN: dict[str, Callable[[dict[str, Any]], str]] = {
    "segmentation": lambda r: _shown(pairwise=r["pairwise"]["f1"], b_cubed=r["b_cubed"]["f1"]),
    "recall": lambda r: "  ".join(f"@{k} {100 * r[f'recall@{k}']:5.1f}" for k in RECALL_CUTOFFS),
    "selection": lambda r: "  ".join(
        f"{m}: {_shown(P=r[m]['precision'], R=r[m]['recall'], F1=r[m]['f1'], MCC=r[m]['mcc'])}"
        for m in ("utterance", "image", "joint")
        if m in r
    ),
    "corpus": lambda r: _shown(P=r["precision"], R=r["recall"], F1=r["f1"], MCC=r["mcc"]),
}
