"""The data card: what a built data set holds, with the paper's numbers in a column of their own.

Layout of the paper's Tables 1 and 13 and Fig. 3: dialogues, turns, topics, images, turn lengths,
topics by frequency, kinds of queries, the splits, and what every step kept and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.dataset.long_dialogue import LongDialogue
from ffr_core.types import QueryKind

PAPER = {
    "dialogues": "37,030",
    "images": "194,543",
    "turns": "942,414",
    "turns_per_dialogue": "25.45",
    "topics_per_dialogue": "3.00",
    "validation": "1,000",
    "fem_test_pairs": "500",
    "fem_train_pairs": "62,654",
    "boundary_train": "23,584",
    "language": "zh",
}
"""Source: Tables 1 and 13, Sec 6.1 and 6.2, as stated."""
_ROWS = (
    ("dialogues", "long dialogues"),
    ("turns", "turns"),
    ("turns_per_dialogue", "turns a dialogue, mean"),
    ("topics_per_dialogue", "topics a dialogue, mean"),
    ("images", "images (each counted once)"),
    ("images_per_dialogue", "images a dialogue, mean"),
    ("language", "language"),
    ("queries", "queries"),
    ("qa_pairs", "QA pairs"),
    ("validation", "validation dialogues"),
    ("boundary_train", "boundary model, training dialogues"),
    ("boundary_test", "boundary model, test dialogues"),
    ("fem_train_pairs", "FEM, training pairs"),
    ("fem_test_pairs", "FEM, test pairs"),
)
_TOPICS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The numbers of a data set."""

    numbers: Mapping[str, Any]
    """By the names of `PAPER` and more."""
    turn_lengths: tuple[int, ...]
    """Turns of each dialogue."""
    coarse_tags: Mapping[str, int]
    """Dialogues with each coarse tag, most frequent first."""
    fine_tags: int
    """Different fine tags."""
    kinds: Mapping[str, int]
    """Queries by kind."""
    pools: Mapping[str, int]
    """Dialogues by pool."""
    steps: Mapping[str, Any]
    """What each step counted."""


def make_card(
    items: Sequence[LongDialogue], splits: Mapping[str, int], steps: Mapping[str, Any]
) -> Card:
    """Count.

    Args:
        items: All long dialogues of the data set, with queries.
        splits: Sizes of the written files, by the names of `PAPER`.
        steps: What each step counted, in order.
    """
    lengths = tuple(len(item.dialogue.turns) for item in items)
    topics = [len(item.dialogue.fragments or ()) for item in items]
    images = {key for item in items for key in item.image_keys}
    coarse: Counter[str] = Counter()
    fine: set[str] = set()
    kinds: Counter[str] = Counter()
    for item in items:
        tags = [*item.utterance_tags.values(), *item.image_tags.values()]
        coarse.update({tag.coarse for tag in tags})
        fine.update(tag.fine for tag in tags)
        kinds.update(q.kind.value for q in item.dialogue.queries or () if q.kind)
    numbers = {
        "dialogues": len(items),
        "turns": sum(lengths),
        "turns_per_dialogue": _mean(lengths),
        "topics_per_dialogue": _mean(topics),
        "images": len(images),
        "images_per_dialogue": _mean([len(item.dialogue.images) for item in items]),
        "language": ", ".join(sorted({item.dialogue.language or "?" for item in items})),
        "queries": sum(kinds.values()),
        "qa_pairs": sum(len(pairs) for item in items for pairs in item.qa.values()),
        **splits,
    }
    return Card(
        numbers=numbers,
        turn_lengths=lengths,
        coarse_tags=dict(sorted(coarse.items(), key=lambda pair: (-pair[1], pair[0]))),
        fine_tags=len(fine),
        kinds={kind.value: kinds[kind.value] for kind in QueryKind},
        pools=dict(sorted(Counter(item.pool for item in items).items())),
        steps=steps,
    )


