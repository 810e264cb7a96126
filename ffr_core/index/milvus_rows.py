"""Rows of the three Milvus collections, from the domain types and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ffr_core.index.filters import facts_of
from ffr_core.index.keys import dialogue_key, fragment_key, passage_key, tenant_key
from ffr_core.index.milvus_schema import NO_VECTOR
from ffr_core.index.rows import pack_ids, searchable
from ffr_core.types import Header

if TYPE_CHECKING:
    from ffr_core.types import IndexedDialogue

Row = dict[str, Any]


def dialogue_rows(tenant: str, item: IndexedDialogue, revision: int) -> tuple[list[Row], list[Row]]:
    """Fragment rows and passage rows of a dialogue, every field set."""
    dialogue = dialogue_key(tenant, item.dialogue.dialogue_id)
    fragments: list[Row] = []
    passages: list[Row] = []
    for part in item.fragments:
        key = fragment_key(dialogue, part.fragment.fragment_id)
        facts = facts_of(item.dialogue, part.fragment.turn_ids)
        shared = {
            "tenant": tenant_key(tenant),
            "dialogue_key": dialogue,
            "revision": revision,
            "participants": list(facts.participants),
            "min_ms": facts.min_ms,
            "max_ms": facts.max_ms,
            "has_image": facts.has_image,
        }
        fragments.append(
            shared
            | {
                "id": key,
                "fragment_id": part.fragment.fragment_id,
                "turn_ids": pack_ids(part.fragment.turn_ids),
                "num_passages": len(part.passages),
                "text": searchable(part.text),
                "vector": part.vector_D,
            }
        )
        passages.extend(
            shared
            | {
                "id": passage_key(key, number),
                "fragment_key": key,
                "turn_ids": pack_ids(passage.passage.turn_ids),
                "text": searchable(passage.passage.text),
                "vector": passage.vector_D,
            }
            for number, passage in enumerate(part.passages)
        )
    return fragments, passages


def row_bytes(rows: list[Row], dim: int) -> int:
    """What one of these rows weighs at most, roughly."""
    texts = (len(row["text"].encode()) + len(row["turn_ids"]) for row in rows)
    return 4 * dim + max(texts, default=0) + 1024


def header_row(tenant: str, header: Header) -> Row:
    """Row of a header."""
    return asdict(header) | {
        "id": dialogue_key(tenant, header.dialogue_id),
        "tenant": tenant_key(tenant),
        "vector": NO_VECTOR,
    }


def header_from_row(row: Row) -> Header:
    """The header that `header_row` wrote."""
    return Header(
        dialogue_id=row["dialogue_id"],
        fingerprint=row["fingerprint"],
        revision=int(row["revision"]),
        num_fragments=int(row["num_fragments"]),
        num_passages=int(row["num_passages"]),
        payload=row["payload"],
        deleted=bool(row["deleted"]),
    )


def meta_key(tenant: str) -> str:
    """Key of the row that says which encoder a tenant's vectors come from."""
    return f"meta:{tenant_key(tenant)}"


def meta_row(tenant: str, encoder_fingerprint: str, dim: int) -> Row:
    """A row among the headers; its `num_fragments` is D."""
    return {
        "id": meta_key(tenant),
        "tenant": tenant_key(tenant),
        "dialogue_id": "",
        "fingerprint": encoder_fingerprint,
        "revision": 0,
        "num_fragments": dim,
        "num_passages": 0,
        "payload": "",
        "deleted": False,
        "vector": NO_VECTOR,
    }
