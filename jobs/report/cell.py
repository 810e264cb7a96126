"""One cell of a report: a system over a set, everything measured kept query by query.

A cell is a JSON file; it is measured again when anything that decides it changes (`fingerprints`),
and when an engine left requests unanswered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.errors import FfrError
from ffr_core.metrics import segmentation
from ffr_core.metrics.coherence import coherence
from ffr_core.types import Selection
from jobs.eval_sets import turns_of
from jobs.report.answers import ENGINE_ERRORS
from jobs.report.config import Part, ReportConfig, SetConfig, SystemConfig
from jobs.report.fingerprints import fingerprint
from jobs.report.sets import EvalData, load_data, query_rows
from jobs.report.systems import Chosen, EvalSystem, Found, NotRun, build_system

if TYPE_CHECKING:
    from ffr_core.embedding.clip import ClipEmbedder

Cell = dict[str, Any]


def run_cell(report: ReportConfig, system: SystemConfig, item: SetConfig, out: Path) -> Cell:
    """Measure one system over one set and keep the result under `out`; known results are read.

    A system that cannot run gives a cell with `not_run`, the reason; the report goes on.
    """
    path = out / "cells" / cell_name(system, item)
    key = fingerprint(report, system, item)
    if path.is_file():
        known: Cell = json.loads(path.read_text(encoding="utf-8"))
        whole = known["not_run"] is None and not known["counts"].get(ENGINE_ERRORS)
        if known["fingerprint"] == key and whole:
            return known
    started = time.perf_counter()
    cell: Cell = {
        "system": system.name,
        "set": item.name,
        "fingerprint": key,
        "not_run": None,
        "counts": {},
        "queries": [],
    }
    try:
        if system.sets and item.name not in system.sets:
            raise NotRun(f"asked on {', '.join(system.sets)} only")
        data = load_data(item)
        cell |= {
            "queries": query_rows(data),
            "left_out": data.left_out,
            "dialogues": len(data.dialogues),
            "turns": sum(len(dialogue.turns) for dialogue in data.dialogues),
            "gold": gold_parts(data),
        }
        if not cell["gold"] and not data.free:
            raise NotRun("the set has neither gold fragments nor queries")
        built = build_system(system, report, data)
        cell |= measure(built, data, system.parts, open_clip_model(report, data))
        cell["counts"] = dict(built.counts)
    except NotRun as error:
        cell["not_run"] = str(error)
    except FfrError as error:
        cell["not_run"] = f"{type(error).__name__}: {error}"
    cell["seconds"] = round(time.perf_counter() - started, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(cell, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
    return cell


def gold_parts(data: EvalData) -> list[Part]:
    """The parts that a set has gold for."""
    parts: dict[Part, bool] = {
        "selection": bool(data.asked),
        "segmentation": bool(data.gold),
        "recall": bool(data.with_fragment),
        "search": bool(data.asked),
    }
    return [part for part, present in parts.items() if present]


def measure(
    system: EvalSystem, data: EvalData, parts: Sequence[Part], clip: ClipEmbedder | None = None
) -> Cell:
    """Run the parts that the system has and the set has gold for; the others are absent."""
    data = system.shown or data
    cell: Cell = {}
    if "selection" in parts and system.select and data.asked:
        cell["selection"] = _selection(system, data, clip)
    if "segmentation" in parts and system.segment and data.gold:
        cell["segmentation"] = _segmentation(system, data)
    wanted = data.with_fragment
    if "recall" in parts and system.rank and wanted:
        ranked = system.rank(data.gold, [data.asked[i] for i in wanted])
        cell["recall"] = {"of": wanted, **asdict(ranked)}
    if "search" in parts and system.search and data.asked:
        queries = [query.query for _, query in data.asked]
        found = system.search(data.dialogues, queries)
        cell["search"] = [
            _found(result) | _corpus_counts(data, i, result) for i, result in enumerate(found)
        ]
    if "search" in parts and system.search and data.free:
        found = system.search(data.dialogues, data.free)
        cell["free"] = [
            {"query": query, **_found(result)}
            for query, result in zip(data.free, found, strict=True)
        ]
    return cell


def _selection(system: EvalSystem, data: EvalData, clip: ClipEmbedder | None) -> list[Cell]:
    assert system.select is not None
    started = time.perf_counter()
    chosen = system.select(data.asked)
    each = (time.perf_counter() - started) / max(1, len(chosen))
    rows = []
    for (dialogue, query), selection in zip(data.asked, chosen, strict=True):
        row: Cell = {**_ids(selection), **_unknown(selection), "seconds": each}
        if clip is not None:
            row |= asdict(coherence(query.query, dialogue, selection, clip))
        rows.append(row)
    return rows


def _segmentation(system: EvalSystem, data: EvalData) -> list[Cell]:
    assert system.segment is not None
    dialogues = [dialogue for dialogue, _ in data.gold]
    rows = []
    for dialogue, predicted in zip(dialogues, system.segment(dialogues), strict=True):
        gold = dialogue.fragments or ()
        rows.append(
            {
                "dialogue_id": dialogue.dialogue_id,
                "fragments": len(predicted),
                "pairwise": asdict(segmentation.pairwise(predicted, gold)),
                "b_cubed": asdict(segmentation.b_cubed(predicted, gold)),
            }
        )
    return rows


def _found(found: Found) -> Cell:
    return {
        "answers": [{"dialogue_id": name, **_ids(chosen)} for name, chosen in found.answers],
        "seconds": found.seconds,
    }


def _corpus_counts(data: EvalData, position: int, found: Found) -> Cell:
    """Counts over (dialogue, turn) pairs of the corpus; the turn of an image counts as a turn.

    An id that does not exist is a wrong pair; `unknown` of `fp` are such.
    """
    dialogue, query = data.asked[position]
    by_id = {d.dialogue_id: d for d in data.dialogues}
    pairs = {
        (name, turn) for name, chosen in found.answers for turn in turns_of(by_id[name], chosen)
    }
    gold = {(dialogue.dialogue_id, turn) for turn in turns_of(dialogue, query.relevance)}
    unknown = sum(sum(_unknown(chosen).values()) for _, chosen in found.answers)
    return {
        "tp": len(gold & pairs),
        "fp": len(pairs - gold) + unknown,
        "fn": len(gold - pairs),
        "unknown": unknown,
    }


def _ids(selection: Selection) -> Cell:
    return {
        "utt_ids": sorted(selection.utterance_ids),
        "img_ids": sorted(selection.image_ids),
    }


def _unknown(selection: Selection) -> dict[str, int]:
    """Ids of the answer that do not exist; only models that name ids make some up."""
    if not isinstance(selection, Chosen):
        return {}
    return {
        "unknown_utt": selection.unknown_utterances,
        "unknown_img": selection.unknown_images,
    }


def open_clip_model(report: ReportConfig, data: EvalData) -> ClipEmbedder | None:
    """The CLIP model of Table 5, if the report names one."""
    if report.clip is None:
        return None
    from ffr_core.embedding.clip import ClipEmbedder
    from jobs.report.embedding_systems import image_opener

    return ClipEmbedder.open(report.clip, image_opener(data))


def cell_name(system: SystemConfig, item: SetConfig) -> str:
    """A file name; names are free text, so a hash keeps them apart."""
    text = f"{system.name}\n{item.name}"
    plain = "".join(c if c.isalnum() else "-" for c in f"{item.name}.{system.name}")[:60]
    return f"{plain}.{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
