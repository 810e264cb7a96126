"""Sets with gold labels: how they are read, and which of their queries are asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from ffr_core.errors import InputError, RecordError
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, Fragment, Query, Selection
from jobs.index_rows import parse_record
from jobs.reading import list_sources, read_records

EXCLUDED = frozenset({"qa_adversarial"})
"""Kinds of queries that are asked nowhere."""
Asked = tuple[Dialogue, Query]
Gold = Sequence[tuple[Dialogue, tuple[Fragment, ...]]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """Dialogues, and which of their queries are asked."""

    dialogues: list[Dialogue]
    asked: list[Asked]

    @property
    def gold(self) -> Gold:
        """See `gold_fragments`."""
        return gold_fragments(self.dialogues)

    @property
    def with_fragment(self) -> list[int]:
        """Positions of the asked queries that name a gold fragment."""
        return [
            i for i, (d, q) in enumerate(self.asked) if q.fragment_id is not None and d.fragments
        ]

    def showing(self, dialogues: Sequence[Dialogue]) -> Self:
        """The same set with other forms of its dialogues."""
        by_id = {dialogue.dialogue_id: dialogue for dialogue in dialogues}
        asked = [(by_id[dialogue.dialogue_id], query) for dialogue, query in self.asked]
        return replace(self, dialogues=list(dialogues), asked=asked)


def folder_of(path: Path) -> Path:
    """The folder of a set: pictures lie below it."""
    return path if path.is_dir() else path.parent


def load_set(path: Path, max_queries: int | None, hide_timestamps: bool) -> EvalSet:
    """Read a corpus file, or the `*.jsonl` of a folder as one set.

    Raises:
        InputError: Neither gold fragments nor queries, or what `read_set` refuses.
    """
    dialogues = read_set(path)
    if hide_timestamps:
        dialogues = [without_times(dialogue) for dialogue in dialogues]
    asked = [
        (dialogue, query)
        for dialogue in dialogues
        for query in dialogue.queries or ()
        if query.source_kind not in EXCLUDED
    ]
    if not asked and all(dialogue.fragments is None for dialogue in dialogues):
        raise InputError(f"{path} has neither gold fragments nor queries; nothing can be measured")
    return EvalSet(dialogues=dialogues, asked=spaced(asked, max_queries))


def read_set(path: Path) -> list[Dialogue]:
    """The dialogues of a corpus file, or of the `*.jsonl` of a folder.

    Raises:
        NotFoundError: There is no such file.
        RecordError: A record or a file cannot be read.
        InputError: Two dialogues have one id; vectors and answers are kept by it.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    dialogues: list[Dialogue] = []
    file_of: dict[str, Path] = {}
    for file in files:
        for dialogue in _read_file(file):
            first = file_of.setdefault(dialogue.dialogue_id, file)
            if len(file_of) == len(dialogues):
                raise InputError(
                    f"dialogue id {dialogue.dialogue_id!r} stands in {first} and again in {file};"
                    " each dialogue of a set needs an id of its own, rename or remove one"
                )
            dialogues.append(dialogue)
    return dialogues


def _read_file(path: Path) -> Iterator[Dialogue]:
    return _read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)


def _read_parquet(path: Path) -> Iterator[Dialogue]:
    (source,) = list_sources((str(path),))
    position = 0
    try:
        for record in read_records(source, sys.maxsize):
            position = record.position
            yield parse_record(record.raw, source.base)
    except RecordError as error:
        raise RecordError(error.reason, f"{path} row {position}: {error}") from error
    except (OSError, ValueError) as error:  # pyarrow's own are such
        raise RecordError(
            "unreadable_file", f"{path} breaks off after row {position}: {error}; copy it again"
        ) from error


def without_times(dialogue: Dialogue) -> Dialogue:
    """The dialogue with no time at any turn."""
    turns = tuple(replace(t, timestamp=None, timestamp_text=None) for t in dialogue.turns)
    return replace(dialogue, turns=turns)


def spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` items, evenly spaced, the first one among them; None takes all.

    Example:
        `spaced("abcde", 2)` is `["a", "c"]`.
    """
    if not limit or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def gold_fragments(dialogues: Sequence[Dialogue]) -> Gold:
    """Dialogues with gold fragments; empty fragments are left out, the others keep their number."""
    return [
        (
            dialogue,
            tuple(
                Fragment(fragment_id=i, turn_ids=tuple(sorted(set(part))))
                for i, part in enumerate(dialogue.fragments or ())
                if part
            ),
        )
        for dialogue in dialogues
        if any(dialogue.fragments or ())
    ]


def mean_gold_length(gold: Gold) -> float:
    """Turns per gold fragment over a set."""
    turns = sum(len(dialogue.turns) for dialogue, _ in gold)
    return turns / max(1, sum(len(parts) for _, parts in gold))


def turns_of(dialogue: Dialogue, selection: Selection) -> set[int]:
    """Turn ids that a selection touches: those of its utterances and of its images."""
    return {*selection.utterance_ids, *(dialogue.turn_of_image[i] for i in selection.image_ids)}
