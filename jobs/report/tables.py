"""All tables of a report: the paper's (`paper_layouts`), and those that it has no place for."""

from __future__ import annotations

from collections.abc import Mapping
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
    note = "F1 / MCC; for negative queries: share left empty."
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


def readme_table(report: Report) -> str:
    """One line a set and system with the main scores, for the README; only what was measured."""
    rows = []
    for item in report["sets"]:
        for system, cell in report["results"].get(item["name"], {}).items():
            if not any(part in cell for part in ("selection", "segmentation", "recall", "search")):
                continue
            chosen, parts = cell.get("selection"), cell.get("segmentation")
            recall, search = cell.get("recall"), cell.get("search")
            selected = chosen["micro"][chosen["headline"]] if chosen else {}
            rows.append(
                (
                    item["name"],
                    system,
                    f"{pct(parts['pairwise']['f1'])}" if parts else "",
                    f"{pct(recall['recall@1'])} / {pct(recall['recall@5'])}" if recall else "",
                    f"{pct(selected['f1'])} / {pct(selected['mcc'])}" if chosen else "",
                    f"{pct(search['f1'])}" if search else "",
                    f"{search['seconds']:.3f}" if search else "",
                )
            )
    table = ShownTable(
        number="readme",
        title="Results",
        columns=(
            *("set", "system", "pairwise F1", "Recall@1 / @5", "selection F1 / MCC"),
            *("search F1", "seconds a search"),
        ),
        rows=tuple(rows),
        note=f"Per cent. `{report['command']}`, commit {report['commit']}, {report['machine']}.",
    )
    return table.markdown().split("\n", 2)[2]


def _group(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_RUN
    if not found["recall"] and not found["tp_fn"]:
        return f"left empty {pct(found['left_empty'])}"
    return f"{pct(found['f1'])} / {pct(found['mcc'])}"
