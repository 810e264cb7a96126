"""Print results of `ffrs eval --baseline --json` as rows of the README's tables.

    python -m jobs.eval_table results/friendsqa.json results/locomo.json

Per cent, one row a file, named after the file. A part without gold labels is empty.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.errors import InputError
from jobs.cli_common import clear_errors

SEGMENTERS = ("even_cuts", "text_tiling", "reply_rule")
HEAD = (
    "| set | pairwise F1: profile / even cuts / text-tiling / reply rule"
    " | queries | Recall@1 / @5: profile | BM25 | utterance F1: profile / best baseline"
    " | whole system F1: profile / best baseline |\n|---|---|---|---|---|---|---|"
)


def row(name: str, results: dict[str, Any]) -> str:
    """One line of the table.

    Raises:
        InputError: The results hold no baselines.
    """
    if "baselines" not in results:
        raise InputError(
            f"{name} holds no results of baselines; measure it with"
            f" `ffrs eval --data FILE --json {name}.json --baseline`"
        )
    compared = results["baselines"]
    cells = [name, "", str(results["queries"] or "none"), "", "", "", ""]
    if "segmentation" in results:
        others = [compared["segmentation"][s]["pairwise"]["f1"] for s in SEGMENTERS]
        cells[1] = _percent(results["segmentation"]["pairwise"]["f1"], *others)
    if "recall" in results:
        cells[3:5] = [
            _percent(r["recall@1"], r["recall@5"])
            for r in (results["recall"], compared["recall"]["bm25_fragments"])
        ]
    if "selection" in results:
        best = max(r["utterance"]["f1"] for r in compared["selection"].values())
        cells[5] = _percent(results["selection"]["utterance"]["f1"], best)
    if "corpus" in results:
        best = max(r["f1"] for r in compared["corpus"].values())
        cells[6] = _percent(results["corpus"]["f1"], best)
    return f"| {' | '.join(cells)} |"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no result of `ffrs eval --json`: {error}; give the file that it wrote"
        ) from error


def _percent(*shares: float) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in shares)


@clear_errors
def main(results: Annotated[list[Path], typer.Argument(help="JSON files of `ffrs eval`.")]) -> None:
    """Print the table."""
    print(HEAD)
    for path in results:
        print(row(path.stem, _read(path)))


if __name__ == "__main__":
    typer.run(main)
