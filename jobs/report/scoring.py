"""From cells to numbers: micro and per dialogue, by group, with intervals and paired differences.

All scores are shares of 1. Intervals and differences resample queries (segmentation: dialogues),
the same ones for both systems; a difference whose 95 % interval leaves out 0 is called significant.

Shapes: Q queries, S = 8 columns (tp, fp, fn, tn of utterances, then of images).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffr_core.metrics import selection
from ffr_core.metrics.bootstrap import f1_of_shares, interval, paired_difference
from ffr_core.metrics.ranking import RECALL_CUTOFFS, recall_at_k
from ffr_core.metrics.selection import Counts, SelectionScores

Cell = Mapping[str, Any]
Table = NDArray[np.float64]
Three = tuple[SelectionScores, SelectionScores, SelectionScores]
"""Utterance, image, joint."""
GROUPS = ("kind", "language", "turns", "span")
MODALITIES = ("utterance", "image", "joint")
NO_ERROR = SelectionScores(precision=1.0, recall=1.0, f1=1.0, mcc=1.0)


def count_table(cell: Cell) -> Table:
    """[Q, 8] counts of a cell's selections; true negatives over all ids of the dialogue.

    Ids that an answer names and the dialogue lacks are false positives. Source: Sec 6 (precision
    over all that is predicted), our reading.
    """
    rows = []
    for query, chosen in zip(cell["queries"], cell["selection"], strict=True):
        counted = [
            selection.count(
                chosen[f"{name}_ids"],
                query[f"{name}_ids"],
                query[total],
                chosen.get(f"unknown_{name}", 0),
            )
            for name, total in (("utt", "num_turns"), ("img", "num_images"))
        ]
        rows.append([n for c in counted for n in (c.tp, c.fp, c.fn, c.tn)])
    return np.array(rows, dtype=float).reshape(-1, 8)


def selection_scores(table_QS: Table) -> dict[str, SelectionScores]:
    """Micro scores of both modalities and joint."""
    sums = table_QS.sum(axis=0)
    return dict(zip(MODALITIES, _three(sums), strict=True))


def _three(sums_S: Table) -> Three:
    utterance = selection.scores(_counts(sums_S[:4]))
    image = selection.scores(_counts(sums_S[4:]))
    return utterance, image, selection.joint(utterance, image)


def _three_of_part(sums_S: Table) -> Three:
    """As `_three`, for a part of a set, which may hold one modality or none.

    A modality without an error has all scores 1. Joint averages the modalities that gold names, or
    where it names none, those that answers name: one wrong image among the answers to questions
    about texts shall not halve their score. Our reading: the paper scores whole sets.

    Example:
        No image in gold, one in the answers, utterances at F1 0.5: image F1 0, joint F1 0.5.
    """
    utterance, image = (
        selection.scores(_counts(sums_4)) if sums_4[1:3].any() else NO_ERROR
        for sums_4 in (sums_S[:4], sums_S[4:])
    )
    gold = (sums_S[0] + sums_S[2], sums_S[4] + sums_S[6])
    utterances, images = gold if any(gold) else (sums_S[1], sums_S[5])
    if utterances and not images:
        return utterance, image, utterance
    if images and not utterances:
        return utterance, image, image
    return utterance, image, selection.joint(utterance, image)


def _counts(values: Table) -> Counts:
    tp, fp, fn, tn = values
    return Counts(tp=tp, fp=fp, fn=fn, tn=tn)


def headline(table_QS: Table) -> str:
    """`joint`, or `utterance` where the gold of a set names no image."""
    return "joint" if table_QS[:, 4].sum() + table_QS[:, 6].sum() > 0 else "utterance"


def score_of(
    modality: str, metric: str, three: Callable[[Table], Three] = _three
) -> Callable[[Table], float]:
    """Column means [S] -> one score."""
    place = MODALITIES.index(modality)

    def score(shares_S: Table) -> float:
        return float(getattr(three(shares_S)[place], metric))

    return score


def summarize_selection(cell: Cell, resamples: int) -> dict[str, Any]:
    """Micro scores with intervals, the mean over dialogues, and micro scores of every group."""
    table_QS = count_table(cell)
    main = headline(table_QS)
    summary: dict[str, Any] = {
        "queries": len(table_QS),
        "headline": main,
        "micro": {name: asdict(value) for name, value in selection_scores(table_QS).items()},
        "intervals": {
            metric: interval(table_QS, score_of(main, metric), resamples)
            for metric in ("f1", "mcc")
        },
        "per_dialogue": per_dialogue(cell, table_QS),
        "groups": {
            name: grouped(table_QS, [q["groups"][name] for q in cell["queries"]], resamples)
            for name in GROUPS
        },
        "seconds": float(np.mean([row["seconds"] for row in cell["selection"]])),
    }
    for name in ("consistency", "similarity"):
        values = [row[name] for row in cell["selection"] if row.get(name) is not None]
        if values:
            summary[name] = {"mean": float(np.mean(values)), "queries": len(values)}
    return summary


def per_dialogue(cell: Cell, table_QS: Table) -> dict[str, dict[str, float]]:
    """Scores of each dialogue's own queries (`_three_of_part`), averaged over dialogues."""
    ids = [query["dialogue_id"] for query in cell["queries"]]
    scored = [
        _three_of_part(table_QS[[i for i, other in enumerate(ids) if other == name]].sum(axis=0))
        for name in dict.fromkeys(ids)
    ]
    return {
        modality: {
            metric: float(np.mean([getattr(three[place], metric) for three in scored]))
            for metric in ("precision", "recall", "f1", "mcc")
        }
        for place, modality in enumerate(MODALITIES)
    }


