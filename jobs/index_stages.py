"""The stages of the index job: read -> prepare -> segment -> embed -> write.

A row is one record. It carries `source`, `position`, `consumed`, and either a `status` (finished:
`indexed`, `updated`, `unchanged`, `dead`) or an `item` (a pickled step of the way). A row never
fails a stage: what goes wrong with one record becomes its `status`, with a reason. Pictures travel
as URIs; the engine of the process that needs them opens them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ffr_core.building import dialogue_fingerprint
from ffr_core.errors import FfrError, RecordError
from ffr_core.index.rows import check_dialogue_id
from ffr_core.parts import build_image_reader
from ffr_core.profile import Profile
from ffr_core.types import Dialogue
from jobs.index_notes import Order
from jobs.index_owner import REPLACED, Claim, owner_of
from jobs.index_rows import (
    CHUNK,
    Batch,
    Row,
    batch_of,
    check_images,
    dead,
    empty_row,
    parse_record,
    rows_of,
)
from jobs.reading import RawRecord, Source, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStage:
    """A corpus file -> rows with the raw record in `item`."""

    max_bytes: int
    s3_endpoint: str | None

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """Stream one file after the other."""
        for uri, size in zip(batch["uri"], batch["size"], strict=True):
            rows: list[Row] = []
            source = Source(uri=str(uri), size=int(size))
            position = 0
            try:
                for record in read_records(source, self.max_bytes, self.s3_endpoint):
                    position = record.position
                    rows.append(self._row(source, record))
                    if len(rows) == CHUNK:
                        yield batch_of(rows)
                        rows = []
            except (OSError, ValueError, EOFError, zlib.error, FfrError) as error:
                broken = empty_row(source.uri, position + 1, 0)
                rows.append(dead(broken, "unreadable_file", f"the file breaks off here: {error}"))
            if rows:
                yield batch_of(rows)

    def _row(self, source: Source, record: RawRecord) -> Row:
        row = empty_row(source.uri, record.position, record.consumed)
        row["sha256"] = hashlib.sha256(record.raw).hexdigest()
        if record.too_large:
            message = f"the record exceeds {self.max_bytes} bytes; split the dialogue"
            return dead(row, "record_too_large", message)
        return {**row, "item": record.raw}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareStage:
    """Raw record -> checked dialogue in `item`, or finished: unchanged, deleted, dead."""

    profile: dict[str, Any]
    recipe: str
    owners: list[Any]
    restore: bool
    dry_run: bool = False

    def __call__(self, batch: Batch) -> Batch:
        """Parse, check images, then ask the owners what there is to do."""
        images = build_image_reader(Profile.model_validate(self.profile))
        rows = rows_of(batch)
        dialogues: dict[int, Dialogue] = {}
        for number, row in enumerate(rows):
            if row["status"]:
                continue
            try:
                dialogue = parse_record(row["item"], Source(uri=row["source"], size=0).base)
                check_dialogue_id(dialogue.dialogue_id)
                row["dialogue_id"] = dialogue.dialogue_id
                dialogue, bad_images = check_images(dialogue, images)
                row["bad_images"] = json.dumps(bad_images) if bad_images else ""
                dialogues[number] = dialogue
            except RecordError as error:
                rows[number] = dead(row, error.reason, str(error))
        self._decide(rows, dialogues)
        return batch_of(rows)

    def _decide(self, rows: list[Row], dialogues: dict[int, Dialogue]) -> None:
        import ray

        per_owner: dict[int, list[int]] = {}
        for number, dialogue in dialogues.items():
            owner = owner_of(dialogue.dialogue_id, len(self.owners))
            per_owner.setdefault(owner, []).append(number)
        asked = {
            owner: self.owners[owner].decide.remote(
                [
                    Claim(
                        dialogue_id=dialogues[number].dialogue_id,
                        order=_order(rows[number], len(dialogues[number].turns)),
                        fingerprint=dialogue_fingerprint(dialogues[number], self.recipe),
                    )
                    for number in numbers
                ],
                self.restore,
                self.dry_run,
            )
            for owner, numbers in per_owner.items()
        }
        for owner, numbers in per_owner.items():
            for number, decision in zip(numbers, ray.get(asked[owner]), strict=True):
                rows[number] = _decided(rows[number], decision, dialogues[number])


def _order(row: Row, num_turns: int) -> Order:
    return num_turns, str(row["source"]), int(row["position"])


def _decided(row: Row, decision: str, dialogue: Dialogue) -> Row:
    if decision == "duplicate":
        return dead(row, *REPLACED)
    if decision == "deleted":
        return dead(row, "deleted", "the dialogue was deleted; --restore indexes it again")
    if decision == "unchanged":
        return {**row, "status": "unchanged", "item": b""}
    change = "indexed" if decision == "new" else "updated"
    return {**row, "change": change, "turns": len(dialogue.turns), "item": pickle.dumps(dialogue)}


class WriteStage:
    """Indexed dialogue -> finished row. The owners explode it into index rows."""

    def __init__(self, owners: Sequence[Any]) -> None:
        """Keep the owners."""
        self._owners = owners

    def __call__(self, batch: Batch) -> Batch:
        """Hand each owner its dialogues and wait for the acknowledgement."""
        import ray

        rows = rows_of(batch)
        per_owner: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            if not row["status"]:
                owner = owner_of(row["dialogue_id"], len(self._owners))
                per_owner.setdefault(owner, []).append(number)
        asked = {
            owner: self._owners[owner].write.remote(
                [(_order(rows[n], int(rows[n]["turns"])), rows[n]["item"]) for n in numbers]
            )
            for owner, numbers in per_owner.items()
        }
        for owner, numbers in per_owner.items():
            for number, refusal in zip(numbers, ray.get(asked[owner]), strict=True):
                row = {**rows[number], "item": b""}
                rows[number] = dead(row, *refusal) if refusal else {**row, "status": row["change"]}
        return batch_of(rows)
