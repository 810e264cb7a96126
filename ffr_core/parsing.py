"""Read model answers: a selection, or clusters of turn ids with their repair."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ffr_core.types import Selection

_IDS = r"\[\s*((?:0|[1-9]\d{0,6})(?:\s*,\s*(?:0|[1-9]\d{0,6}))*)?\s*\]"
_SELECTION = re.compile(
    rf"<\|utt_ids_start\|>{_IDS}<\|utt_ids_end\|>;<\|img_ids_start\|>{_IDS}<\|img_ids_end\|>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSelection:
    """What a completion says, and what was wrong with it."""

    selection: Selection
    """Ids that exist; empty when the form is wrong."""
    well_formed: bool
    """The whole completion has the output form and no list holds an id twice."""
    unknown_utterances: int = 0
    """Utterance ids outside the dialogue, left out of `selection`."""
    unknown_images: int = 0
    """Image ids outside the dialogue, left out of `selection`."""

    @property
    def unknown_ids(self) -> int:
        """Unknown ids of both modalities."""
        return self.unknown_utterances + self.unknown_images


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedClusters:
    """A partition of the turns, and how much of it is repair."""

    clusters: tuple[tuple[int, ...], ...]
    """Every turn exactly once, ordered by first turn."""
    well_formed: bool
    """The text is a list of lists of integers."""
    missing: int
    """Turns that no cluster held; each joined the cluster of its predecessor."""
    repeated: int
    """Ids named again; each stayed in its first cluster."""
    unknown: int
    """Ids outside the dialogue, dropped."""


def parse_selection(text: str, num_turns: int, num_images: int) -> ParsedSelection:
    """Read `<|utt_ids_start|>[..]<|utt_ids_end|>;<|img_ids_start|>[..]<|img_ids_end|>`.

    The whole text must have that form, up to white space around it. A list with duplicates is not
    well formed, its ids still count. Source: Sec 5.1.2 (format), as stated.
    """
    match = _SELECTION.fullmatch(text.strip())
    if match is None:
        return ParsedSelection(selection=Selection(), well_formed=False)
    utterances, images = (_numbers(group) for group in match.groups())
    known_utterances = frozenset(i for i in utterances if i < num_turns)
    known_images = frozenset(i for i in images if i < num_images)
    return ParsedSelection(
        selection=Selection(utterance_ids=known_utterances, image_ids=known_images),
        well_formed=len(set(utterances)) == len(utterances) and len(set(images)) == len(images),
        unknown_utterances=len({*utterances} - known_utterances),
        unknown_images=len({*images} - known_images),
    )


def parse_clusters(text: str, num_turns: int) -> ParsedClusters:
    """Read `[[0,1],[2,3]]` and repair it into a partition of `num_turns` turns.

    Repair (our reading): a turn that no cluster holds joins the cluster of its predecessor (turn 0:
    a cluster of its own), an id in two clusters stays in the first. All repairs are counted. A
    text of another form gives one cluster with every turn.
    """
    try:
        raw = json.loads(text.strip())
    except (ValueError, RecursionError):  # also of a number with thousands of digits
        raw = None
    if not _is_clusters(raw):
        return ParsedClusters(
            clusters=(tuple(range(num_turns)),) if num_turns else (),
            well_formed=False,
            missing=num_turns,
            repeated=0,
            unknown=0,
        )
    return repair_clusters(raw, num_turns)


def repair_clusters(raw: Sequence[Sequence[int]], num_turns: int) -> ParsedClusters:
    """Make a partition of `num_turns` turns out of any clusters; see `parse_clusters`.

    Example:
        [[0, 1], [1, 3, 9]] over 5 turns: 1 stays with 0, 9 is unknown, 2 joins 1, 4 joins 3:
        [[0, 1, 2], [3, 4]].
    """
    cluster_of: dict[int, int] = {}
    repeated = unknown = missing = 0
    for number, cluster in enumerate(raw):
        for turn_id in cluster:
            if not 0 <= turn_id < num_turns:
                unknown += 1
            elif turn_id in cluster_of:
                repeated += 1
            else:
                cluster_of[turn_id] = number
    for turn_id in range(num_turns):
        if turn_id not in cluster_of:
            missing += 1
            cluster_of[turn_id] = cluster_of[turn_id - 1] if turn_id else len(raw)
    members: dict[int, list[int]] = {}
    for turn_id in range(num_turns):
        members.setdefault(cluster_of[turn_id], []).append(turn_id)
    return ParsedClusters(
        clusters=tuple(tuple(ids) for ids in members.values()),
        well_formed=True,
        missing=missing,
        repeated=repeated,
        unknown=unknown,
    )


def _numbers(group: str | None) -> list[int]:
    return [int(part) for part in group.split(",")] if group else []


def _is_clusters(raw: object) -> bool:
    return isinstance(raw, list) and all(
        isinstance(cluster, list)
        and all(isinstance(i, int) and not isinstance(i, bool) for i in cluster)
        for cluster in raw
    )
