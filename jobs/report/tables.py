"""Tables of a report in the layout of the paper's, the paper's numbers in columns of their own.

Scores are shown in per cent. What was not measured says "not run"; what the gold of a set does not
hold says "no gold".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ffr_core.metrics.ranking import RECALL_CUTOFFS
from jobs.report.config import Part
from jobs.report.paper import DETAIL, paper_row, paper_rows, paper_tables

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
            item["beside"],
        )
        for item in report["sets"]
    )
    columns = ("set", "dialogues", "turns", "queries", "left out", "paper's set beside it")
    return ShownTable(number="sets", title="Sets", columns=columns, rows=rows)


def overall(report: Report) -> ShownTable:
    """Joint scores; utterance scores where a set's gold names no image. Layout of Table 2."""

    def measured(summary: Summary) -> list[str]:
        found = summary["selection"]
        micro = found["micro"][found["headline"]]
        shown = [pct(micro[metric]) for metric in FOUR]
        for place, metric in ((2, "f1"), (3, "mcc")):
            shown[place] += span(found["intervals"][metric])
        mean = found["per_dialogue"][found["headline"]]["f1"]
        return [found["headline"], *shown, pct(mean)]

    def printed(name: str | None) -> list[str]:
        row = paper_rows("2").get(name or "", {})
        return [slashed(row.get(one)) for one in ("MLDR", "WeChat")]

    return ShownTable(
        number="2",
        title=paper_tables()["2"]["title"],
        columns=(
            *("set", "system", "ids", "precision", "recall", "F1 [95 %]", "MCC [95 %]"),
            *("F1 per dialogue", "paper MLDR: P / R / F1 / MCC", "paper WeChat"),
        ),
        rows=_rows(report, "2", "selection", measured, printed, width=6),
        note="Micro over queries. The paper's numbers are of its own sets.",
    )


def detail(report: Report, beside: str) -> ShownTable:
    """Utterances, images and joint. Layout of Tables 3, 4 and 14."""
    number = DETAIL[beside]
    modalities = ("utterance", "image", "joint")

    def measured(summary: Summary) -> list[str]:
        found = summary["selection"]
        shown: list[str] = []
        for modality in modalities:
            hidden = modality != "utterance" and found["headline"] == "utterance"
            scores = found["micro"][modality]
            shown += [NO_GOLD if hidden else pct(scores[metric]) for metric in FOUR]
        return shown

    def printed(name: str | None) -> list[str]:
        row = paper_rows(number).get(name or "", {})
        return [slashed(row.get(modality)) for modality in modalities]

    heads = [f"{m} {x}" for m in modalities for x in ("P", "R", "F1", "MCC")]
    return ShownTable(
        number=number,
        title=paper_tables()[number]["title"],
        columns=("set", "system", *heads, *(f"paper {m}" for m in modalities)),
        rows=_rows(report, number, "selection", measured, printed, width=12, beside=beside),
        note="Paper: P / R / F1 / MCC.",
    )


def coherence_table(report: Report) -> ShownTable:
    """Order consistency and query similarity by CLIP. Layout of Table 5."""
    names = ("consistency", "similarity")

    def measured(summary: Summary) -> list[str]:
        found = summary["selection"]
        return [
            f"{pct(found[n]['mean'])} ({found[n]['queries']})" if n in found else NOT_RUN
            for n in names
        ]

    return ShownTable(
        number="5",
        title=paper_tables()["5"]["title"],
        columns=(
            *("set", "system", "consistency (queries)", "similarity (queries)"),
            *("paper consistency", "paper similarity"),
        ),
        rows=_rows(report, "5", "selection", measured, _keys("5", names), width=2),
        note="Mean cosines x 100 by CLIP, over the selections that have enough elements.",
    )


