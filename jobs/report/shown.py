"""A table as text, and what all tables of a report share.

Scores are shown in per cent. What was not measured says "not run"; what the gold of a set does not
hold says "no gold".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.config import Part
from jobs.report.paper import paper_row, paper_rows

NOT_RUN = "not run"
NO_GOLD = "no gold"
FOUR = ("precision", "recall", "f1", "mcc")
Report = Mapping[str, Any]
Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTable:
    """A table as text."""

    number: str
    """Of the paper's table, or a word."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """As Markdown, typed text escaped."""
        lines = [f"### {self.heading}", ""]
        for row in (self.columns, ("---",) * len(self.columns), *self.rows):
            lines.append(f"| {' | '.join(map(_plain, row))} |")
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    @property
    def heading(self) -> str:
        """`Table N: title`."""
        return f"Table {self.number}: {self.title}" if self.number.isdigit() else self.title


def pct(value: float | None) -> str:
    """A share in per cent."""
    return NOT_RUN if value is None else f"{100 * value:.2f}"


def span(limits: Sequence[float]) -> str:
    """` [low, high]` in per cent."""
    return f" [{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"


def slashed(row: Mapping[str, float] | None, digits: int = 2) -> str:
    """The paper's numbers of one group, as printed; empty where the paper has none."""
    return " / ".join(f"{value:.{digits}f}" for value in row.values()) if row else ""


def mean_sd(value: Mapping[str, float | None]) -> str:
    """`mean (deviation)`."""
    if value["mean"] is None:
        return NOT_RUN
    return f"{value['mean']:.2f} ({value['sd']:.2f})"


def decimal(value: float | None) -> str:
    """Three decimals."""
    return NOT_RUN if value is None else f"{value:.3f}"


def set_rows(
    report: Report,
    number: str,
    part: Part,
    measured: Callable[[Summary], list[str]],
    printed: Callable[[str | None], list[str]] | None,
    width: int,
    beside: str | None = None,
) -> tuple[tuple[str, ...], ...]:
    """One row a set and system, then the paper's rows that no system stands for."""
    rows: list[tuple[str, ...]] = []
    used = set()
    systems = [system for system in report["systems"] if has_part(report, system, part)]
    for item in report["sets"]:
        if beside not in (None, item["beside"]) or part not in item["parts"]:
            continue
        for system in systems:
            summary = report["results"].get(item["name"], {}).get(system["name"], {})
            ours = measured(summary) if part in summary else [NOT_RUN] * width
            row: tuple[str, ...] = (item["name"], system["name"], *ours)
            if printed is not None:
                name = paper_row(system["paper_row"], number)
                used.add(name)
                row += tuple(printed(name))
            rows.append(row)
    for name in paper_rows(number) if printed else ():
        if name not in used and printed is not None:
            rows.append(("paper only", name, *[NOT_RUN] * width, *printed(name)))
    return tuple(rows)


def printed_keys(number: str, keys: Sequence[str]) -> Callable[[str | None], list[str]]:
    """Shows some numbers of the paper's row, a cell each."""

    def printed(name: str | None) -> list[str]:
        row = paper_rows(number).get(name or "")
        return [f"{row[key]:.2f}" if row else "" for key in keys]

    return printed


def has_part(report: Report, system: Mapping[str, Any], part: str) -> bool:
    """Whether a system has a part at all: measured somewhere, or kept from running."""
    return part in system["parts"] and any(
        part in cells.get(system["name"], {}) or cells.get(system["name"], {}).get("not_run")
        for cells in report["results"].values()
    )


def _plain(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
