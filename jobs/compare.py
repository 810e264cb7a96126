"""Run a list of systems over a list of sets on Ray and write one report.

    python -m jobs.compare --config jobs/configs/laptop/report.toml
    ray job submit --address http://HEAD:8265 -- python -m jobs.compare --config FILE.toml

One task a (system, set). Writes `runs/<name>/`: `report.md`, `report.html`, `report.json`,
`plots/*.png`, `failures.html`, and `cells/*.json` with every answer; a rerun measures only what
changed. On a cluster `--out` is a folder that all nodes share.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.errors import FfrError
from jobs.checkout import commit
from jobs.report.cell import Cell, run_cell
from jobs.report.config import ReportConfig, SetConfig, SystemConfig, load_config
from jobs.report.failures import failures_page, worst
from jobs.report.judge_job import summarize_judging
from jobs.report.paper import check_rows
from jobs.report.plots import draw_all
from jobs.report.scoring import compare, summarize
from jobs.report.sets import load_data


def run(config: ReportConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Measure every cell, then write the report; returns what `report.json` holds."""
    for system in config.systems:
        check_rows(system.paper_row, system.name)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    cells = measure_all(config, out)
    report = build_report(config, cells, command)
    if (out / "judging.json").is_file():
        report["judging"] = summarize_judging(out)
    write(report, cells, config, out)
    return report


def measure_all(config: ReportConfig, out: Path) -> list[Cell]:
    """One Ray task a (system, set), in the order of the file; progress goes to the terminal."""
    import ray

    from serve.runtime import ray_session

    pairs = [(system, item) for item in config.sets for system in config.systems]
    needed = max(system.num_cpus for system in config.systems)
    with ray_session(num_cpus=max(2, round(needed))):
        remote = ray.remote(max_retries=1)(_task)
        waiting = {
            remote.options(
                num_cpus=system.num_cpus,
                num_gpus=system.num_gpus,
                name=f"{system.name} on {item.name}",
            ).remote(config, system, item, str(out.resolve())): number
            for number, (system, item) in enumerate(pairs)
        }
        found: dict[int, Cell] = {}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done[0])
            system, item = pairs[number]
            found[number] = _result(done[0], system, item)
            state = found[number]["not_run"] or f"{found[number]['seconds']} s"
            print(f"[{len(found)}/{len(pairs)}] {system.name} on {item.name}: {state}", flush=True)
    return [found[number] for number in range(len(pairs))]


def _task(config: ReportConfig, system: SystemConfig, item: SetConfig, out: str) -> Cell:
    return run_cell(config, system, item, Path(out))


def _result(reference: Any, system: SystemConfig, item: SetConfig) -> Cell:
    """The cell, or a cell that says why its task died; one system never ends the report."""
    import ray

    try:
        cell: Cell = ray.get(reference)
        return cell
    except ray.exceptions.RayError as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()
        return {
            "system": system.name,
            "set": item.name,
            "not_run": f"{type(error).__name__}: {reason[-1] if reason else 'no message'}",
            "counts": {},
            "queries": [],
            "seconds": 0.0,
        }


def build_report(config: ReportConfig, cells: Sequence[Cell], command: str) -> dict[str, Any]:
    """Scores, intervals and differences of all cells."""
    results: dict[str, dict[str, Any]] = {item.name: {} for item in config.sets}
    by_place = {(cell["set"], cell["system"]): cell for cell in cells}
    differences: dict[str, dict[str, Any]] = {}
    for cell in cells:
        results[cell["set"]][cell["system"]] = summarize(cell, config.resamples)
        reference = by_place[cell["set"], config.reference]
        if cell["system"] != config.reference:
            found = compare(reference, cell, config.resamples)
            differences.setdefault(cell["set"], {})[cell["system"]] = found
    return {
        "name": config.name,
        "command": command,
        "commit": commit(digits=7),
        "machine": machine(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "reference": config.reference,
        "systems": [
            {
                "name": system.name,
                "kind": system.kind,
                "paper_row": system.paper_row,
                "parts": config.abilities(system),
            }
            for system in config.systems
        ],
        "sets": [_described(item, cells) for item in config.sets],
        "results": results,
        "differences": differences,
        "judging": None,
    }


def _described(item: SetConfig, cells: Sequence[Cell]) -> dict[str, Any]:
    read = next((c for c in cells if c["set"] == item.name and "dialogues" in c), None)
    known: Mapping[str, Any] = read or {}
    return {
        "name": item.name,
        "beside": item.beside,
        "dialogues": known.get("dialogues", 0),
        "turns": known.get("turns", 0),
        "queries": len(known.get("queries", ())),
        "left_out": known.get("left_out", {}),
        "parts": known.get("gold", []),
    }


def write(
    report: Mapping[str, Any], cells: Sequence[Cell], config: ReportConfig, out: Path
) -> None:
    """All files of a report."""
    show(report, out)
    failures = [found for cell in cells for found in worst(cell, config.worst)]
    dialogues = {}
    for item in config.sets:
        if any(failure.set_name == item.name for failure in failures):
            for dialogue in load_data(item).dialogues:
                dialogues[item.name, dialogue.dialogue_id] = dialogue
    page = failures_page(failures, dialogues)
    (out / "failures.html").write_text(page, encoding="utf-8")


def show(report: Mapping[str, Any], out: Path) -> None:
    """The files that follow from `report.json` alone."""
    from jobs.report.page import html, markdown
    from jobs.report.tables import all_tables

    (out / "report.json").write_text(
        json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    tables, plots = all_tables(report), draw_all(report, out / "plots")
    (out / "report.md").write_text(markdown(report, tables, plots), encoding="utf-8")
    page = html(report, tables, plots, out / "plots")
    (out / "report.html").write_text(page, encoding="utf-8")


def machine() -> str:
    """Processor, cores and memory of the machine that writes the report."""
    import os

    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def main(
    config: Annotated[Path, typer.Option(help="TOML file of a report.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report.", show_default="runs/NAME")
    ] = None,
) -> None:
    """Measure and write the report."""
    try:
        settings = load_config(config)
        folder = out or Path("runs") / settings.name
        run(settings, folder, f"python -m jobs.compare {shlex.join(sys.argv[1:])}")
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(f"{folder / 'report.md'}, {folder / 'report.html'}, {folder / 'failures.html'}")


if __name__ == "__main__":
    typer.run(main)
