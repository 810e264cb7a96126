"""Judging answers without gold: blind items, sheets for people, and ratings read back.

An item is a query with the answers of several systems under letters; the order of the letters is
drawn per item, and the key that names the systems stays in its own file. The id of an item is a
hash of all that: other systems or answers make other items. Criteria: relevance and coverage from
1 to 5 for each answer (Source: Sec 6.2.3, as stated), and the best answers for coverage, relevance
and coherence (Source: App. D.1, as stated; several where answers are equal).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ffr_core.errors import InputError
from ffr_core.types import Dialogue, Selection
from jobs.eval_sets import spaced, turns_of

LIKERT = ("relevance", "coverage")
CHOICES = ("coverage", "relevance", "coherence")
COLUMNS = (
    *("item", "answer", "query", "shown", "rater"),
    *LIKERT,
    *(f"best_{name}" for name in CHOICES),
)
MAX_ITEMS = len(string.ascii_uppercase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one system returned: turns and images, dialogue by dialogue."""

    letter: str
    system: str
    found: tuple[tuple[str, Selection], ...]
    """(dialogue_id, selection), best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One query with the answers of all systems."""

    item_id: str
    set_name: str
    query: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What one rater says about one answer."""

    item_id: str
    system: str
    rater: str
    scores: Mapping[str, int]
    """Criterion -> 1 to 5; a criterion left blank is absent."""
    best: frozenset[str]
    """Criteria for which this answer is the best, or one of the best."""


def make_items(
    cells: Sequence[Mapping[str, Any]], set_name: str, limit: int | None = None, seed: int = 0
) -> list[Item]:
    """Blind items of one set: its free queries where it has some, else its queries with gold.

    Args:
        cells: Of a report; systems that did not answer are left out.
        set_name: Of the set.
        limit: So many items, evenly spaced; None takes all.
        seed: Of the letters' order.

    Raises:
        InputError: No system answered.
    """
    mine = [cell for cell in cells if cell["set"] == set_name]
    free = [cell for cell in mine if cell.get("free")]
    used = free or [cell for cell in mine if cell.get("selection")]
    if not used or len(used) > MAX_ITEMS:
        raise InputError(
            f"set {set_name!r} has answers of {len(used)} systems; expected 1 to {MAX_ITEMS}, run"
            " the report first"
        )
    queries = [row["query"] for row in (used[0]["free"] if free else used[0]["queries"])]
    places = spaced(range(len(queries)), limit)
    return [_item(used, set_name, queries[i], i, bool(free), seed) for i in places]


def _item(
    cells: Sequence[Mapping[str, Any]],
    set_name: str,
    query: str,
    position: int,
    free: bool,
    seed: int,
) -> Item:
    order = []
    for cell in sorted(cells, key=lambda cell: str(cell["system"])):
        if free:
            ids = cell["free"][position]["answers"]
        else:
            dialogue_id = cell["queries"][position]["dialogue_id"]
            ids = [{"dialogue_id": dialogue_id, **cell["selection"][position]}]
        found = [(a["dialogue_id"], a["utt_ids"], a["img_ids"]) for a in ids]
        order.append((cell["system"], found))
    content = json.dumps([set_name, position, query, seed, order])
    name = hashlib.sha256(content.encode()).hexdigest()[:12]
    random.Random(name).shuffle(order)
    answers = tuple(
        Answer(letter=letter, system=system, found=tuple(_selection(*ids) for ids in found))
        for letter, (system, found) in zip(string.ascii_uppercase, order, strict=False)
    )
    return Item(item_id=name, set_name=set_name, query=query, answers=answers)


def answer_text(answer: Answer, dialogues: Mapping[str, Dialogue]) -> str:
    """What a rater reads: a line a turn, with the images that were selected."""
    lines = []
    for dialogue_id, selection in answer.found:
        dialogue = dialogues[dialogue_id]
        turns = sorted(turns_of(dialogue, selection))
        if turns and len(answer.found) > 1:
            lines.append(f"[{dialogue.title or dialogue_id}]")
        for turn_id in turns:
            turn = dialogue.turns[turn_id]
            text = turn.text if turn_id in selection.utterance_ids else "(image only)"
            shown = [
                f"[image {image.image_id}: {image.caption or image.text or 'no caption'}]"
                for image in turn.images
                if image.image_id in selection.image_ids
            ]
            lines.append(" ".join([f"{turn_id}. {turn.speaker}: {text}", *shown]))
    return "\n".join(lines) or "(nothing)"


def csv_sheet(items: Sequence[Item], dialogues: Mapping[str, Dialogue]) -> str:
    """A sheet with one row an answer; raters fill the empty columns. Opens in any spreadsheet.

    A cell that a spreadsheet could take for a formula gets a quote before it.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for item in items:
        for answer in item.answers:
            writer.writerow(
                {
                    "item": item.item_id,
                    "answer": answer.letter,
                    "query": _safe(item.query),
                    "shown": _safe(answer_text(answer, dialogues)),
                }
            )
    return out.getvalue()


