"""What `ffrs eval` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ffr_core.metrics.ranking import RECALL_CUTOFFS


def describe(results: dict[str, Any]) -> str:
    """The results in per cent, a line per part and system."""
    compared = results.get("baselines", {})
    lines = [f"{results['queries']} queries"]
    for part, pick in _SHOWN.items():
        if part in results:
            lines.append(f"{part:13} {'profile':16} {pick(results[part])}")
            for name, other in compared.get(part, {}).items():
                lines.append(f"{'':13} {name:16} {pick(other)}{_interval(other)}")
    return "\n".join(lines)


def _interval(other: dict[str, Any]) -> str:
    for key in ("pairwise_f1_difference", "utterance_f1_difference", "f1_difference"):
        if key in other:
            return _shown_difference("F1", other[key])
    return "".join(
        _shown_difference(name, value) for name, value in other.get("differences", {}).items()
    )


def _shown_difference(name: str, value: dict[str, float]) -> str:
    mean, low, high = (100 * value[key] for key in ("mean", "low", "high"))
    return f"  profile - this, {name}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _shown(**scores: float) -> str:
    return "  ".join(f"{name} {100 * value:5.1f}" for name, value in scores.items())


_SHOWN: dict[str, Callable[[dict[str, Any]], str]] = {
    "segmentation": lambda r: _shown(pairwise=r["pairwise"]["f1"], b_cubed=r["b_cubed"]["f1"]),
    "recall": lambda r: "  ".join(f"@{k} {100 * r[f'recall@{k}']:5.1f}" for k in RECALL_CUTOFFS),
    "selection": lambda r: "  ".join(
        f"{m}: {_shown(P=r[m]['precision'], R=r[m]['recall'], F1=r[m]['f1'], MCC=r[m]['mcc'])}"
        for m in ("utterance", "image", "joint")
        if m in r
    ),
    "corpus": lambda r: _shown(P=r["precision"], R=r["recall"], F1=r["f1"], MCC=r["mcc"]),
}
