"""What the owners of a run decided, kept in the storage until the run ends.

Ray repeats a stage when a node takes its output along, and refuses one that then gives another
number of blocks. An owner that was lost itself reads here what it answered. One object holds the
decisions of one call, so they cost little beside the payloads, one object a dialogue.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from ffr_core.index.keys import tenant_key
from ffr_core.protocols import Storage
from ffr_core.storage import LocalStorage

NOTES = "index_runs/"
"""Start of the keys of all notes."""
Decision = Literal["new", "changed", "unchanged", "deleted", "duplicate"]
Order = tuple[int, str, int]
"""(turns, source, position): among records with one dialogue_id the last one in this order wins.

The longest one thus, wherever the exports of a chat that grew lie; names decide between equals.
"""


class Note(NamedTuple):
    """The decision about one record."""

    dialogue: str
    """32 hex; the id itself is not kept."""
    order: Order
    decision: Decision


class RunNotes:
    """The notes of one owner of one run."""

    def __init__(self, storage: Storage, tenant: str, run: str, owner: int = 0) -> None:
        """Name the place; nothing is written or removed yet.

        Args:
            storage: Where notes lie.
            tenant: Owner of the dialogues.
            run: Name of the run, without dots; the same for an owner that starts again.
            owner: Its number among those of the run.
        """
        self._storage = storage
        self._folder = f"{NOTES}{tenant_key(tenant)}/"
        self._run = f"{self._folder}{run}."
        self._prefix = f"{self._run}{owner}."
        self._has_written = False

    def read(self) -> Iterator[Note]:
        """All notes, in no order."""
        for key in self._storage.list(self._prefix):
            for dialogue, (turns, source, position), decision in json.loads(
                self._storage.read(key)
            ):
                yield Note(dialogue, (turns, source, position), decision)

    def add(self, notes: Sequence[Note]) -> None:
        """Keep notes; they are durable when this returns.

        The first ones push out those of runs of this tenant that did not come to their end. Of a
        job that indexes the tenant at the same time this takes the notes too. Should an owner of it
        be lost then, it may end with an error of Ray, and a shorter record of an id that stands
        twice in its input may win.
        """
        if notes:
            if not self._has_written:
                others = self._storage.list(self._folder)
                self._remove(key for key in others if not key.startswith(self._run))
                self._has_written = True
            key = f"{self._prefix}{uuid.uuid4().hex}.json"
            self._storage.write(key, json.dumps(notes).encode())

    def clear(self) -> None:
        """Remove all notes, at the end of the run; without any, nothing changes."""
        keys = list(self._storage.list(self._prefix))
        if keys:
            self._remove(keys)

    def _remove(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._storage.delete(key)
        if isinstance(self._storage, LocalStorage):
            self._storage.sweep(self._folder.rstrip("/"))
