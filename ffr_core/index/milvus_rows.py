"""Rows of the three Milvus collections, from the domain types and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ffr_core.index.filters import facts_of
from ffr_core.index.keys import dialogue_key, fragment_key, passage_key, tenant_key
from ffr_core.index.milvus_schema import NO_VECTOR
from ffr_core.index.rows import pack_ids, searchable, searchable_parts
from ffr_core.types import Header

if TYPE_CHECKING:
    from ffr_core.types import IndexedDialogue, IndexedPassage

Row = dict[str, Any]
_BYTES_A_NAME = 64
"""What a name costs beside its letters: Lite takes some 10 us each, so a call takes 4 s at most."""


def dialogue_rows(tenant: str, item: IndexedDialogue, revision: int) -> tuple[list[Row], list[Row]]:
    """Fragment rows and passage rows of a dialogue, every field set."""
    dialogue = dialogue_key(tenant, item.dialogue.dialogue_id)
    fragments: list[Row] = []
    passages: list[Row] = []
    for part in item.fragments:
        key = fragment_key(dialogue, revision, part.fragment.fragment_id)
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
                "text": words,
                "vector": passage.vector_D,
            }
            for number, (passage, words) in enumerate(_with_words(part.passages))
        )
    return fragments, passages


def _with_words(passages: Sequence[IndexedPassage]) -> list[tuple[IndexedPassage, str]]:
    """Each passage with its words, then once more for each part of them that did not fit."""
    parts = [(passage, searchable_parts(passage.passage.text)) for passage in passages]
    rest = [(passage, words) for passage, texts in parts for words in texts[1:]]
    return [*((passage, texts[0]) for passage, texts in parts), *rest]


def passage_keys(fragment: Row) -> list[str]:
    """Keys of the passages of a fragment row; rows for words that did not fit come after them."""
    return [passage_key(fragment["id"], i) for i in range(fragment["num_passages"])]


def row_bytes(rows: list[Row], dim: int) -> int:
    """What one of these rows weighs at most, roughly."""
    return 4 * dim + max(map(_text_bytes, rows), default=0) + 1024


def _text_bytes(row: Row) -> int:
    names = sum(len(name.encode()) + _BYTES_A_NAME for name in row["participants"])
    return len(row["text"].encode()) + len(row["turn_ids"]) + names


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
