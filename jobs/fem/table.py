"""The table of a sweep: Recall@K before training and of the best adapter, mean and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ffr_core.metrics.ranking import RECALL_CUTOFFS
from jobs.training.logs import mean_and_spread


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """One run of a sweep."""

    row: str
    """Runs of one row differ in their seed."""
    before: Mapping[str, float]
    """Metrics of step 0."""
    best: Mapping[str, float]
    """Metrics of the adapter with the best Recall@1 on validation."""


def render(results: Sequence[SweepResult]) -> str:
    """Markdown: one row for the encoder as it is, one for each setting, in per cent.

    The scores are those of the held-out sets where there are any, else of the validation sets,
    on which the adapter was chosen.
    """
    side = "held_out" if any("held_out/recall@1" in r.best for r in results) else "validation"
    names = [f"{side}/recall@{k}" for k in RECALL_CUTOFFS]
    title = side.replace("_", "-")
    lines = [
        "| " + " | ".join([title, *(f"Recall@{k}" for k in RECALL_CUTOFFS), "seeds"]) + " |",
        "|" + "---|" * (len(names) + 2),
        _row("zero-shot", [result.before for result in results], names),
    ]
    for row in dict.fromkeys(result.row for result in results):
        lines.append(_row(row, [r.best for r in results if r.row == row], names))
    return "\n".join(lines) + "\n"


def _row(name: str, runs: Sequence[Mapping[str, float]], names: Sequence[str]) -> str:
    cells = [mean_and_spread([run[m] for run in runs if m in run], 1) for m in names]
    return "| " + " | ".join([name, *cells, str(len(runs))]) + " |"