def segmentation_table(report: Report) -> ShownTable:
    """Pairwise and B-cubed. Layout of Table 8."""
    parts = ("pairwise", "b_cubed")

    def measured(summary: Summary) -> list[str]:
        found = summary["segmentation"]
        shown = []
        for part in parts:
            shown += [pct(found[part][m]) for m in ("precision", "recall", "f1")]
            shown[-1] += span(found["intervals"][part])
        return shown

    def printed(name: str | None) -> list[str]:
        row = paper_rows("8").get(name or "", {})
        return [slashed(row.get(part), 1) for part in parts]

    heads = [f"{p} {m}" for p in ("pairwise", "B-cubed") for m in ("P", "R", "F1 [95 %]")]
    return ShownTable(
        number="8",
        title=paper_tables()["8"]["title"],
        columns=("set", "system", *heads, "paper pairwise: P / R / F1", "paper B-cubed"),
        rows=_rows(report, "8", "segmentation", measured, printed, width=6),
        note=f"Mean over dialogues. {paper_tables()['8']['note']}",
    )


def recall_table(report: Report) -> ShownTable:
    """Recall@k of the gold fragment among all gold fragments of the set. Layout of Table 9."""
    keys = tuple(f"recall@{k}" for k in RECALL_CUTOFFS)

    def measured(summary: Summary) -> list[str]:
        found = summary["recall"]
        shown = [str(found["queries"]), *(pct(found[key]) for key in keys)]
        shown[1] += span(found["intervals"]["recall@1"])
        return shown

    def printed(name: str | None) -> list[str]:
        return [slashed(paper_rows("9").get(name or ""), 1)]

    return ShownTable(
        number="9",
        title=paper_tables()["9"]["title"],
        columns=(
            "set",
            "system",
            "queries",
            "@1 [95 %]",
            *(f"@{k}" for k in RECALL_CUTOFFS[1:]),
            "paper @1 / 5 / 10 / 15 / 20",
        ),
        rows=_rows(report, "9", "recall", measured, printed, width=6),
    )


def cosine_table(report: Report) -> ShownTable:
    """Mean cosine of query and gold fragment. Layout of Table 10."""

    def measured(summary: Summary) -> list[str]:
        value = summary["recall"].get("cosine")
        return ["no vectors" if value is None else f"{value:.4f}"]

    def printed(name: str | None) -> list[str]:
        row = paper_rows("10").get(name or "")
        return ["" if row is None else f"{row['cosine']:.4f}"]

    return ShownTable(
        number="10",
        title=paper_tables()["10"]["title"],
        columns=("set", "system", "cosine", "paper"),
        rows=_rows(report, "10", "recall", measured, printed, width=1),
        note="Cosines of different encoders do not compare.",
    )


def latency(report: Report) -> ShownTable:
    """Seconds a query over the corpus. Layout of Table 11."""

    def measured(summary: Summary) -> list[str]:
        found = summary["search"]
        return [f"{found['seconds']:.3f}", f"{found['seconds_p95']:.3f}"]

    def printed(name: str | None) -> list[str]:
        row = paper_rows("11").get(name or "")
        return ["" if row is None else f"{row['seconds']}"]

    return ShownTable(
        number="11",
        title=paper_tables()["11"]["title"],
        columns=("set", "system", "mean", "95th percentile", "paper"),
        rows=_rows(report, "11", "search", measured, printed, width=2),
        note=f"Wall clock of one query at a time on {report['machine']}; other tasks may run beside"
        f" it. Paper: {paper_tables()['11']['note']}",
    )


