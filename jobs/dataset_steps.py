"""The steps of the data set job: each reads the folders before it and writes its own."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ffr_core.dataset.card import card_json, card_markdown, draw_card, make_card
from ffr_core.dataset.clean_corpus import dialogue_text
from ffr_core.dataset.long_dialogue import from_json
from ffr_core.dataset.pictures import Pictures, image_key_of
from ffr_core.dataset.split_files import write_splits
from ffr_core.dataset.splits import POOLS, divide
from ffr_core.dataset.steps import append_log, read_records, write_json, write_records
from ffr_core.errors import BusyError
from ffr_core.images import ImageReader
from ffr_core.records import dialogue_from_record
from jobs.dataset_config import DatasetConfig
from jobs.dataset_stages import (
    AnnotateStage,
    EmbedStage,
    MatchStage,
    QueryStage,
    ReadStage,
    line_offsets,
)


def read_corpus(config: DatasetConfig, files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Files -> one file of dialogues with unique ids, and the dead letters."""
    import ray

    rows = ray.data.from_items([{"path": str(file)} for file in files])
    rows = rows.map_batches(ReadStage(form=config.form), batch_size=1, num_cpus=0.5)
    reasons: Counter[str] = Counter()
    ids: set[str] = set()
    letters: list[dict[str, Any]] = []

    def dialogues() -> Iterator[Any]:
        for row in _rows(rows):
            letter = json.loads(row["letter"]) if row["letter"] else None
            record = None if letter else json.loads(row["dialogue"])
            if record and record["dialogue_id"] in ids:
                letter = {"dialogue_id": record["dialogue_id"], "reason": "duplicate_id"}
            if letter:
                reasons[letter["reason"]] += 1
                letters.append(letter)
            else:
                ids.add(record["dialogue_id"])
                yield record

    kept = write_records(folder / "dialogues.jsonl", dialogues())
    write_records(folder / "dead_letter.jsonl", letters)
    return {"in": kept + len(letters), "kept": kept, "reasons": dict(sorted(reasons.items()))}


def embed_corpus(config: DatasetConfig, corpus: Path, folder: Path) -> dict[str, Any]:
    """Corpus -> shards; shards that are there are not made again."""
    import ray

    work = config.embedding
    offsets = line_offsets(corpus)
    items = [
        {"name": f"{number:06d}.npz", "offset": offset}
        for number, offset in enumerate(offsets[:: work.shard])
    ]
    missing = [item for item in items if not (folder / str(item["name"])).is_file()]
    started = time.monotonic()
    number = 0
    if missing:
        rows = ray.data.from_items(missing).map_batches(
            EmbedStage,
            fn_constructor_args=(config.model_dump(), str(corpus), str(folder)),
            batch_size=1,
            num_cpus=work.cpus,
            num_gpus=work.gpus or None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=work.workers),
        )
        for row in _rows(rows):
            number += int(row["dialogues"])
            _progress("embed", number, len(offsets), started)
    seconds = max(time.monotonic() - started, 1e-9)
    return {
        "dialogues": len(offsets),
        "shards": len(items),
        "embedded_now": number,
        "dialogues_per_second": round(number / seconds, 1),
        "clip": config.clip.model or config.clip.factory or "not run",
    }


def divide_corpus(config: DatasetConfig, short: Path, folder: Path) -> dict[str, Any]:
    """Give every short dialogue its pool."""
    keys = [record["image_keys"] for record in read_records(short)]
    texts = (dialogue_text(dialogue_from_record(record)) for record in read_records(short))
    pools = divide(texts, keys, config.splits)
    write_json(folder / "pools.json", pools)
    return {"dialogues": len(pools), "pools": dict(sorted(Counter(pools).items()))}


def match_corpus(config: DatasetConfig, clean: Path, pools: Path, folder: Path) -> dict[str, Any]:
    """Triplets of each pool, with names, and those that are not wanted counted."""
    import ray

    rows_of: dict[str, list[int]] = {pool: [] for pool in POOLS}
    for row, pool in enumerate(json.loads((pools / "pools.json").read_text())):
        rows_of[pool].append(row)
    filled = [{"pool": pool} for pool in POOLS if rows_of[pool]]
    stage = MatchStage(folder=str(clean), rules=config.matching, rows_of=rows_of)
    found = ray.data.from_items(filled).map_batches(stage, batch_size=1, num_cpus=1)
    by_pool = {
        record["pool"]: record for record in (json.loads(r["matches"]) for r in _rows(found))
    }
    triplets = [
        {"pool": pool, "rows": rows, "key": f"{pool}-{number:07d}"}
        for pool in POOLS
        if pool in by_pool
        for number, rows in enumerate(by_pool[pool]["triplets"])
    ]
    chosen = triplets
    if config.max_triplets is not None and len(triplets) > config.max_triplets:
        picked = random.Random(config.splits.seed).sample(range(len(triplets)), config.max_triplets)
        chosen = [triplets[i] for i in sorted(picked)]
    write_records(folder / "triplets.jsonl", chosen)
    return {
        **matching_counts(list(by_pool.values()), config.matching.num_matches, len(chosen)),
        "pools": dict(sorted(Counter(t["pool"] for t in chosen).items())),
    }