def card_json(card: Card) -> dict[str, Any]:
    """The card as JSON; the turn lengths as a histogram."""
    histogram = Counter(card.turn_lengths)
    return {
        "numbers": dict(card.numbers),
        "paper": PAPER,
        "turn_lengths": {str(length): histogram[length] for length in sorted(histogram)},
        "coarse_tags": dict(card.coarse_tags),
        "fine_tags": card.fine_tags,
        "query_kinds": dict(card.kinds),
        "pools": dict(card.pools),
        "steps": dict(card.steps),
    }


def card_markdown(card: Card, command: str) -> str:
    """The card for people; `command` made the data set."""
    lines = ["# Data card", "", f"Made by `{command}`.", ""]
    lines += ["| | this set | MLDR (paper) |", "|---|---|---|"]
    for name, label in _ROWS:
        if name in card.numbers:
            lines.append(f"| {label} | {_shown(card.numbers[name])} | {PAPER.get(name, '')} |")
    lines += ["", "![Turns a dialogue](turns.png)", "", "## Queries", ""]
    lines += ["| kind | queries |", "|---|---|"]
    lines += [f"| {kind} | {number} |" for kind, number in card.kinds.items()]
    lines += ["", "![Queries](queries.png)", "", "## Topics", ""]
    lines.append(
        f"{len(card.coarse_tags)} coarse and {card.fine_tags} fine tags;"
        f" the {min(_TOPICS_SHOWN, len(card.coarse_tags))} most frequent coarse ones:"
    )
    lines += ["", "![Topics](topics.png)", "", "## Pools", "", "| pool | dialogues |", "|---|---|"]
    lines += [f"| {pool} | {number} |" for pool, number in card.pools.items()]
    lines += ["", "## What each step kept", ""]
    for name, counts in card.steps.items():
        lines.append(f"### {name}")
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| {label} | {_shown(value)} |" for label, value in _flat(counts)]
        lines.append("")
    return "\n".join(lines)


def draw_card(card: Card, folder: Path) -> list[Path]:
    """Histograms as PNG: `turns.png` (Fig. 3b), `topics.png` (Fig. 3a), `queries.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paths: list[Path] = []
    shown = dict(list(card.coarse_tags.items())[:_TOPICS_SHOWN])
    bars = (
        ("topics.png", "Dialogues with a coarse tag", shown),
        ("queries.png", "Queries by kind", dict(card.kinds)),
    )
    with pyplot.style.context("default"), matplotlib.rc_context({"font.sans-serif": _fonts()}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
        if card.turn_lengths:
            edges = np.arange(min(card.turn_lengths) - 0.5, max(card.turn_lengths) + 1.5)
            step = max(1, len(edges) // 40)
            axes.hist(card.turn_lengths, bins=edges[::step].tolist() or 1, color="#3b6ea5")
        axes.set(xlabel="turns a dialogue", ylabel="dialogues", title="Turn lengths")
        paths.append(_save(figure, folder / "turns.png"))
        for name, title, counts in bars:
            figure, axes = pyplot.subplots(figsize=(6.4, 0.8 + 0.28 * max(4, len(counts))))
            axes.barh(list(counts)[::-1], list(counts.values())[::-1], color="#3b6ea5")
            axes.set(title=title)
            paths.append(_save(figure, folder / name))
    return paths


def _fonts() -> list[str]:
    """Fonts that may know Chinese, if any is installed, and the default."""
    return ["Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "SimHei", "DejaVu Sans"]


def _save(figure: Any, path: Path) -> Path:
    import logging

    from matplotlib import pyplot

    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    # It names every font of the list above that is not installed.
    logger.setLevel(logging.ERROR)
    try:
        figure.tight_layout()
        figure.savefig(path, dpi=110)
    finally:
        logger.setLevel(level)
        pyplot.close(figure)
    return path


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _flat(counts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in counts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}: ")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
