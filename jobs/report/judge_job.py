"""What `ffrs judge` does: write sheets, read them back, ask a model, and put it into the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ffr_core.config import Config
from ffr_core.engine.config import EngineConfig
from ffr_core.errors import InputError, NotFoundError
from jobs.report.agreement import agreement, summarize_ratings
from jobs.report.cell import Cell, cell_name
from jobs.report.config import ReportConfig
from jobs.report.judging import (
    Item,
    Rating,
    csv_sheet,
    key_of,
    make_items,
    rating_from_record,
    rating_record,
    read_sheets,
)
from jobs.report.sets import load_data


class JudgeConfig(Config):
    """A TOML file of `ffrs judge --engine`."""

    name: str = "judge"
    """Of the rater."""
    engine: EngineConfig
    images: bool = False
    """Pictures go to the engine; else their captions only."""
    max_attempts: int = 3
    max_turns: int = 200
    """Longer conversations are cut to the answers and the turns around them."""


def check_run(run: Path) -> Path:
    """The configuration file of a report.

    Raises:
        NotFoundError: No such folder, or no report in it.
    """
    path = run / "config.json"
    if not run.is_dir():
        raise NotFoundError(f"there is no folder {run}; `python -m jobs.compare` makes a report")
    if not path.is_file():
        raise NotFoundError(f"{run} holds no report; `python -m jobs.compare` makes one")
    return path


def load_run(run: Path) -> tuple[ReportConfig, list[Cell]]:
    """Configuration and cells of a report.

    Raises:
        NotFoundError: No such report.
    """
    path = check_run(run)
    config = ReportConfig.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    cells = []
    for item in config.sets:
        for system in config.systems:
            file = run / "cells" / cell_name(system, item)
            if file.is_file():
                cells.append(json.loads(file.read_text(encoding="utf-8")))
    return config, cells


def items_of(run: Path, set_name: str, limit: int | None) -> tuple[list[Item], dict[str, Any]]:
    """Blind items of a set, and its dialogues by id.

    Raises:
        NotFoundError: The report has no such set.
    """
    config, cells = load_run(run)
    item = next((item for item in config.sets if item.name == set_name), None)
    if item is None:
        names = ", ".join(s.name for s in config.sets)
        raise NotFoundError(f"{run} has no set {set_name!r}; use one of {names}")
    dialogues = {d.dialogue_id: d for d in load_data(item).dialogues}
    return make_items(cells, set_name, limit), dialogues


def write_sheets(run: Path, set_name: str, limit: int | None = None) -> list[Path]:
    """Write `judging/sheet.csv`, `sheet.html` and the key that raters must not see.

    The key keeps the items of earlier sheets, which raters may still hold.
    """
    from jobs.report.judge_page import html_sheet

    items, dialogues = items_of(run, set_name, limit)
    folder = run / "judging"
    folder.mkdir(exist_ok=True)
    files = {
        # Spreadsheets take a file without this mark for another encoding.
        "sheet.csv": "\ufeff" + csv_sheet(items, dialogues),
        "sheet.html": html_sheet(items, dialogues),
        "key.json": json.dumps(_key(run) | key_of(items), indent=1) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in files]


def read_filled(run: Path, sheets: Sequence[Path]) -> dict[str, Any]:
    """Read filled sheets, keep the people's ratings, and update the report.

    Raises:
        NotFoundError: No sheet was written for this report.
    """
    key = _key(run)
    if not key:
        raise NotFoundError(
            f"{run} has no judging/key.json; `ffrs judge {run} --set NAME` writes sheets first"
        )
    ratings, left_out = read_sheets(sheets, key)
    _keep(run, "people", ratings)
    return {"read": len(ratings), "left_out": left_out, **update(run)}


def ask_judge(
    run: Path,
    set_name: str,
    settings: JudgeConfig,
    prompts: Path | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Ask the model about the same items, keep its ratings, and update the report."""
    from ffr_core.engine.build import build_engine
    from ffr_core.images import ImageLimits, ImageReader
    from jobs.report.judge_llm import JudgePrompts, judge_items

    items, dialogues = items_of(run, set_name, limit)
    config, _ = load_run(run)
    roots = tuple(load_data(item).folder for item in config.sets if item.name == set_name)
    engine = build_engine(settings.engine, ImageReader(limits=ImageLimits(roots=roots)))
    try:
        found = judge_items(
            engine,
            items,
            dialogues,
            name=settings.name,
            prompts=JudgePrompts.open(prompts),
            max_attempts=settings.max_attempts,
            max_turns=settings.max_turns,
            images=settings.images,
        )
    finally:
        engine.close()
    _keep(run, "judge", found.ratings)
    letters = "".join(json.dumps(letter) + "\n" for letter in found.dead_letters)
    (run / "judging" / "dead_letter.jsonl").write_text(letters, encoding="utf-8")
    counts = {"dead_letters": len(found.dead_letters), "faults": found.faults}
    return {"rated": len(found.ratings), **counts, **update(run)}


def update(run: Path) -> dict[str, Any]:
    """Means and agreement of everything rated so far, into `judging.json` and the report."""
    judged = summarize_judging(run)
    path = run / "report.json"
    if path.is_file():
        from jobs.compare import show

        show(json.loads(path.read_text(encoding="utf-8")) | {"judging": judged}, run)
    return judged


def summarize_judging(run: Path) -> dict[str, Any]:
    """Write `judging.json`: means and agreement of the ratings of the answers that stand now.

    Ratings of other items, whose systems or answers have changed since, stay in `judging/` and are
    counted as `outdated`.
    """
    current = _current_items(run)
    kept = {source: _kept(run, source) for source in ("people", "judge")}
    known = {
        source: [rating for rating in ratings if rating.item_id in current]
        for source, ratings in kept.items()
    }
    judged = {
        "ratings": {source: summarize_ratings(found) for source, found in known.items() if found},
        "agreement": agreement(known["people"], known["judge"]),
        "outdated": {source: len(kept[source]) - len(found) for source, found in known.items()},
    }
    text = json.dumps(judged, ensure_ascii=False, indent=1) + "\n"
    (run / "judging.json").write_text(text, encoding="utf-8")
    return judged


def _current_items(run: Path) -> set[str]:
    """Ids of all items that the cells make; a set that no system answered has none."""
    config, cells = load_run(run)
    current: set[str] = set()
    for item in config.sets:
        with suppress(InputError):
            current |= {made.item_id for made in make_items(cells, item.name)}
    return current


def _key(run: Path) -> dict[str, dict[str, str]]:
    """Item -> letter -> system of all sheets written so far."""
    path = run / "judging" / "key.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _keep(run: Path, source: str, ratings: Sequence[Rating]) -> None:
    """Add ratings to those kept; the newest of a rater about an answer counts."""
    merged = {(r.item_id, r.system, r.rater): r for r in (*_kept(run, source), *ratings)}
    records = [rating_record(rating) for rating in merged.values()]
    text = json.dumps(records, ensure_ascii=False, indent=1) + "\n"
    folder = run / "judging"
    folder.mkdir(exist_ok=True)
    (folder / f"{source}.json").write_text(text, encoding="utf-8")


def _kept(run: Path, source: str) -> list[Rating]:
    path = run / "judging" / f"{source}.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [rating_from_record(record) for record in records]
