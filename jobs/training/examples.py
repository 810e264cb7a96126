"""Corpora with gold -> training examples of the two tasks, whole dialogues or fragments.

Nothing is dropped silently: what cannot be used is counted by reason.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffr_core.errors import InputError
from ffr_core.generation import Message
from ffr_core.markup import local_view, render_clusters, render_selection
from ffr_core.parsing import repair_clusters
from ffr_core.prompts import Prompts
from ffr_core.records import read_jsonl, record_from_dialogue
from ffr_core.types import Dialogue, Query, Selection, fragments_from_clusters

Task = Literal["localize", "segment"]
View = Literal["dialogue", "fragment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One prompt and its gold answer."""

    example_id: str
    view_id: str
    """Examples with the same view show the same turns; they can share a sequence."""
    dialogue: Dialogue
    """What is shown, with the ids that are shown."""
    query: str | None
    """None for the task `segment`."""
    selection: Selection
    """Gold of `localize`, in the shown ids."""
    clusters: tuple[tuple[int, ...], ...] = ()
    """Gold of `segment`, a partition of the shown turns."""

    @property
    def answer(self) -> str:
        """The completion to learn."""
        if self.query is None:
            return render_clusters(self.clusters)
        return render_selection(self.selection)

    def messages(self, prompts: Prompts) -> tuple[Message, ...]:
        """The prompt."""
        if self.query is None:
            return prompts.segment(self.dialogue)
        return prompts.localize(self.dialogue, self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What a corpus gives for a task."""

    examples: tuple[Example, ...]
    counts: Counter[str]
    """Reasons of what was left out or repaired."""
    records: tuple[str, ...]
    """JSON of each dialogue read, for the data hash."""


def read_examples(
    paths: Iterable[str | Path],
    task: Task,
    views: Sequence[View] = ("dialogue",),
    negatives: int = 0,
    seed: int = 0,
    max_dialogues: int | None = None,
) -> Examples:
    """Read corpora and make their examples.

    Args:
        paths: JSONL files with gold.
        task: `localize` uses queries, `segment` gold fragments.
        views: Of `localize`: the whole dialogue, the query's gold fragment (local ids), or both.
        negatives: For the view `fragment`: other fragments of the dialogue that each query is also
            asked about; their gold is what they hold of the query's, mostly nothing.
        seed: Chooses those fragments.
        max_dialogues: Read at most so many, over all files.

    Raises:
        RecordError: A record that is not a dialogue.
        InputError: A dialogue_id occurs twice; its views would be taken for one another.
    """
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    records: list[str] = []
    for dialogue in _dialogues(paths, max_dialogues):
        record = record_from_dialogue(dialogue)
        records.append(json.dumps(record, ensure_ascii=False, sort_keys=True))
        if task == "segment":
            examples += _segment(dialogue, counts)
        else:
            examples += _localize(dialogue, views, negatives, seed, counts)
    return Examples(examples=tuple(examples), counts=counts, records=tuple(records))


def _dialogues(paths: Iterable[str | Path], limit: int | None) -> Iterator[Dialogue]:
    places: dict[str, str | Path] = {}
    for path in paths:
        for dialogue in read_jsonl(path):
            if len(places) == limit:
                return
            if dialogue.dialogue_id in places:
                raise InputError(
                    f"dialogue {dialogue.dialogue_id!r} occurs twice, in"
                    f" {places[dialogue.dialogue_id]} and {path}; give each an id of its own"
                )
            places[dialogue.dialogue_id] = path
            yield dialogue


def _segment(dialogue: Dialogue, counts: Counter[str]) -> Iterator[Example]:
    if not dialogue.fragments:
        counts["no_gold_fragments"] += 1
        return
    gold = repair_clusters(dialogue.fragments, len(dialogue.turns))
    if gold.missing or gold.repeated:
        counts["gold_fragments_repaired"] += 1
    yield Example(
        example_id=dialogue.dialogue_id,
        view_id=dialogue.dialogue_id,
        dialogue=dialogue,
        query=None,
        selection=Selection(),
        clusters=gold.clusters,
    )


def _localize(
    dialogue: Dialogue, views: Sequence[View], negatives: int, seed: int, counts: Counter[str]
) -> Iterator[Example]:
    if not dialogue.queries:
        counts["no_queries"] += 1
        return
    for number, query in enumerate(dialogue.queries):
        if "dialogue" in views:
            yield Example(
                example_id=f"{dialogue.dialogue_id}/{number}",
                view_id=dialogue.dialogue_id,
                dialogue=dialogue,
                query=query.query,
                selection=query.relevance,
            )
        if "fragment" in views:
            if not dialogue.fragments:
                counts["no_gold_fragments"] += 1
                continue
            generator = random.Random(f"{seed}/{dialogue.dialogue_id}/{number}")
            yield from _local(dialogue, number, query, negatives, generator)


def _local(
    dialogue: Dialogue, number: int, query: Query, negatives: int, generator: random.Random
) -> Iterator[Example]:
    """The query in its gold fragment (any one when it has none) and in a few others."""
    assert dialogue.fragments is not None
    gold = repair_clusters(dialogue.fragments, len(dialogue.turns)).clusters
    fragments = fragments_from_clusters([list(cluster) for cluster in gold])
    wanted = query.relevance.utterance_ids | {
        dialogue.turn_of_image[i] for i in query.relevance.image_ids
    }
    order = list(fragments)
    generator.shuffle(order)
    order.sort(key=lambda f: -len(wanted.intersection(f.turn_ids)))
    for fragment in order[: 1 + negatives]:
        view = local_view(dialogue, fragment)
        yield Example(
            example_id=f"{dialogue.dialogue_id}/{number}#{fragment.fragment_id}",
            view_id=f"{dialogue.dialogue_id}#{fragment.fragment_id}",
            dialogue=view.dialogue,
            query=query.query,
            selection=view.to_local(query.relevance),
        )


def group_by_view(examples: Sequence[Example], limit: int) -> list[list[int]]:
    """Indexes of examples that share a view, at most `limit` a group; order is kept."""
    open_groups: dict[str, list[int]] = {}
    groups: list[list[int]] = []
    for index, example in enumerate(examples):
        group = open_groups.get(example.view_id)
        if group is None or len(group) >= limit:
            group = open_groups[example.view_id] = []
            groups.append(group)
        group.append(index)
    return groups
