"""The worst queries of each system as one HTML page: gold and prediction side by side.

The page loads nothing and runs nothing; every text that a person typed is escaped. Pictures are
named by their caption and file, not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ffr_core.metrics.selection import f1_of_sets
from ffr_core.passages import image_words
from ffr_core.types import Dialogue, Turn
from jobs.report.page import document

CONTEXT = 1
"""Turns shown around a gold or selected turn."""
MAX_TURNS = 60
"""Turns of one query that are shown."""
STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1300px;padding:0 1rem}
details{border:1px solid #8886;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}.sides{display:grid;grid-template-columns:1fr 1fr;gap:0 1rem}
.turn{padding:.15rem .5rem;border-left:4px solid transparent;overflow-wrap:anywhere}
.hit{background:#22c55e2e;border-color:#22c55e}.missed{background:#eab3082e;border-color:#eab308}
.wrong{background:#ef44442e;border-color:#ef4444}.gap{opacity:.5}.id{opacity:.55}
h3{position:sticky;top:0;background:Canvas;margin:.3rem 0}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One query that a system answered badly."""

    system: str
    set_name: str
    query: Mapping[str, Any]
    chosen: Mapping[str, Any]
    f1: float
    """Of utterances and images together, [0, 1]."""


def worst(cell: Mapping[str, Any], count: int) -> list[Failure]:
    """The `count` lowest F1 over utterance and image ids together; perfect answers are left out.

    Ids that an answer makes up are wrong ones.

    Equal scores are ordered by the size of the error, then by place.
    """
    found = []
    for place, (query, chosen) in enumerate(
        zip(cell["queries"], cell.get("selection") or (), strict=False)
    ):
        gold, picked = _flat(query), _flat(chosen)
        f1 = f1_of_sets(picked, gold)
        if f1 < 1:
            found.append((f1, -len(gold ^ picked), place, query, chosen))
    found.sort(key=lambda item: item[:3])
    return [
        Failure(system=cell["system"], set_name=cell["set"], query=query, chosen=chosen, f1=f1)
        for f1, _, _, query, chosen in found[:count]
    ]


def failures_page(
    failures: Sequence[Failure], dialogues: Mapping[tuple[str, str], Dialogue]
) -> str:
    """The page.

    Args:
        failures: In the order shown; those of one set and system stand together.
        dialogues: By (set name, dialogue_id).
    """
    body = [
        "<h1>Worst queries</h1><p>Left: gold. Right: prediction. "
        '<span class="hit">right</span> <span class="missed">missed</span> '
        '<span class="wrong">wrong</span></p>'
    ]
    before = None
    for failure in failures:
        heading = (failure.set_name, failure.system)
        if heading != before:
            body.append(f"<h2>{escape(failure.set_name)}: {escape(failure.system)}</h2>")
            before = heading
        dialogue = dialogues.get((failure.set_name, failure.query["dialogue_id"]))
        body.append(_failure(failure, dialogue))
    if not failures:
        body.append("<p>Nothing to show: no selection was measured, or every answer is right.</p>")
    return document("Worst queries", "\n".join(body), STYLE)


def _failure(failure: Failure, dialogue: Dialogue | None) -> str:
    query = failure.query
    kind = query["groups"]["kind"]
    head = (
        f"<summary>F1 {100 * failure.f1:.0f} · <b>{escape(query['query'])}</b> · "
        f"{escape(kind)} · {escape(query['dialogue_id'])}</summary>"
    )
    if dialogue is None:
        return f"<details>{head}<p>The set has no such dialogue any more.</p></details>"
    shown, cut = shown_turns(dialogue, query, failure.chosen)
    sides = ["<h3>Gold</h3><h3>Prediction</h3>"]
    before = -1
    for turn_id in shown:
        if turn_id != before + 1:
            sides.append('<div class="gap">…</div><div class="gap">…</div>')
        before = turn_id
        turn = dialogue.turns[turn_id]
        sides += [_turn(turn, query, failure.chosen), _turn(turn, failure.chosen, query, "wrong")]
    note = f"<p>{cut} further gold or selected turns are not shown.</p>" if cut else ""
    return f'<details>{head}<div class="sides">{"".join(sides)}</div>{note}</details>'


def shown_turns(
    dialogue: Dialogue, gold: Mapping[str, Any], chosen: Mapping[str, Any]
) -> tuple[list[int], int]:
    """Turn ids to show, and how many gold or selected turns that leaves out."""
    wanted = sorted({*_turns(dialogue, gold), *_turns(dialogue, chosen)})
    near = {
        turn_id + step
        for turn_id in wanted
        for step in range(-CONTEXT, CONTEXT + 1)
        if 0 <= turn_id + step < len(dialogue.turns)
    }
    shown = sorted(near)[:MAX_TURNS]
    return shown, len(set(wanted) - set(shown))


def _turns(dialogue: Dialogue, ids: Mapping[str, Any]) -> Iterable[int]:
    return (*ids["utt_ids"], *(dialogue.turn_of_image[i] for i in ids["img_ids"]))


def _turn(
    turn: Turn, mine: Mapping[str, Any], other: Mapping[str, Any], alone: str = "missed"
) -> str:
    """One side of a turn: marked where this side holds it."""
    mark = _mark(turn.turn_id, mine["utt_ids"], other["utt_ids"], alone)
    images = "".join(
        f'<div class="{_mark(image.image_id, mine["img_ids"], other["img_ids"], alone)}">'
        f"[image {image.image_id}: {escape(image_words(image) or 'no caption')}]</div>"
        for image in turn.images
    )
    return (
        f'<div class="turn {mark}"><span class="id">{turn.turn_id}</span> '
        f"<b>{escape(turn.speaker)}</b>: {escape(turn.text)}{images}</div>"
    )


def _mark(name: int, mine: Sequence[int], other: Sequence[int], alone: str) -> str:
    if name not in mine:
        return ""
    return "hit" if name in other else alone


def _flat(ids: Mapping[str, Any]) -> frozenset[Any]:
    utterances = {("u", i) for i in ids["utt_ids"]}
    unknown = {
        (name, i) for name in ("unknown_utt", "unknown_img") for i in range(ids.get(name, 0))
    }
    return frozenset(utterances | {("i", i) for i in ids["img_ids"]} | unknown)
