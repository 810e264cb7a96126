"""What one dialogue becomes in an index: checks, limits and the text forms that rows hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ffr_core.errors import InputError, RecordError
from ffr_core.index.bm25 import tokenize
from ffr_core.index.filters import MAX_NAME_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.types import Dialogue, IndexedDialogue

MAX_TEXT_BYTES = 65_000
"""Milvus holds 65,535 bytes a string; Milvus Lite stores longer ones without a word."""
MAX_PARTICIPANTS_OF_FRAGMENT = 1024
"""Each passage repeats the names: so many speakers with a turn each take Lite about 10 s."""


def check_item(item: IndexedDialogue, dim: int) -> None:
    """Refuse what no index can hold.

    Raises:
        RecordError: `id_too_long`, `bad_vector`, `too_many_speakers` or `fragment_too_scattered`.
    """
    name = item.dialogue.dialogue_id
    check_dialogue_id(name)
    ids = [part.fragment.fragment_id for part in item.fragments]
    assert len(ids) == len(set(ids)), f"dialogue {name!r} has two fragments of one id: {ids}"
    for part in item.fragments:
        where = f"fragment {part.fragment.fragment_id} of dialogue {name!r}"
        for vector_D in (part.vector_D, *(passage.vector_D for passage in part.passages)):
            check_vector(vector_D, dim, where)
        turn_ids = part.fragment.turn_ids
        if len(pack_ids(turn_ids)) > MAX_TEXT_BYTES:
            raise RecordError(
                "fragment_too_scattered",
                f"{where} has {len(turn_ids)} scattered turns, more than a row holds; split it",
            )
        num_speakers = len({item.dialogue.turns[i].speaker for i in turn_ids})
        if num_speakers > MAX_PARTICIPANTS_OF_FRAGMENT:
            raise RecordError(
                "too_many_speakers",
                f"{where} has {num_speakers} speakers, at most {MAX_PARTICIPANTS_OF_FRAGMENT} fit;"
                " split the dialogue into shorter ones",
            )


def check_dialogue_id(dialogue_id: str) -> None:
    """Refuse an id of over 1,024 bytes: it could be stored but not filtered."""
    size = len(dialogue_id.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise RecordError(
            "id_too_long",
            f"dialogue_id {dialogue_id[:40]!r}... has {size} bytes, at most {MAX_NAME_BYTES} fit;"
            " shorten it",
        )


def check_not_deleted(dialogue: Dialogue, deleted: bool) -> None:
    """Respect a tombstone: what a person deleted does not come back by indexing again."""
    if deleted:
        raise RecordError(
            "deleted",
            f"dialogue {dialogue.dialogue_id!r} was deleted on purpose; restore it first if it"
            " shall be indexed again",
        )


def check_vector(vector_D: NDArray[np.float32], dim: int, where: str) -> None:
    """Refuse a vector with NaN or infinity; one of another length is our own mistake."""
    import numpy as np

    assert vector_D.shape == (dim,), f"{where}: a vector of shape {vector_D.shape}, not ({dim},)"
    if not np.isfinite(vector_D).all():
        raise RecordError("bad_vector", f"{where} has a vector with NaN; check the encoder")


def check_query(vector_D: NDArray[np.float32], dim: int, num_candidates: int) -> None:
    """Refuse a query that cannot be searched."""
    check_vector(vector_D, dim, "the query")
    if num_candidates < 1:
        raise InputError(f"num_candidates is {num_candidates}; ask for at least 1")


def searchable(text: str) -> str:
    """The first of `searchable_parts`: of a very long fragment, passages alone find the tail."""
    return searchable_parts(text)[0]


def searchable_parts(text: str) -> list[str]:
    """The words that BM25 counts, joined by spaces, in parts of at most 65,000 bytes.

    A cut falls between two words; a single longer word is cut on a character border.
    """
    data = " ".join(tokenize(text)).encode()
    parts: list[str] = []
    while len(data) > MAX_TEXT_BYTES:
        kept, space, _ = data[: MAX_TEXT_BYTES + 1].rpartition(b" ")
        parts.append((kept if space else data[:MAX_TEXT_BYTES]).decode(errors="ignore"))
        data = data[len(parts[-1].encode()) :].removeprefix(b" ")
    return [*parts, data.decode()]


def pack_ids(ids: Sequence[int]) -> str:
    """Ascending ids as ranges: `pack_ids([0, 1, 2, 7]) == "0-2,7"`."""
    ranges: list[list[int]] = []
    for i in ids:
        if ranges and ranges[-1][1] == i - 1:
            ranges[-1][1] = i
        else:
            ranges.append([i, i])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges)


def unpack_ids(packed: str) -> tuple[int, ...]:
    """The ids that `pack_ids` wrote."""
    ids: list[int] = []
    for part in packed.split(",") if packed else ():
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return tuple(ids)
