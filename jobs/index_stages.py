"""The stages of the index job: read -> prepare -> segment -> embed -> write.

A row is one record. It carries `source`, `position`, `consumed`, and either a `status` (finished:
`indexed`, `updated`, `unchanged`, `dead`) or an `item` (a pickled step of the way). A row never
fails a stage: what goes wrong with one record becomes its `status`, with a reason. Pictures travel
as URIs; the engine of the process that needs them opens them.

A boundary model runs in our own actor class, one engine an actor, and not in `ray.data.llm`. With
Ray 2.60, `build_processor` and `vLLMEngineProcessorConfig` take segmentation prompts with pictures,
a grammar a row (`sampling_params["structured_outputs"]`) and a local adapter (`model` = its
folder); the executor must be `mp` and `placement_group_config` name CPUs on a machine without GPU.
But it makes one prompt a row where a long dialogue needs several windows; pictures travel decoded
between its stages; its error rows skip the postprocessing that counts reasons and carry the start
of the prompt; a record that ends its engine is tried without end; it runs vLLM only, and the same
segmenter object must answer here, in `ffrs index` and in the service.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ffr_core.embedding.lazy import LazyEncoder
from ffr_core.embedding.wrapped import tokens_read
from ffr_core.engine.lazy import LazyEngine, engine_died
from ffr_core.errors import FfrError, ForbiddenError, InputError, NotFoundError, RecordError
from ffr_core.images import ImageReader
from ffr_core.parts import build_builder, build_encoder, build_image_reader
from ffr_core.pipeline import Builder, dialogue_fingerprint
from ffr_core.profile import Profile
from ffr_core.records import dialogue_from_record
from ffr_core.types import Dialogue
from jobs.index_owner import Claim, owner_of
from jobs.reading import RawRecord, Source, read_records

Row = dict[str, Any]
Batch = dict[str, Any]
CHUNK = 32
"""Records that travel together out of the reader."""
MAX_DEATHS = 2
"""A record whose process died this often while it was read alone becomes a dead letter."""


def empty_row(source: str, position: int, consumed: int) -> Row:
    """A row with every column, so that all blocks have one schema."""
    return {
        "source": source,
        "position": position,
        "consumed": consumed,
        "dialogue_id": "",
        "status": "",
        "change": "",
        "reason": "",
        "message": "",
        "sha256": "",
        "fragments": 0,
        "passages": 0,
        "turns": 0,
        "tokens": 0,
        "bad_images": "",
        "item": b"",
    }


def rows_of(batch: Batch) -> list[Row]:
    """Columns to rows."""
    names = list(batch)
    return [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def batch_of(rows: list[Row]) -> Batch:
    """Rows to columns."""
    names = rows[0] if rows else empty_row("", 0, 0)
    return {name: [row[name] for row in rows] for name in names}


def dead(row: Row, reason: str, message: str) -> Row:
    """Finish a row as a dead letter; messages name ids and values of the form, not texts."""
    return {**row, "status": "dead", "reason": reason, "message": message, "item": b""}


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
            except (OSError, ValueError, EOFError) as error:
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
                        order=(rows[number]["source"], int(rows[number]["position"])),
                        fingerprint=dialogue_fingerprint(dialogues[number], self.recipe),
                    )
                    for number in numbers
                ],
                self.restore,
            )
            for owner, numbers in per_owner.items()
        }
        for owner, numbers in per_owner.items():
            for number, decision in zip(numbers, ray.get(asked[owner]), strict=True):
                rows[number] = _decided(rows[number], decision, dialogues[number])


def _decided(row: Row, decision: str, dialogue: Dialogue) -> Row:
    if decision == "duplicate":
        return dead(row, "duplicate_id", "a later record of this run has the same dialogue_id")
    if decision == "deleted":
        return dead(row, "deleted", "the dialogue was deleted; --restore indexes it again")
    if decision == "unchanged":
        return {**row, "status": "unchanged", "item": b""}
    change = "indexed" if decision == "new" else "updated"
    return {**row, "change": change, "turns": len(dialogue.turns), "item": pickle.dumps(dialogue)}


class _ModelStage:
    """An actor whose models load once, when the first row with work comes."""

    def __init__(
        self,
        profile: dict[str, Any],
        owners: Sequence[Any] = (),
        batch_tokens: int | None = None,
    ) -> None:
        """Keep what the work needs.

        Args:
            profile: Models.
            owners: The first one remembers what was begun, so that a record that takes its process
                down again and again is found; without owners that is not watched.
            batch_tokens: Rough tokens that a model gets in one call; all of a batch when left out.
        """
        self._profile, self._batch_tokens = profile, batch_tokens
        self._owner = owners[0] if owners else None

    @cached_property
    def _builder(self) -> Builder:
        return load_builder(self._profile)

    def _step(self, batch: Batch, reason: str, step: Callable[[list[Any]], list[Any]]) -> Batch:
        """Run a step over the open rows; the first of them carries the tokens that it read."""
        rows = rows_of(batch)
        todo = [number for number, row in enumerate(rows) if not row["status"]]
        if not todo:
            return batch
        before = tokens_read(self._builder.encoder)
        for number, row in zip(
            todo, self._watched([rows[n] for n in todo], reason, step), strict=True
        ):
            rows[number] = row
        rows[todo[0]]["tokens"] += tokens_read(self._builder.encoder) - before
        return batch_of(rows)

    def _watched(
        self, rows: list[Row], reason: str, step: Callable[[list[Any]], list[Any]]
    ) -> Iterator[Row]:
        """Build rows together; those of a batch that took its process down, one by one."""
        import ray

        owner = self._owner
        if owner is None:
            yield from self._parts(rows, reason, step)
            return
        batch = f"{len(rows)} from {_work_key(rows[0])}"
        if ray.get(owner.begin.remote(batch)) == 1:
            yield from self._parts(rows, reason, step)
        else:
            for row in rows:
                work = _work_key(row)
                if ray.get(owner.begin.remote(work)) > MAX_DEATHS:
                    yield dead(row, "ends_process", f"it ended its process {MAX_DEATHS} times")
                else:
                    yield from _build_rows([row], reason, step)
                ray.get(owner.end.remote(work))
        ray.get(owner.end.remote(batch))

    def _parts(
        self, rows: list[Row], reason: str, step: Callable[[list[Any]], list[Any]]
    ) -> Iterator[Row]:
        for part in split_by_tokens(rows, self._batch_tokens):
            yield from _build_rows(part, reason, step)


def split_by_tokens(rows: list[Row], limit: int | None) -> Iterator[list[Row]]:
    """Consecutive rows whose items weigh at most `limit` tokens together; a heavier one is alone.

    A token is taken to be four bytes of the item.
    """
    part: list[Row] = []
    used = 0
    for row in rows:
        weight = len(row["item"]) // 4
        if part and limit is not None and used + weight > limit:
            yield part
            part, used = [], 0
        part.append(row)
        used += weight
    if part:
        yield part


def _work_key(row: Row) -> str:
    return f"{row['source']}:{row['position']}"


class SegmentStage(_ModelStage):
    """Dialogue -> (dialogue, fragments)."""

    def __call__(self, batch: Batch) -> Batch:
        """Segment the rows that have work left."""
        return self._step(batch, "segment_failed", lambda ds: self._builder.segment(ds))


class EmbedStage(_ModelStage):
    """(dialogue, fragments) -> indexed dialogue."""

    def __call__(self, batch: Batch) -> Batch:
        """Embed the rows that have work left."""
        return self._step(batch, "embed_failed", lambda pairs: self._builder.embed(pairs))


class BuildStage(_ModelStage):
    """Both steps in one actor, where segmenter and encoder share one model."""

    def __call__(self, batch: Batch) -> Batch:
        """Segment and embed the rows that have work left."""
        return self._step(batch, "build_failed", lambda ds: self._builder.build(ds))


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
                [((rows[n]["source"], int(rows[n]["position"])), rows[n]["item"]) for n in numbers]
            )
            for owner, numbers in per_owner.items()
        }
        for owner, numbers in per_owner.items():
            for number, written in zip(numbers, ray.get(asked[owner]), strict=True):
                row = {**rows[number], "item": b""}
                rows[number] = (
                    {**row, "status": row["change"]}
                    if written
                    else dead(row, "duplicate_id", "a later record has the same dialogue_id")
                )
        return batch_of(rows)


def load_builder(profile: dict[str, Any]) -> Builder:
    """The models of a profile in this process; each loads when its work comes."""
    parsed = Profile.model_validate(profile)
    engine = None
    if parsed.segmenter.kind == "vlm":
        engine = LazyEngine(parsed.segmenter.engine or parsed.engine, build_image_reader(parsed))
    return build_builder(parsed, LazyEncoder(lambda: build_encoder(parsed.encoder)), engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a job must know of its models before the first record."""

    text: str
    """Everything but the content that decides what is stored."""
    encoder_fingerprint: str
    dim: int


