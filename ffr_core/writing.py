"""What changes an index: dialogues are added, replaced and deleted, their payloads with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ffr_core.building import dialogue_fingerprint
from ffr_core.errors import InputError, NotFoundError
from ffr_core.growing import grow, has_grown
from ffr_core.types import Dialogue, Header, IndexedDialogue

if TYPE_CHECKING:
    from ffr_core.building import Builder
    from ffr_core.index.payload import PayloadStore
    from ffr_core.protocols import FragmentIndex

Change = Literal["indexed", "updated", "unchanged"]


def add_dialogue(
    builder: Builder,
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    dialogue: Dialogue,
    restore: bool = False,
) -> Change:
    """Steps 1 and 2 for one dialogue, and the write; nothing is done for an unchanged one.

    Of a dialogue that only got longer, its tail is segmented and embedded; see `growing`.

    Raises:
        InputError: The dialogue was deleted and `restore` is not set.
    """
    header = index.headers(tenant, [dialogue.dialogue_id]).get(dialogue.dialogue_id)
    if header is not None and header.deleted:
        if not restore:
            raise InputError(
                f"dialogue {dialogue.dialogue_id!r} was deleted; restore it to index it again"
            )
        index.restore(tenant, dialogue.dialogue_id)
        header = None
    if (
        header is not None
        and header.fingerprint == dialogue_fingerprint(dialogue, builder.recipe)
        and payloads.exists(tenant, header.payload)
    ):
        return "unchanged"
    item = header and _grown(builder, index, payloads, tenant, header, dialogue)
    write_dialogues(index, payloads, tenant, [item] if item else builder.build([dialogue]))
    return "indexed" if header is None else "updated"


def _grown(
    builder: Builder,
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    header: Header,
    dialogue: Dialogue,
) -> IndexedDialogue | None:
    """The dialogue built from what is stored of it; None unless it only got longer."""
    try:
        old = payloads.get(tenant, header.payload)
    except NotFoundError:
        return None
    same_recipe = header.fingerprint == dialogue_fingerprint(old, builder.recipe)
    if not same_recipe or not has_grown(old, dialogue):
        return None
    stored = index.fragments(tenant, dialogue.dialogue_id)
    turns = sorted(i for each in stored for i in each.fragment.turn_ids)
    if turns != list(range(len(old.turns))):
        return None
    return grow(builder, old, stored, dialogue)


def write_dialogues(
    index: FragmentIndex,
    payloads: PayloadStore,
    tenant: str,
    items: Sequence[IndexedDialogue],
    keep_others: bool = False,
) -> None:
    """Write payloads, then rows, then headers; a crash anywhere is repaired by a rerun.

    No dialogue id may stand twice in `items`. `keep_others` leaves other contents of the dialogues
    in the storage, for another index that points to them.

    Raises:
        RecordError: The index cannot hold one of them, or one was deleted; none is written then.
    """
    named = [(item, payloads.put(item.dialogue, tenant)) for item in items]
    try:
        index.upsert_many(tenant, named)
    finally:
        if not keep_others:
            _drop_unused(index, payloads, tenant, [item.dialogue.dialogue_id for item in items])


def _drop_unused(
    index: FragmentIndex, payloads: PayloadStore, tenant: str, dialogue_ids: Sequence[str]
) -> None:
    """Remove payloads that no header names: earlier contents, and what was refused just now."""
    headers = index.headers(tenant, dialogue_ids)
    for dialogue_id in dialogue_ids:
        header = headers.get(dialogue_id)
        if header is None or header.deleted:
            payloads.delete(tenant, dialogue_id)
        else:
            payloads.keep_only(tenant, header.payload)


def delete_dialogue(
    index: FragmentIndex, payloads: PayloadStore, tenant: str, dialogue_id: str
) -> bool:
    """Remove rows and payload; the tombstone stays. False when there was nothing."""
    deleted = index.delete(tenant, dialogue_id)
    payloads.delete(tenant, dialogue_id)
    return deleted