def ratings(report: Report) -> ShownTable:
    """Ratings by people and by a judge, 1 to 5. Layout of Table 12."""
    judged = report.get("judging") or {}
    rows = [
        (
            source,
            system,
            *(_mean_sd(found[name]) for name in ("relevance", "coverage", "overall")),
            str(found["answers"]),
            *(str(found["top"][name]) for name in ("coverage", "relevance", "coherence")),
        )
        for source, systems in judged.get("ratings", {}).items()
        for system, found in systems.items()
    ]
    if not rows:
        rows = [("people and judge", "all systems", *(NOT_RUN,) * 7)]
    printed = paper_rows("12")["FFRS"]
    rows.append(
        ("paper only", "FFRS", *(_mean_sd(value) for value in printed.values()), "100", "", "", "")
    )
    return ShownTable(
        number="12",
        title=paper_tables()["12"]["title"],
        columns=(
            *("source", "system", "relevance (s.d.)", "coverage (s.d.)", "overall (s.d.)"),
            *("answers", "top: coverage", "top: relevance", "top: coherence"),
        ),
        rows=tuple(rows),
        note="Top choices as in Fig. 6; several systems may be chosen for one query.",
    )


def agreement_table(report: Report) -> ShownTable:
    """How far people agree, and the judge with them."""
    found = (report.get("judging") or {}).get("agreement")
    rows = []
    for name in ("relevance", "coverage") if found else ():
        one = found[name]
        rows.append(
            (
                name,
                *map(_decimal, (one["alpha"], one["spearman"], one["kappa"])),
                str(one["shared"]),
            )
        )
    for name, one in found["top"].items() if found else ():
        rows.append((f"best {name}", "", "", _decimal(one["kappa"]), str(one["shared"])))
    return ShownTable(
        number="agreement",
        title="Agreement of raters",
        columns=("criterion", "people: alpha", "judge: Spearman", "judge: kappa", "shared answers"),
        rows=tuple(rows) or (("all", *(NOT_RUN,) * 4),),
        note="Krippendorff's alpha (squared differences) over all people; the judge against the"
        " people's mean: Spearman, and Cohen's kappa with the mean rounded.",
    )


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
        rows=_rows(report, "", "search", measured, None, width=5),
    )


def groups_table(report: Report, name: str) -> ShownTable:
    """F1 and MCC of each group of queries, one column a system."""
    systems = [s["name"] for s in report["systems"] if _has(report, s, "selection")]
    rows = []
    for item in report["sets"]:
        cells = report["results"].get(item["name"], {})
        known = {s: cells[s]["selection"]["groups"][name] for s in systems if _part(cells, s)}
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


def pct(value: float | None) -> str:
    """A share in per cent."""
    return NOT_RUN if value is None else f"{100 * value:.2f}"


def span(limits: Sequence[float]) -> str:
    """` [low, high]` in per cent."""
    return f" [{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"


def slashed(row: Mapping[str, float] | None, digits: int = 2) -> str:
    """The paper's numbers of one group, as printed; empty where the paper has none."""
    return " / ".join(f"{value:.{digits}f}" for value in row.values()) if row else ""


def _rows(
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
    systems = [system for system in report["systems"] if _has(report, system, part)]
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


def _mean_sd(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None:
        return NOT_RUN
    return f"{value['mean']:.2f} ({value['sd']:.2f})"


def _decimal(value: float | None) -> str:
    return NOT_RUN if value is None else f"{value:.3f}"


def _keys(number: str, keys: Sequence[str]) -> Callable[[str | None], list[str]]:
    def printed(name: str | None) -> list[str]:
        row = paper_rows(number).get(name or "")
        return [f"{row[key]:.2f}" if row else "" for key in keys]

    return printed


def _has(report: Report, system: Mapping[str, Any], part: str) -> bool:
    """Whether a system has a part at all: measured somewhere, or kept from running."""
    return part in system["parts"] and any(
        part in cells.get(system["name"], {}) or cells.get(system["name"], {}).get("not_run")
        for cells in report["results"].values()
    )


def _part(cells: Mapping[str, Any], system: str) -> bool:
    return "selection" in cells.get(system, {})


def _group(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_RUN
    if not found["recall"] and not found["tp_fn"]:
        return f"left empty {pct(found['left_empty'])}"
    return f"{pct(found['f1'])} / {pct(found['mcc'])}"


def _plain(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


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
                    f"{search['seconds']:.2f}" if search else "",
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