def describe_models(profile: dict[str, Any]) -> Recipe:
    """Load the encoder, not the boundary model's weights, and say what they are."""
    builder = load_builder(profile)
    encoder = builder.encoder
    return Recipe(text=builder.recipe, encoder_fingerprint=encoder.fingerprint, dim=encoder.dim)


def measure_speed(profile: dict[str, Any], sample: list[Dialogue]) -> float:
    """Turns per second of one worker, models loaded; writes nothing."""
    builder = load_builder(profile)
    builder.build(sample[:1])
    started = time.monotonic()
    builder.build(sample)
    return sum(len(dialogue.turns) for dialogue in sample) / (time.monotonic() - started)


def parse_record(raw: bytes, base: str) -> Dialogue:
    """JSON bytes -> dialogue; RecordError with a reason for everything that can be wrong."""
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecordError("bad_encoding", f"the record is not UTF-8: {error.reason}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        position = getattr(error, "pos", "?")
        raise RecordError("bad_json", f"the record is not JSON, at byte {position}") from error
    return dialogue_from_record(record, base=base)


def check_images(dialogue: Dialogue, reader: ImageReader) -> tuple[Dialogue, dict[str, str]]:
    """Refuse a dialogue that points outside the roots; drop images that cannot be read.

    Returns:
        The dialogue, unreadable images without their URI, and {image id: reason} for those.

    Raises:
        RecordError: `image_outside_roots`.
    """
    bad: dict[str, str] = {}
    for image in dialogue.images:
        if image.uri is None:
            continue
        try:
            reader.check_readable(image.uri)
        except ForbiddenError as error:
            raise RecordError("image_outside_roots", str(error)) from error
        except (NotFoundError, InputError) as error:
            bad[str(image.image_id)] = f"{type(error).__name__}: {error}"
    if not bad:
        return dialogue, bad
    turns = tuple(
        replace(
            turn,
            images=tuple(
                replace(image, uri=None) if str(image.image_id) in bad else image
                for image in turn.images
            ),
        )
        for turn in dialogue.turns
    )
    return replace(dialogue, turns=turns), bad


def _build_rows(
    rows: list[Row], reason: str, step: Callable[[list[Any]], list[Any]]
) -> Iterator[Row]:
    """Run a step over open rows; when it fails, again one by one to find the culprit."""
    items = [pickle.loads(row["item"]) for row in rows]
    try:
        results: list[Any] = step(items)
    except Exception as error:  # every failure becomes a dead letter with its reason
        _leave_if_dead(error)
        results = [_one(step, item) for item in items] if len(items) > 1 else [error]
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, Exception):
            known = isinstance(result, FfrError)
            yield dead(row, reason, str(result) if known else type(result).__name__)
            continue
        fragments = result[1] if isinstance(result, tuple) else result.fragments
        row["fragments"] = len(fragments)
        if not isinstance(result, tuple):
            row["passages"] = sum(len(fragment.passages) for fragment in fragments)
        row["item"] = pickle.dumps(result)
        yield row


def _one(step: Callable[[list[Any]], list[Any]], item: Any) -> Any:
    try:
        return step([item])[0]
    except Exception as error:  # becomes the row's dead letter
        _leave_if_dead(error)
        return error


def _leave_if_dead(error: Exception) -> None:
    """End this process when its engine is gone: Ray starts another and gives it the same rows.

    At once, since an actor that ends in an orderly way can hang the job.
    """
    if engine_died(error):
        os._exit(1)