def key_of(items: Sequence[Item]) -> dict[str, dict[str, str]]:
    """Item -> letter -> system; kept from raters."""
    return {item.item_id: {a.letter: a.system for a in item.answers} for item in items}


def read_sheets(
    paths: Iterable[Path], key: Mapping[str, Mapping[str, str]]
) -> tuple[list[Rating], dict[str, int]]:
    """Read filled sheets; a row without any rating is not counted as read.

    Returns:
        Ratings, and reason -> number of rows that could not be used.

    Raises:
        InputError: A file that is no sheet.
    """
    ratings: list[Rating] = []
    left_out: dict[str, int] = {}
    seen: set[tuple[str, str, str]] = set()
    for path in paths:
        for row in _rows(path):
            try:
                rating = _rating(row, key, path.stem)
            except InputError as error:
                rating, reason = None, str(error)
            else:
                reason = "blank" if rating is None else ""
            if rating is not None:
                place = (rating.item_id, rating.system, rating.rater)
                reason = "twice" if place in seen else ""
                seen.add(place)
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
            elif rating is not None:
                ratings.append(rating)
    return ratings, left_out


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); save it as UTF-8") from error
    if not rows or not {"item", "answer", *LIKERT} <= set(rows[0]):
        raise InputError(f"{path} is no judging sheet; its first row must name {COLUMNS}")
    return rows


def _rating(
    row: Mapping[str, str], key: Mapping[str, Mapping[str, str]], file_name: str
) -> Rating | None:
    system = key.get(row["item"], {}).get(row["answer"])
    if system is None:
        raise InputError("unknown_answer")
    scores = {}
    for name in LIKERT:
        text = (row.get(name) or "").strip()
        if text and text not in ("1", "2", "3", "4", "5"):
            raise InputError("not_1_to_5")
        if text:
            scores[name] = int(text)
    best = frozenset(name for name in CHOICES if (row.get(f"best_{name}") or "").strip())
    if not scores and not best:
        return None
    return Rating(
        item_id=row["item"],
        system=system,
        rater=(row.get("rater") or "").strip() or file_name,
        scores=scores,
        best=best,
    )


def rating_record(rating: Rating) -> dict[str, Any]:
    """The JSON form."""
    return {**asdict(rating), "best": sorted(rating.best)}


def rating_from_record(record: Mapping[str, Any]) -> Rating:
    """The inverse of `rating_record`."""
    return Rating(**{**record, "best": frozenset(record["best"])})


def _selection(
    dialogue_id: str, utt_ids: Sequence[int], img_ids: Sequence[int]
) -> tuple[str, Selection]:
    selected = Selection(utterance_ids=frozenset(utt_ids), image_ids=frozenset(img_ids))
    return dialogue_id, selected


def _safe(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
