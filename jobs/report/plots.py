"""Plots of a report as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffr_core.metrics.ranking import RECALL_CUTOFFS

Report = Mapping[str, Any]
BUCKETS = ("up to 35", "36 to 65", "over 65")


def draw_all(report: Report, folder: Path) -> list[str]:
    """Draw what the report has; returns the names of the files."""
    import matplotlib

    matplotlib.use("Agg")
    # Chinese names of sets and systems, where the machine has such a font.
    matplotlib.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "DejaVu Sans"]
    matplotlib.rcParams["font.family"] = "sans-serif"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [
        bars(report, folder / "selection.png", "selection", "Selection, F1 (95 % interval)"),
        bars(report, folder / "segmentation.png", "segmentation", "Segmentation, pairwise F1"),
        bars(report, folder / "search.png", "search", "Search over the corpus, F1"),
        turn_lines(report, folder / "turns.png"),
        recall_curves(report, folder / "recall.png"),
        seconds(report, folder / "seconds.png"),
    ]
    return [path.name for path in drawn if path is not None]


def bars(report: Report, path: Path, part: str, title: str) -> Path | None:
    """F1 of each system, grouped by set."""
    systems, sets = _having(report, part)
    if not systems:
        return None
    figure, axes = _figure(1.6 * len(sets) + 0.25 * len(systems) * len(sets))
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        at, values, low, high = [], [], [], []
        for place, name in enumerate(sets):
            found = report["results"][name].get(system, {}).get(part)
            if found is None:
                continue
            value, limits = _f1(found, part)
            at.append(place + (number - (len(systems) - 1) / 2) * width)
            values.append(100 * value)
            low.append(100 * max(0.0, value - limits[0]))
            high.append(100 * max(0.0, limits[1] - value))
        axes.bar(at, values, width, yerr=[low, high], capsize=2, label=system)
    axes.set_xticks(range(len(sets)), sets, rotation=20, ha="right")
    axes.set(ylabel="per cent", ylim=(0, 100), title=title)
    return _save(figure, axes, path)


def turn_lines(report: Report, path: Path) -> Path | None:
    """Selection F1 by length of the dialogue, all sets that span several lengths. As Fig. 7."""
    systems, sets = _having(report, "selection")
    lines = []
    for name in sets:
        for system in systems:
            found = report["results"][name].get(system, {}).get("selection")
            groups = found["groups"]["turns"] if found else {}
            places = [i for i, bucket in enumerate(BUCKETS) if bucket in groups]
            if len(places) > 1:
                values = [100 * groups[BUCKETS[i]]["f1"] for i in places]
                lines.append((f"{name}: {system}", places, values))
    if not lines:
        return None
    figure, axes = _figure(7)
    for label, places, values in lines:
        axes.plot(places, values, marker="o", label=label)
    axes.set_xticks(range(3), BUCKETS)
    axes.set(ylabel="F1, per cent", ylim=(0, 100), title="Selection by turns of the dialogue")
    return _save(figure, axes, path)


def recall_curves(report: Report, path: Path) -> Path | None:
    """Recall@k of each system, a panel a set."""
    systems, sets = _having(report, "recall")
    if not systems:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(sets) + 1.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, name in zip(panels, sets, strict=True):
        for system in systems:
            found = report["results"][name].get(system, {}).get("recall")
            if found:
                values = [100 * found[f"recall@{k}"] for k in RECALL_CUTOFFS]
                axes.plot(RECALL_CUTOFFS, values, marker="o", label=system)
        axes.set(title=name, xlabel="k", ylabel="Recall@k, per cent", ylim=(0, 101))
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    return path


def seconds(report: Report, path: Path) -> Path | None:
    """Seconds a query over the corpus, logarithmic."""
    systems, sets = _having(report, "search")
    rows = [
        (f"{name}: {system}", report["results"][name][system]["search"]["seconds"])
        for name in sets
        for system in systems
        if "search" in report["results"][name].get(system, {})
    ]
    if not rows:
        return None
    figure, axes = _figure(7, 0.3 * len(rows) + 1.2)
    axes.barh([label for label, _ in rows], [max(value, 1e-6) for _, value in rows])
    axes.set(xscale="log", xlabel="seconds a query", title="Latency of a search")
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)
    return path


def _f1(found: Mapping[str, Any], part: str) -> tuple[float, Sequence[float]]:
    if part == "selection":
        return found["micro"][found["headline"]]["f1"], found["intervals"]["f1"]
    if part == "segmentation":
        return found["pairwise"]["f1"], found["intervals"]["pairwise"]
    return found["f1"], found["intervals"]["f1"]


def _having(report: Report, part: str) -> tuple[list[str], list[str]]:
    results = report["results"]
    systems = [
        s["name"]
        for s in report["systems"]
        if any(part in cells.get(s["name"], {}) for cells in results.values())
    ]
    sets = [
        s["name"]
        for s in report["sets"]
        if any(part in cell for cell in results.get(s["name"], {}).values())
    ]
    return systems, sets


def _figure(width: float, height: float = 4.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(max(width, 5), 22), min(height, 20)), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: Path) -> Path:
    axes.legend(fontsize=7, ncols=2)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