def matching_counts(
    pools: Sequence[dict[str, Any]], num_matches: int, num_chosen: int
) -> dict[str, Any]:
    """Counts over the pools: possible = kept + reasons; an anchor has `num_matches` squared.

    Args:
        pools: Of each pool `anchors`, `triplets` and `missing`, as `match_triplets` found them.
        num_matches: Of the matching rules.
        num_chosen: Triplets that are kept of those found.
    """
    anchors = sum(pool["anchors"] for pool in pools)
    missing = sum((Counter(pool["missing"]) for pool in pools), Counter())
    num_found = sum(len(pool["triplets"]) for pool in pools)
    return {
        "anchors": anchors,
        "possible": num_matches**2 * anchors,
        "kept": num_chosen,
        "reasons": {**dict(sorted(missing.items())), "beyond_max": num_found - num_chosen},
    }


def annotate(config: DatasetConfig, short: Path, triplets: Path, folder: Path) -> dict[str, Any]:
    """Merge, tag and question; a log line each, so that a run that was cut off goes on."""
    import ray

    log = folder / "annotated.jsonl"
    finished = append_log(log, keep=lambda row: not _is_engine_error(row))
    offsets = line_offsets(short)
    wanted = list(read_records(triplets / "triplets.jsonl"))
    items = [
        {"key": t["key"], "pool": t["pool"], "offsets": [offsets[row] for row in t["rows"]]}
        for t in wanted
        if t["key"] not in finished
    ]
    started = time.monotonic()
    settings = config.annotate
    if items:
        rows = ray.data.from_items(items).map_batches(
            AnnotateStage,
            fn_constructor_args=(config.model_dump(), str(short)),
            batch_size=settings.batch,
            num_cpus=settings.cpus,
            num_gpus=settings.gpus or None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=settings.workers),
        )
        with log.open("a", encoding="utf-8") as stream:
            for number, row in enumerate(_rows(rows), start=1):
                stream.write(row["row"] + "\n")
                stream.flush()
                _progress("annotate", number, len(items), started)
    letters: list[dict[str, Any]] = []
    faults: Counter[str] = Counter()
    for record in read_records(log) if log.is_file() else ():
        faults.update(record.get("refused", ()))
        if "dead" in record:
            letters.append(record)
    failed = sum(map(_is_engine_error, letters))
    if failed and not settings.tolerate_errors:
        raise BusyError(
            f"the engine gave no answer for {failed} of {len(wanted)} triplets"
            f" ({letters[-1]['dead']['message']!r:.120}); look after it and run the same command,"
            " or set [annotate] tolerate_errors = true to leave them out"
        )
    write_records(folder / "dead_letter.jsonl", letters)
    reasons = Counter(f"{letter['dead']['step']}: {letter['dead']['reason']}" for letter in letters)
    return {
        "in": len(wanted),
        "kept": len(wanted) - len(letters),
        "reasons": dict(sorted(reasons.items())),
        "retried_answers": dict(sorted(faults.items())),
    }


def _is_engine_error(row: dict[str, Any]) -> bool:
    dead = row.get("dead")
    return bool(dead) and dead["reason"] == "engine_error"


def draw(config: DatasetConfig, log: Path, folder: Path) -> dict[str, Any]:
    """Queries, pool by pool."""
    import ray

    rows = ray.data.from_items([{"pool": pool} for pool in POOLS]).map_batches(
        QueryStage,
        fn_constructor_args=(config.model_dump(), str(log), str(folder)),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=1),
    )
    found = [json.loads(row["counts"]) for row in _rows(rows)]
    total: Counter[str] = Counter()
    short: Counter[str] = Counter()
    for record in found:
        total.update(record["by_kind"])
        short.update(record["short"])
    return {
        "dialogues": sum(record["dialogues"] for record in found),
        "by_kind": dict(sorted(total.items())),
        "wanted_and_not_possible": dict(sorted(short.items())),
    }


def split(
    config: DatasetConfig, queries: Path, texts: dict[str, str], folder: Path
) -> dict[str, Any]:
    """The files that training reads; FEM's test set is clustered by the queries' embeddings."""
    from ffr_core.parts import build_encoder

    pools = {
        pool: [from_json(record) for record in read_records(queries / f"{pool}.jsonl")]
        for pool in POOLS
    }
    encoder = build_encoder(config.encoder)
    return write_splits(pools, texts, folder, config.splits, encoder.encode_queries)


def publish(
    config: DatasetConfig, out: Path, splits: Path, queries: Path, counts: dict[str, Any]
) -> dict[str, Any]:
    """Write the splits to `out` with their pictures and the card beside them."""
    items = [from_json(r) for pool in POOLS for r in read_records(queries / f"{pool}.jsonl")]
    pictures = Pictures(out, ImageReader(limits=config.images), image_key_of(items))
    for file in sorted(splits.glob("*.jsonl")):
        write_records(out / file.name, map(pictures.place, read_records(file)))
    card = make_card(items, counts["8-splits"]["sizes"], counts)
    write_json(out / "card.json", card_json(card))
    command = "python -m jobs.build_dataset --config CONFIG.toml"
    (out / "card.md").write_text(card_markdown(card, command), encoding="utf-8")
    draw_card(card, out)
    return pictures.counts


def _rows(rows: Any) -> Iterator[dict[str, Any]]:
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(names, values, strict=True))


_printed = 0.0


def _progress(name: str, number: int, total: int, started: float) -> None:
    """A line every few seconds."""
    global _printed
    now = time.monotonic()
    if now - _printed > 5:
        _printed = now
        speed = number / max(now - started, 1e-9)
        left = (total - number) / speed if speed else 0.0
        print(f"{name}: {number} of {total}, {speed:.1f}/s, ETA {left:.0f} s", flush=True)
