"""The stages of the index job that run models: segment, embed, build.

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

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ffr_core.building import Builder
from ffr_core.embedding.lazy import LazyEncoder
from ffr_core.embedding.wrapped import tokens_read
from ffr_core.engine.lazy import LazyEngine, engine_died
from ffr_core.errors import FfrError
from ffr_core.parts import build_builder, build_image_reader, encoder_of
from ffr_core.profile import Profile
from ffr_core.types import Dialogue
from jobs.index_rows import Batch, Row, batch_of, dead, rows_of

MAX_DEATHS = 2
"""A record whose process died this often while it was read alone becomes a dead letter."""


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


def load_builder(profile: dict[str, Any]) -> Builder:
    """The models of a profile in this process; each loads when its work comes."""
    parsed = Profile.model_validate(profile)
    engine = None
    if parsed.segmenter.kind == "vlm":
        engine = LazyEngine(parsed.segmenter.engine or parsed.engine, build_image_reader(parsed))
    return build_builder(parsed, LazyEncoder(lambda: encoder_of(parsed)), engine)


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
