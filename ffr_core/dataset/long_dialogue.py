"""A long dialogue on its way through the pipeline: where each turn comes from, tags, QA pairs.

What the final files hold is `records.py`'s form; this is the form between the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ffr_core.records import dialogue_from_record, record_from_dialogue
from ffr_core.types import Dialogue

Level = Literal["coarse", "fine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """The two tags of one element (an utterance or an image). Source: App. B.1, as stated."""

    coarse: str
    """Domain or scenario."""
    fine: str
    """Activity inside the domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QaPair:
    """One communicative intent of a fragment and what answers it. Source: Sec 5.3, as stated."""

    question: str
    answer: str
    utterance_ids: tuple[int, ...]
    """Turns that the answer stands in."""
    image_ids: tuple[int, ...] = ()
    """Images that the answer refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongDialogue:
    """A merged triplet."""

    dialogue: Dialogue
    """Fragments are the three topics; a transition belongs to the topic it leads to."""
    members: tuple[str, ...]
    """Ids of the short dialogues."""
    image_keys: tuple[str, ...]
    """Identity of each image, by image id."""
    sources: tuple[tuple[str, int] | None, ...]
    """(member, its turn id) of each turn; None is a transition."""
    utterance_tags: Mapping[int, Tags]
    """By turn id; turns without text have none."""
    image_tags: Mapping[int, Tags]
    """By image id."""
    qa: Mapping[int, tuple[QaPair, ...]]
    """QA pairs by fragment id."""
    pool: str = ""
    """Which split its members belong to."""


def to_json(item: LongDialogue) -> dict[str, Any]:
    """A JSON object; `from_json` reads it back unchanged."""
    return {
        "dialogue": record_from_dialogue(item.dialogue),
        "members": list(item.members),
        "image_keys": list(item.image_keys),
        "sources": [list(source) if source else None for source in item.sources],
        "utterance_tags": {str(i): [t.coarse, t.fine] for i, t in item.utterance_tags.items()},
        "image_tags": {str(i): [t.coarse, t.fine] for i, t in item.image_tags.items()},
        "qa": {
            str(fragment): [
                [p.question, p.answer, list(p.utterance_ids), list(p.image_ids)] for p in pairs
            ]
            for fragment, pairs in item.qa.items()
        },
        "pool": item.pool,
    }


def from_json(record: Mapping[str, Any]) -> LongDialogue:
    """Read what `to_json` wrote."""
    return LongDialogue(
        dialogue=dialogue_from_record(record["dialogue"]),
        members=tuple(record["members"]),
        image_keys=tuple(record["image_keys"]),
        sources=tuple((str(s[0]), int(s[1])) if s else None for s in record["sources"]),
        utterance_tags=_tags(record["utterance_tags"]),
        image_tags=_tags(record["image_tags"]),
        qa={
            int(fragment): tuple(
                QaPair(question=q, answer=a, utterance_ids=tuple(u), image_ids=tuple(i))
                for q, a, u, i in pairs
            )
            for fragment, pairs in record["qa"].items()
        },
        pool=record["pool"],
    )


def _tags(record: Mapping[str, Any]) -> dict[int, Tags]:
    return {int(i): Tags(coarse=coarse, fine=fine) for i, (coarse, fine) in record.items()}
