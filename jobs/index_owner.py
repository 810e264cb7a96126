"""The Ray actor through which the index job reads headers and writes dialogues.

On Milvus Lite there is one, the only process that has the file open. On a Milvus server there are
several; a dialogue always goes to the same one, so that duplicates are noticed.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ffr_core.errors import BusyError, RecordError
from ffr_core.parts import build_index, build_payloads
from ffr_core.profile import Profile
from ffr_core.storage import open_storage
from ffr_core.types import Header, IndexedDialogue
from ffr_core.writing import write_dialogues
from jobs.index_notes import Decision, Note, Order, RunNotes

Refusal = tuple[str, str]
"""Reason and message of a record that is not written."""
REPLACED: Refusal = (
    "duplicate_id",
    "a longer or later record of this run has the same dialogue_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a record wants to write."""

    dialogue_id: str
    order: Order
    fingerprint: str


class IndexOwner:
    """Holds the index and the payload store of one job."""

    def __init__(
        self,
        profile: dict[str, Any],
        encoder_fingerprint: str,
        dim: int,
        tenant: str,
        run: str,
        number: int = 0,
        keep_others: bool = False,
    ) -> None:
        """Open the index; wait a little for a process that is just closing it.

        Args:
            profile: Index and storage.
            encoder_fingerprint: What the vectors are made with.
            dim: D.
            tenant: Owner of the dialogues.
            run: Name of the run; an owner of the same run and number goes on where it was lost.
            number: Its number among the owners of the run.
            keep_others: For an index beside another one over the same payloads.
        """
        parsed = Profile.model_validate(profile)
        deadline = time.monotonic() + 90
        while True:
            try:
                self._index = build_index(parsed, encoder_fingerprint, dim)
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        self._payloads = build_payloads(parsed)
        self._tenant, self._keep_others = tenant, keep_others
        storage = open_storage(parsed.storage.uri, endpoint_url=parsed.storage.s3_endpoint)
        self._notes = RunNotes(storage, tenant, run, number)
        self._orders: dict[bytes, Order] = {}
        self._decisions: dict[Order, Decision] = {}
        for note in self._notes.read():
            self._remember(note)
        self._begun: Counter[str] = Counter()

    def begin(self, work: str) -> int:
        """Note that work starts; returns how often it was started and not ended, this included."""
        self._begun[work] += 1
        return self._begun[work]

    def end(self, work: str) -> None:
        """Note that work came to its end."""
        self._begun.pop(work, None)

    def decide(
        self, claims: Sequence[Claim], restore: bool, dry_run: bool = False
    ) -> list[Decision]:
        """Say for each record whether there is work to do; remembers which record wins.

        `restore` removes the tombstones of deleted dialogues, unless it is a dry run. A record that
        is asked about again gets the same answer, also from an owner that was lost meanwhile: Ray
        repeats a stage when a node takes its output along, and refuses one that then gives another
        number of blocks.
        """
        headers = self._index.headers(self._tenant, {claim.dialogue_id for claim in claims})
        notes: list[Note] = []
        for claim in claims:
            if claim.order not in self._decisions:
                decision = self._decision(claim, headers.get(claim.dialogue_id), restore, dry_run)
                notes.append(Note(_key(claim.dialogue_id).hex(), claim.order, decision))
                self._remember(notes[-1])
        if not dry_run:
            self._notes.add(notes)
        return [self._decisions[claim.order] for claim in claims]

    def _decision(
        self, claim: Claim, header: Header | None, restore: bool, dry_run: bool
    ) -> Decision:
        if not self._wins(claim.dialogue_id, claim.order):
            return "duplicate"
        if header is None:
            return "new"
        if header.deleted:
            if restore and not dry_run:
                self._index.restore(self._tenant, claim.dialogue_id)
            return "new" if restore else "deleted"
        return "unchanged" if header.fingerprint == claim.fingerprint else "changed"

    def _remember(self, note: Note) -> None:
        turns, source, position = note.order
        order = (turns, sys.intern(source), position)
        key = bytes.fromhex(note.dialogue)
        self._orders[key] = max(order, self._orders.get(key, order))
        self._decisions[order] = note.decision

    def write(self, items: Sequence[tuple[Order, bytes]]) -> list[Refusal | None]:
        """Write dialogues; None for each that is written, else why it is not."""
        refusals: list[Refusal | None] = []
        batch: dict[str, IndexedDialogue] = {}
        places: dict[str, int] = {}
        for order, data in items:
            item: IndexedDialogue = pickle.loads(data)
            name = item.dialogue.dialogue_id
            wins = self._wins(name, order)
            refusals.append(None if wins else REPLACED)
            if wins:
                batch[name], places[name] = item, len(refusals) - 1
        try:
            self._write(list(batch.values()))
        except RecordError:
            for name, item in batch.items():
                try:
                    self._write([item])
                except RecordError as error:
                    refusals[places[name]] = (error.reason, str(error))
        return refusals

    def _write(self, items: Sequence[IndexedDialogue]) -> None:
        write_dialogues(self._index, self._payloads, self._tenant, items, self._keep_others)

    def stats(self) -> dict[str, Any]:
        """Counts of the tenant."""
        stats = self._index.stats(self._tenant)
        return {
            "dialogues": stats.dialogues,
            "fragments": stats.fragments,
            "passages": stats.passages,
        }

    def close(self) -> None:
        """Release the index at the end of the run, before the actor ends."""
        self._index.close()
        self._notes.clear()

    def _wins(self, dialogue_id: str, order: Order) -> bool:
        return order >= self._orders.get(_key(dialogue_id), order)


def _key(dialogue_id: str) -> bytes:
    return hashlib.sha256(dialogue_id.encode()).digest()[:16]


def owner_of(dialogue_id: str, num_owners: int) -> int:
    """Which owner a dialogue belongs to."""
    return int.from_bytes(hashlib.sha256(dialogue_id.encode()).digest()[:4]) % num_owners
