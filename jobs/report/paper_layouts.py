"""The paper's tables: our numbers in its layout, its own numbers in columns of their own."""

from __future__ import annotations

from ffr_core.metrics.ranking import RECALL_CUTOFFS
from jobs.report.paper import DETAIL, paper_rows, paper_tables
from jobs.report.shown import (
    FOUR,
    NO_GOLD,
    NOT_RUN,
    Report,
    ShownTable,
    Summary,
    decimal,
    mean_sd,
    pct,
    printed_keys,
    set_rows,
    slashed,
    span,
)


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
        rows=set_rows(report, "2", "selection", measured, printed, width=6),
        note="Micro over queries. Joint precision and recall are harmonic means of utterances and"
        " images, 0 for a system that picks no image; joint F1 and MCC are arithmetic means. F1"
        " per dialogue is over the modalities that its gold names. The paper's numbers"
        " are of its own sets.",
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
        rows=set_rows(report, number, "selection", measured, printed, width=12, beside=beside),
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
        rows=set_rows(report, "5", "selection", measured, printed_keys("5", names), width=2),
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
        rows=set_rows(report, "8", "segmentation", measured, printed, width=6),
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
        rows=set_rows(report, "9", "recall", measured, printed, width=6),
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
        rows=set_rows(report, "10", "recall", measured, printed, width=1),
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
        rows=set_rows(report, "11", "search", measured, printed, width=2),
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
            *(mean_sd(found[name]) for name in ("relevance", "coverage", "overall")),
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
        ("paper only", "FFRS", *(mean_sd(value) for value in printed.values()), "100", "", "", "")
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
                *map(decimal, (one["alpha"], one["spearman"], one["kappa"])),
                str(one["shared"]),
            )
        )
    for name, one in found["top"].items() if found else ():
        rows.append((f"best {name}", "", "", decimal(one["kappa"]), str(one["shared"])))
    return ShownTable(
        number="agreement",
        title="Agreement of raters",
        columns=("criterion", "people: alpha", "judge: Spearman", "judge: kappa", "shared answers"),
        rows=tuple(rows) or (("all", *(NOT_RUN,) * 4),),
        note="Krippendorff's alpha (squared differences) over all people; the judge against the"
        " people's mean: Spearman, and Cohen's kappa with the mean rounded.",
    )
