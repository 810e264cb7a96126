"""Header arithmetic that every index shares."""

from __future__ import annotations

from collections.abc import Iterable

from ffr_core.types import Header, IndexStats


def tombstone(dialogue_id: str, revision: int) -> Header:
    """The header of a deleted dialogue: it keeps the id and nothing else."""
    return Header(
        dialogue_id=dialogue_id,
        fingerprint="",
        revision=revision,
        num_fragments=0,
        num_passages=0,
        payload="",
        deleted=True,
    )


def count_headers(headers: Iterable[Header], encoder_fingerprint: str | None) -> IndexStats:
    """Sum the headers of one tenant; an index without live dialogues has no encoder."""
    dialogues = fragments = passages = deleted = 0
    for header in headers:
        dialogues += not header.deleted
        deleted += header.deleted
        fragments += header.num_fragments
        passages += header.num_passages
    return IndexStats(
        dialogues=dialogues,
        fragments=fragments,
        passages=passages,
        deleted=deleted,
        fingerprint=encoder_fingerprint if dialogues else None,
    )
