"""All tables of a report: the paper's (`paper_layouts`), and those that it has no place for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobs.report.paper import DETAIL
from jobs.report.paper_layouts import (
    agreement_table,
    coherence_table,
    cosine_table,
    detail,
    latency,
    overall,
    ratings,
    recall_table,
    segmentation_table,
)
from jobs.report.shown import (
    FOUR,
    NO_GOLD,
    NOT_RUN,
    Report,
    ShownTable,
    Summary,
    has_part,
    pct,
    set_rows,
    span,
)


def all_tables(report: Report) -> list[ShownTable]:
    """Every table of a report, in order."""
    return [
        sets_table(report),
        overall(report),
        *(detail(report, beside) for beside in DETAIL),
        coherence_table(report),
        segmentation_table(report),
        recall_table(report),
        cosine_table(report),
        latency(report),
        ratings(report),
        agreement_table(report),
        search_table(report),
        *(groups_table(report, name) for name in ("kind", "language", "turns", "span")),
        significance(report),
    ]


def sets_table(report: Report) -> ShownTable:
    """What was asked."""
    rows = tuple(
        (
            item["name"],
            str(item["dialogues"]),
            str(item["turns"]),
            str(item["queries"]),
            ", ".join(f"{n} {reason}" for reason, n in item["left_out"].items()) or "none",
            ", ".join(part for part in item["parts"] if part != "search") or NO_GOLD,
            item["beside"],
        )
        for item in report["sets"]
    )
    columns = (
        "set",
        "dialogues",
        "turns",
        "queries",
        "left out",
        "gold of",
        "paper's set beside it",
    )
    return ShownTable(number="sets", title="Sets", columns=columns, rows=rows)


def search_table(report: Report) -> ShownTable:
    """The whole system over a corpus; no table of the paper has gold for it."""

    def measured(summary: Summary) -> list[str]:
        found = summary["search"]
        shown = [pct(found[metric]) for metric in FOUR]
        shown[2] += span(found["intervals"]["f1"])
        return [str(found["queries"]), *shown]

    return ShownTable(
        number="search",
        title="Search over the corpus: (dialogue, turn) pairs",
        columns=("set", "system", "queries", "precision", "recall", "F1 [95 %]", "MCC"),
        rows=set_rows(report, "", "search", measured, None, width=5),
    )


def groups_table(report: Report, name: str) -> ShownTable:
    """F1 and MCC of each group of queries, one column a system."""
    systems = [s["name"] for s in report["systems"] if has_part(report, s, "selection")]
    rows = []
    for item in report["sets"]:
        cells = report["results"].get(item["name"], {})
        known = {
            s: cells[s]["selection"]["groups"][name]
            for s in systems
            if "selection" in cells.get(s, {})
        }
        for group in sorted({g for groups in known.values() for g in groups}):
            one = next(groups[group] for groups in known.values() if group in groups)
            shown = [_group(known[s].get(group)) if s in known else NOT_RUN for s in systems]
            rows.append((item["name"], group, str(one["queries"]), *shown))
    titles = {"turns": "turns of the dialogue (Fig. 7)", "span": "normalized span of the gold"}
    note = "F1 / MCC over the modalities that gold names; for negative queries: share left empty."
    if name == "span":
        note += " Span: (last - first + 1) / number of gold turns, our reading of Sec 5.1.3."
    return ShownTable(
        number=name,
        title=f"Selection by {titles.get(name, name)}",
        columns=("set", name, "queries", *systems),
        rows=tuple(rows),
        note=note,
    )


def significance(report: Report) -> ShownTable:
    """The reference minus each other system, paired over queries."""
    rows = []
    for item in report["sets"]:
        for system, found in report["differences"].get(item["name"], {}).items():
            for metric, d in found.items():
                sign = "yes" if d["significant"] else "no"
                shown = f"{100 * d['mean']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
                rows.append((item["name"], system, metric.replace("_", " "), shown, sign))
    return ShownTable(
        number="significance",
        title=f"{report['reference']} minus the others",
        columns=("set", "other system", "score", "difference [95 %]", "significant"),
        rows=tuple(rows),
        note="Paired bootstrap over the same queries (segmentation: dialogues), not corrected for"
        " the number of comparisons.",
    )


_README_SCORES: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "pairwise F1": lambda cell: _value(cell, "segmentation", "pairwise", "f1"),
    "Recall@1": lambda cell: _value(cell, "recall", "recall@1"),
    "Recall@5": lambda cell: _value(cell, "recall", "recall@5"),
    "selection F1": lambda cell: _selected(cell, "f1"),
    "selection MCC": lambda cell: _selected(cell, "mcc"),
    "search F1": lambda cell: _value(cell, "search", "f1"),
}


def readme_table(report: Report) -> str:
    """One line a set, for the README: the reference system and the best of the others."""
    reference = report["reference"]
    rows = []
    for item in report["sets"]:
        cells = report["results"].get(item["name"], {})
        shown = []
        for score in _README_SCORES.values():
            found = {name: value for name, c in cells.items() if (value := score(c)) is not None}
            own = found.pop(reference, None)
            best = max(found, key=lambda name: found[name]) if found else ""
            beside = f" / {pct(found[best])} {best}" if found else ""
            shown.append("" if own is None else f"{pct(own)}{beside}")
        if any(shown):
            rows.append((item["name"], *shown))
    table = ShownTable(
        number="readme",
        title="Results",
        columns=("set", *_README_SCORES),
        rows=tuple(rows),
        note=f"Per cent; {reference} / the best other system measured. `{report['command']}`,"
        f" commit {report['commit']}, {report['machine']}.",
    )
    return table.markdown().split("\n", 2)[2]


def _value(cell: Mapping[str, Any], *keys: str) -> float | None:
    found: Any = cell
    for key in keys:
        found = found.get(key)
        if found is None:
            return None
    return float(found)


def _selected(cell: Mapping[str, Any], score: str) -> float | None:
    chosen = cell.get("selection")
    return float(chosen["micro"][chosen["headline"]][score]) if chosen else None


def _group(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_RUN
    if not found["tp_fn"]:
        return f"left empty {pct(found['left_empty'])}"
    return f"{pct(found['f1'])} / {pct(found['mcc'])}"