def grouped(table_QS: Table, names: Sequence[str], resamples: int) -> dict[str, dict[str, Any]]:
    """Micro scores of each group of queries (`_three_of_part`), and the share left empty."""
    main = headline(table_QS)
    place = MODALITIES.index(main)
    result = {}
    for name in sorted(set(names)):
        rows = [i for i, other in enumerate(names) if other == name]
        part = table_QS[rows]
        low, high = interval(part, score_of(main, "f1", _three_of_part), resamples)
        result[name] = {
            "queries": len(rows),
            "headline": main,
            **asdict(_three_of_part(part.sum(axis=0))[place]),
            "f1_interval": [low, high],
            "tp_fn": int(part[:, [0, 2, 4, 6]].sum()),
            "left_empty": float(np.mean(part[:, [0, 1, 4, 5]].sum(axis=1) == 0)),
        }
    return result


def summarize_segmentation(rows: Sequence[Cell], resamples: int) -> dict[str, Any]:
    """Means over dialogues, with the interval of both F1."""
    summary: dict[str, Any] = {"dialogues": len(rows), "intervals": {}}
    for part in ("pairwise", "b_cubed"):
        table = np.array([[row[part][m] for m in ("precision", "recall", "f1")] for row in rows])
        means = table.mean(axis=0)
        summary[part] = dict(zip(("precision", "recall", "f1"), map(float, means), strict=True))
        summary["intervals"][part] = interval(table[:, 2:], _first, resamples)
    return summary


def summarize_recall(part: Cell, resamples: int) -> dict[str, Any]:
    """Recall@k with the interval of each, and the mean cosine of query and gold fragment."""
    ranks = part["ranks"]
    summary: dict[str, Any] = {"queries": len(ranks), "intervals": {}}
    for k in RECALL_CUTOFFS:
        summary[f"recall@{k}"] = recall_at_k(ranks, k)
        summary["intervals"][f"recall@{k}"] = interval(hits(ranks, k), _first, resamples)
    if part.get("cosines"):
        summary["cosine"] = float(np.mean(part["cosines"]))
    return summary


def summarize_search(rows: Sequence[Cell], total_turns: int, resamples: int) -> dict[str, Any]:
    """Micro scores over (dialogue, turn) pairs of the corpus, and seconds a query."""
    table_QS = search_table(rows)
    tp, fp, fn = table_QS.sum(axis=0)
    unknown = sum(row.get("unknown", 0) for row in rows)
    tn = len(rows) * total_turns - tp - (fp - unknown) - fn
    seconds = np.array([row["seconds"] for row in rows])
    return {
        "queries": len(rows),
        **asdict(selection.scores(Counts(tp=tp, fp=fp, fn=fn, tn=tn))),
        "intervals": {"f1": interval(table_QS, f1_of_shares, resamples)},
        "seconds": float(seconds.mean()),
        "seconds_p95": float(np.percentile(seconds, 95)),
    }


def search_table(rows: Sequence[Cell]) -> Table:
    """[Q, 3] tp, fp, fn over (dialogue, turn) pairs."""
    return np.array([[row["tp"], row["fp"], row["fn"]] for row in rows], dtype=float)


def hits(ranks: Sequence[int | None], k: int) -> Table:
    """[Q, 1], 1 where the gold fragment stands among the first k."""
    return np.array([[float(rank is not None and rank < k)] for rank in ranks])


def summarize(cell: Cell, resamples: int = 1000) -> dict[str, Any]:
    """Everything that a cell has; absent parts were not measured."""
    summary: dict[str, Any] = {"not_run": cell["not_run"], "counts": cell["counts"]}
    if cell.get("selection"):
        summary["selection"] = summarize_selection(cell, resamples)
    if cell.get("segmentation"):
        summary["segmentation"] = summarize_segmentation(cell["segmentation"], resamples)
    if cell.get("recall"):
        summary["recall"] = summarize_recall(cell["recall"], resamples)
    if cell.get("search"):
        summary["search"] = summarize_search(cell["search"], cell["turns"], resamples)
    return summary


def compare(reference: Cell, other: Cell, resamples: int = 1000) -> dict[str, Any]:
    """Reference minus other on the same queries, for every part that both have."""
    pairs: dict[str, tuple[Table, Table, Callable[[Table], float]]] = {}
    if reference.get("selection") and other.get("selection"):
        a, b = count_table(reference), count_table(other)
        for metric in ("f1", "mcc"):
            pairs[f"selection_{metric}"] = (a, b, score_of(headline(a), metric))
    if reference.get("segmentation") and other.get("segmentation"):
        tables = [
            np.array([[row["pairwise"]["f1"]] for row in cell["segmentation"]])
            for cell in (reference, other)
        ]
        pairs["pairwise_f1"] = (tables[0], tables[1], _first)
    if reference.get("recall") and other.get("recall"):
        ranks = [cell["recall"]["ranks"] for cell in (reference, other)]
        pairs |= {f"recall@{k}": (hits(ranks[0], k), hits(ranks[1], k), _first) for k in (1, 5)}
    if reference.get("search") and other.get("search"):
        tables = [search_table(cell["search"]) for cell in (reference, other)]
        pairs["search_f1"] = (tables[0], tables[1], f1_of_shares)
    return {name: _difference(*pair, resamples) for name, pair in pairs.items()}


def _difference(a: Table, b: Table, score: Callable[[Table], float], resamples: int) -> Any:
    found = paired_difference(a, b, score, resamples)
    return {**asdict(found), "significant": bool(found.low > 0 or found.high < 0)}


def _first(shares_S: Table) -> float:
    return float(shares_S[0])
