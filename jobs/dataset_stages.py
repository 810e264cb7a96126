"""The Ray Data stages of the data set job. Rows hold short strings: JSON, paths, byte offsets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.dataset.annotation import tag_assignment
from ffr_core.dataset.asking import Assignment, Refusal, ask
from ffr_core.dataset.clean_corpus import load_features
from ffr_core.dataset.dataset_prompts import DatasetPrompts
from ffr_core.dataset.features import embed_dialogues, save_shard
from ffr_core.dataset.long_dialogue import LongDialogue, from_json, to_json
from ffr_core.dataset.merging import merge_assignment
from ffr_core.dataset.qa import qa_assignments, with_all_pairs
from ffr_core.dataset.queries import Embed, draw_queries
from ffr_core.dataset.sources import Format, Unreadable, read_file
from ffr_core.dataset.steps import read_records, write_records
from ffr_core.dataset.triplets import MatchingRules, match_triplets
from ffr_core.generation import Sampling
from ffr_core.images import ImageReader
from ffr_core.parts import build_encoder
from ffr_core.records import dialogue_from_record, record_from_dialogue
from jobs.dataset_config import DatasetConfig, build_annotator, build_clip

Batch = dict[str, Any]
_CHUNK = 64


def line_offsets(path: Path) -> list[int]:
    """Byte offset of every line, so that a worker reads only its own."""
    offsets, at = [], 0
    with path.open("rb") as stream:
        for line in stream:
            offsets.append(at)
            at += len(line)
    return offsets


def read_lines(path: Path, offsets: Sequence[int], following: int = 1) -> list[dict[str, Any]]:
    """Records at byte offsets, each with those that follow it directly."""
    records: list[dict[str, Any]] = []
    with path.open("rb") as stream:
        for offset in offsets:
            stream.seek(int(offset))
            lines = (stream.readline() for _ in range(following))
            records.extend(json.loads(line) for line in lines if line)
    return records


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStage:
    """File -> its dialogues as JSON, or what cannot be read."""

    form: Format

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """Stream the files."""
        for path in batch["path"]:
            rows: list[tuple[str, str]] = []
            for found in read_file(Path(str(path)), self.form):
                rows.append(_read_row(found))
                if len(rows) == _CHUNK:
                    yield _columns(rows)
                    rows = []
            if rows:
                yield _columns(rows)


def _read_row(found: Any) -> tuple[str, str]:
    if isinstance(found, Unreadable):
        letter = {
            "source": found.source,
            "position": found.position,
            "reason": found.reason,
            "message": found.message,
        }
        return "", json.dumps(letter)
    return json.dumps(record_from_dialogue(found), ensure_ascii=False), ""


def _columns(rows: Sequence[tuple[str, str]]) -> Batch:
    return {"dialogue": [row[0] for row in rows], "letter": [row[1] for row in rows]}


class EmbedStage:
    """Shard number -> a file of features; an actor that loads its models once."""

    def __init__(self, config: dict[str, Any], corpus: str, folder: str) -> None:
        """Keep where to read and write."""
        self._config = DatasetConfig.model_validate(config)
        self._corpus, self._folder = Path(corpus), Path(folder)

    @cached_property
    def _models(self) -> tuple[Any, Any, ImageReader]:
        reader = ImageReader(limits=self._config.images)
        return build_encoder(self._config.encoder), build_clip(self._config.clip, reader), reader

    def __call__(self, batch: Batch) -> Batch:
        """Embed the dialogues of each shard."""
        encoder, clip, reader = self._models
        numbers: list[int] = []
        for name, offset in zip(batch["name"], batch["offset"], strict=True):
            shard = self._config.embedding.shard
            records = read_lines(self._corpus, [offset], following=shard)
            dialogues = [dialogue_from_record(record) for record in records]
            items = embed_dialogues(dialogues, encoder, clip, reader)
            save_shard(self._folder / str(name), [d.dialogue_id for d in dialogues], items)
            numbers.append(len(dialogues))
        return {"dialogues": numbers}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchStage:
    """Pool -> its triplets, as rows of the cleaned corpus."""

    folder: str
    rules: MatchingRules
    rows_of: dict[str, list[int]]

    def __call__(self, batch: Batch) -> Batch:
        """Match inside each pool."""
        found: list[str] = []
        for pool in map(str, batch["pool"]):
            rows = self.rows_of[pool]
            matches = match_triplets(load_features(Path(self.folder), rows), self.rules)
            triplets = np.asarray(rows)[matches.triplets_T3].tolist()
            record = {"pool": pool, "triplets": triplets, "anchors": matches.anchors}
            found.append(json.dumps({**record, "missing": dict(matches.missing)}))
        return {"matches": found}


class AnnotateStage:
    """Triplet -> merged, tagged, questioned long dialogue, or a dead letter with its step."""

    def __init__(self, config: dict[str, Any], corpus: str) -> None:
        """Keep where the short dialogues are."""
        self._config = DatasetConfig.model_validate(config)
        self._corpus = Path(corpus)

    @cached_property
    def _engine(self) -> Any:
        return build_annotator(self._config.engine, ImageReader(limits=self._config.images))

    @cached_property
    def _prompts(self) -> DatasetPrompts:
        return DatasetPrompts.load(self._config.prompts)

    def __call__(self, batch: Batch) -> Batch:
        """Three rounds over the batch: merge, tag, QA."""
        keys, pools = [str(k) for k in batch["key"]], [str(p) for p in batch["pool"]]
        rows: dict[str, dict[str, Any]] = {
            key: {"key": key, "pool": pool} for key, pool in zip(keys, pools, strict=True)
        }
        questions = [
            self._merge(key, offsets) for key, offsets in zip(keys, batch["offsets"], strict=True)
        ]
        structured = self._config.annotate.structured
        items = self._round("merge", questions, rows)
        tags = [tag_assignment(item, self._prompts, structured=structured) for item in items]
        items = self._round("tag", tags, rows)
        pairs = [
            question
            for item in items
            for question in qa_assignments(item, self._prompts, structured=structured)
        ]
        for item in with_all_pairs(self._round("qa", pairs, rows)):
            row = rows[item.dialogue.dialogue_id]
            if "dead" not in row:
                row["item"] = to_json(replace(item, pool=row["pool"]))
        return {"row": [json.dumps(row, ensure_ascii=False) for row in rows.values()]}

    def _merge(self, key: str, offsets: Sequence[int]) -> Assignment[LongDialogue]:
        records = read_lines(self._corpus, offsets)
        return merge_assignment(
            key,
            [dialogue_from_record(record) for record in records],
            [record["image_keys"] for record in records],
            self._prompts,
            target_language=self._config.target_language,
            structured=self._config.annotate.structured,
        )

    def _round(
        self,
        step: str,
        assignments: Sequence[Assignment[LongDialogue]],
        rows: dict[str, dict[str, Any]],
    ) -> list[LongDialogue]:
        """Ask; what is refused in the end becomes the dead letter of its row."""
        settings = self._config.annotate
        answers = ask(
            self._engine,
            assignments,
            retry_text=self._prompts.retry_text,
            sampling=Sampling(
                sampling_temperature=settings.sampling_temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=self._config.splits.seed,
            ),
            max_attempts=settings.max_attempts,
        )
        for assignment, reasons in zip(assignments, answers.refused, strict=True):
            if reasons:
                found = rows[assignment.key].setdefault("refused", [])
                found += [f"{step}: {reason}" for reason in reasons]
        kept: list[LongDialogue] = []
        for result in answers.results:
            if isinstance(result, Refusal):
                rows[result.key]["dead"] = {
                    "step": step,
                    "reason": result.reason,
                    "message": result.message,
                    "attempts": result.attempts,
                }
            else:
                kept.append(result)
        return kept


class QueryStage:
    """Pool -> its long dialogues with queries, in a file of their own."""

    def __init__(self, config: dict[str, Any], annotated: str, folder: str) -> None:
        """Keep where to read and write."""
        self._config = DatasetConfig.model_validate(config)
        self._annotated, self._folder = Path(annotated), Path(folder)

    def __call__(self, batch: Batch) -> Batch:
        """Draw the queries of each pool."""
        found: list[str] = []
        for pool in map(str, batch["pool"]):
            records = (r["item"] for r in read_records(self._annotated) if "item" in r)
            items = [from_json(r) for r in records if r["pool"] == pool]
            items.sort(key=lambda item: item.dialogue.dialogue_id)
            drawn = draw_queries(items, self._config.queries, self._embed)
            write_records(self._folder / f"{pool}.jsonl", map(to_json, drawn.items))
            counts = {"dialogues": len(items), "by_kind": drawn.by_kind, "short": drawn.short}
            found.append(json.dumps({"pool": pool, **counts}))
        return {"counts": found}

    @cached_property
    def _embed(self) -> Embed | None:
        if not self._config.negatives_by_embedding:
            return None
        encoder = build_encoder(self._config.encoder)
        known: dict[str, Any] = {}

        def embed(texts: Sequence[str]) -> Any:
            missing = [text for text in dict.fromkeys(texts) if text not in known]
            if missing:
                known.update(zip(missing, encoder.encode_queries(missing), strict=True))
            return np.stack([known[text] for text in texts])

        return embed
