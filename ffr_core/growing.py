"""A dialogue that grew: only its tail is segmented and embedded again. Our choice.

The last old turns are read again together with the new ones: as many as the segmenter's `context`
says, `CONTEXT` where it says nothing. Turns before the middle of that context keep their fragments,
the others are placed anew; a fragment of the tail that shares turns with an old one continues it.
Vectors of turns that did not change are taken from the index, for the segmenter too.

A dialogue that is shorter than the context gets the fragments of the whole dialogue; the result may
differ for a longer one: a window is cut at another place. Indexing the dialogue from scratch
(delete and add) is always possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ffr_core.embedding.memo import MemoEncoder
from ffr_core.markup import local_view
from ffr_core.passages import passage_of
from ffr_core.records import content_hash
from ffr_core.segmentation.windows import stitch
from ffr_core.types import (
    Dialogue,
    Fragment,
    IndexedDialogue,
    StoredFragment,
    Turn,
    fragments_from_clusters,
)
from ffr_core.windows import WINDOW_OVERLAP

if TYPE_CHECKING:
    from ffr_core.building import Builder

CONTEXT = WINDOW_OVERLAP
"""Old turns that are read again by a model that reads each turn; the overlap of windows."""


def has_grown(old: Dialogue, new: Dialogue) -> bool:
    """Whether `new` is `old` with turns added at its end; text that OCR read does not count."""
    if len(new.turns) <= len(old.turns):
        return False
    turns = new.turns[: len(old.turns)]
    if any(turn.reply_to is not None and turn.reply_to >= len(turns) for turn in turns):
        return False
    before = replace(new, turns=turns, fragments=None, queries=None)
    return content_hash(before) == content_hash(old)


def grow(
    builder: Builder,
    old: Dialogue,
    stored: Sequence[StoredFragment],
    new: Dialogue,
    context: int | None = None,
) -> IndexedDialogue:
    """Build `new` from what the index holds of `old`; see the module text.

    Args:
        builder: Segmenter and encoder that made `stored`.
        old: The dialogue as it was indexed.
        stored: Its fragments.
        new: The longer dialogue; `has_grown(old, new)`.
        context: Old turns that are read again; as the segmenter wants when left out.
    """
    if context is None:
        context = int(getattr(builder.segmenter, "context", CONTEXT))
    count = len(old.turns)
    whole = replace(new, turns=(*old.turns, *_read_tail(builder, new, count)))
    start = max(0, count - context)
    settled = start + context // 2 if start else 0
    tail = local_view(whole, Fragment(fragment_id=0, turn_ids=tuple(range(start, len(new.turns)))))
    _remembering(builder, old, stored)
    [parts] = builder.segmenter.segment([tail.dialogue])
    before = [[i for i in each.fragment.turn_ids if i < settled] for each in stored]
    after = [[tail.turn_ids[i] for i in part.turn_ids] for part in parts]
    clusters = stitch([(range(settled), before), (range(start, len(new.turns)), after)])
    memo = _remembering(builder, old, stored)  # again: a slow segmenter outlives the memory
    [built] = replace(builder, encoder=memo).embed([(whole, fragments_from_clusters(clusters))])
    return built


def _remembering(builder: Builder, old: Dialogue, stored: Sequence[StoredFragment]) -> MemoEncoder:
    """The builder's encoder with the stored vectors in memory; the segmenter's too if it is one."""
    encoder = builder.encoder
    memo = encoder if isinstance(encoder, MemoEncoder) else MemoEncoder(encoder)
    for each in stored:
        if builder.fragment_vector == "encode":
            memo.remember(passage_of(old, each.fragment.turn_ids), each.vector_D)
        for passage in each.passages:
            memo.remember(passage_of(old, passage.turn_ids), passage.vector_D)
    return memo


def _read_tail(builder: Builder, new: Dialogue, count: int) -> list[Turn]:
    """The turns from `count` on, their pictures read where OCR is on."""
    ids = tuple(range(count, len(new.turns)))
    [read] = builder.read_images([local_view(new, Fragment(fragment_id=0, turn_ids=ids)).dialogue])
    return [
        replace(
            turn,
            images=tuple(
                replace(image, text=seen.text, ocr=seen.ocr)
                for image, seen in zip(turn.images, seen_turn.images, strict=True)
            ),
        )
        for turn, seen_turn in zip(new.turns[count:], read.turns, strict=True)
    ]
