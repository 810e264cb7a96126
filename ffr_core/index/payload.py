"""Dialogues at rest: compressed JSON in a Storage, below their tenant, by dialogue and content."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ffr_core.errors import NotFoundError
from ffr_core.index.keys import dialogue_key, tenant_key
from ffr_core.protocols import Storage
from ffr_core.recent import Recent
from ffr_core.records import content_hash, dialogue_from_record, record_from_dialogue
from ffr_core.storage import LocalStorage
from ffr_core.types import Dialogue

PAYLOADS = "payloads/"
"""Start of all keys in the storage."""
_NAME = re.compile(r"[0-9a-f]{32}/[0-9a-f]{64}")


class PayloadStore:
    """What a search shows: turns, title and language. Gold labels are not kept.

    A dialogue without any timestamp also keeps the time of its first `put`, for retention.

    A payload's name is `dialogue key/content hash`. It is written before the rows that point to it;
    older contents of the dialogue are removed after, so a header never points to nothing.
    """

    def __init__(
        self,
        storage: Storage,
        cached: int = 256,
        lifetime: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use a storage.

        Args:
            storage: Where payloads lie.
            cached: Dialogues that stay unpacked in memory. A name comes from the index only, so a
                deleted dialogue cannot be asked for.
            lifetime: Seconds that one stays there at most, so that the text of a dialogue that
                another process deletes goes away too; None: until others push it out.
            clock: Tells seconds.
        """
        self._storage = storage
        self._cache: Recent[tuple[str, str], Dialogue] = Recent(cached, lifetime, clock)

    def put(self, dialogue: Dialogue, tenant: str) -> str:
        """Store a dialogue and return its name. Twice is as good as once."""
        import zstandard

        name = f"{dialogue_key(tenant, dialogue.dialogue_id)}/{content_hash(dialogue)}"
        record = record_from_dialogue(dialogue)
        record.pop("fragments", None)
        record.pop("queries", None)
        if not any(turn.timestamp for turn in dialogue.turns):
            first = self.indexed_at(tenant, name) or datetime.now(UTC)
            record["indexed_at"] = first.isoformat()
        data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        self._storage.write(_key(tenant, name), zstandard.ZstdCompressor().compress(data))
        self._forget(tenant, name)  # what OCR read may differ under the same name
        return name

    def indexed_at(self, tenant: str, name: str) -> datetime | None:
        """When a dialogue without any timestamp was first stored with this content.

        None for a dialogue that has timestamps, that is not there, or whose time is not known.
        """
        import zstandard

        try:
            data = self._storage.read(payload_key(tenant_key(tenant), name))
        except NotFoundError:
            return None
        stored = json.loads(zstandard.ZstdDecompressor().decompress(data)).get("indexed_at")
        return None if stored is None else datetime.fromisoformat(stored)

    def get(self, tenant: str, name: str) -> Dialogue:
        """Read a dialogue back; NotFoundError when this tenant has none of that name."""
        import zstandard

        known = self._cache.get((tenant, name))
        if known is not None:
            return known
        data = zstandard.ZstdDecompressor().decompress(self._storage.read(_key(tenant, name)))
        dialogue = dialogue_from_record(json.loads(data), stored=True)
        self._cache.put((tenant, name), dialogue)
        return dialogue

    def exists(self, tenant: str, name: str) -> bool:
        """Whether a dialogue is stored under that name."""
        return self._storage.exists(_key(tenant, name))

    def forget(self, tenant: str, dialogue_id: str) -> None:
        """Drop every content of a dialogue from memory."""
        folder = f"{dialogue_key(tenant, dialogue_id)}/"
        self._cache.drop(lambda key, _: key[0] == tenant and key[1].startswith(folder))

    def keep_only(self, tenant: str, name: str) -> None:
        """Remove every other content of the same dialogue, also what a crash left behind."""
        kept = _key(tenant, name)
        self._remove(tenant, kept.rpartition("/")[0], kept)

    def delete(self, tenant: str, dialogue_id: str) -> None:
        """Remove every content of a dialogue, also what a killed write left."""
        self._remove(tenant, _folder(tenant_key(tenant), dialogue_key(tenant, dialogue_id)))

    def _remove(self, tenant: str, folder: str, kept: str | None = None) -> None:
        for key in self._storage.list(f"{folder}/"):
            if key != kept:
                self._storage.delete(key)
                self._forget(tenant, "/".join(key.removesuffix(".json.zst").split("/")[-2:]))
        if isinstance(self._storage, LocalStorage):
            self._storage.sweep(folder)

    def _forget(self, tenant: str, name: str) -> None:
        self._cache.drop(lambda key, _: key == (tenant, name))


def payload_key(tenant: str, name: str) -> str:
    """Where a payload lies in the storage, from the key of its tenant.

    Raises:
        NotFoundError: The name is not one that `put` returns.
    """
    if not _NAME.fullmatch(name):
        raise NotFoundError(
            f"no dialogue is stored as {name[:120]!r}; a name is a dialogue key and a content hash"
        )
    key, _, digest = name.partition("/")
    return f"{_folder(tenant, key)}/{digest}.json.zst"


def _folder(tenant: str, key: str) -> str:
    return f"{PAYLOADS}{tenant}/{key[:2]}/{key}"


def _key(tenant: str, name: str) -> str:
    return payload_key(tenant_key(tenant), name)
