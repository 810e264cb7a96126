"""Build an MLDR-style data set from short image-sharing dialogues.

    python -m jobs.build_dataset --config jobs/configs/tiny/dataset.toml

Steps: read -> embed -> clean -> pools -> triplets -> annotate (merge, tag, QA) -> queries -> splits
-> card. Each has a folder below `<out>/steps` and is done once: the same command goes on where it
was cut off, a changed setting repeats its step and those after it. `<out>` holds `sft.jsonl`,
`rft.jsonl`, `validation.jsonl`, `boundary_train.jsonl`, `boundary_test.jsonl`, `fem_train.jsonl`,
`fem_test.jsonl`, their pictures (`images`), the card and `summary.json`; the folder may be moved,
training jobs find the pictures beside the files. Every record that was left out has a reason.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.config import read_toml
from ffr_core.dataset.clean_corpus import clean_corpus, dialogue_text
from ffr_core.dataset.dataset_prompts import DatasetPrompts
from ffr_core.dataset.sources import list_files
from ffr_core.dataset.steps import Done, read_records, run_step, write_json
from ffr_core.errors import FfrError
from ffr_core.records import dialogue_from_record
from jobs.dataset_config import DatasetConfig
from jobs.dataset_steps import (
    annotate,
    divide_corpus,
    draw,
    embed_corpus,
    match_corpus,
    publish,
    read_corpus,
    split,
)
from jobs.report.fingerprints import weights_of
from serve.runtime import ray_session

_SPEED = frozenset(
    {"workers", "cpus", "gpus", "batch", "threads", "device", "tolerate_errors", "timeout"}
    | {"max_num_seqs", "max_batch_tokens", "gpu_memory_utilization", "tensor_parallel_size"}
)
"""Settings that change how fast a result comes, not the result."""


def run(config: DatasetConfig) -> dict[str, Any]:
    """Run or resume the job and return its summary; see the module text.

    Raises:
        FfrError: The input or a setting cannot be used at all.
    """
    files = list_files(config.input)
    roots = dict.fromkeys([*config.images.roots, *(str(file.parent) for file in files)])
    images = config.images.model_copy(update={"roots": tuple(roots)})
    config = config.model_copy(update={"images": images})
    out = Path(config.out).resolve()
    steps = out / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", config.model_dump(mode="json"))
    dumped = config.model_dump(mode="json")
    prompts = DatasetPrompts.load(config.prompts)
    engine_paths = (config.engine.path, *config.engine.adapters.values())
    started = time.monotonic()
    done: dict[str, Done] = {}

    def step(name: str, settings: Any, work: Any) -> Done:
        """Run one step; its result depends on `settings` and on the step before."""
        before = list(done.values())[-1] if done else None
        done[name] = run_step(steps, name, settings, before, work)
        _print(done[name], time.monotonic() - started)
        return done[name]

    def parts(*names: str) -> dict[str, Any]:
        """Parts of the config, without what changes the speed only."""
        return {name: _without(dumped[name], _SPEED) for name in names}

    with ray_session():
        _quiet_ray_data()
        seen = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        read = step("1-read", [config.form, seen], lambda f: read_corpus(config, files, f))
        corpus = read.folder / "dialogues.jsonl"
        embedded = step(
            "2-embed",
            [parts("encoder", "clip", "images"), config.embedding.shard],
            lambda f: embed_corpus(config, corpus, f),
        )
        shards = sorted(embedded.folder.glob("*.npz"))
        clean = step(
            "3-clean",
            parts("cleaning", "corpus"),
            lambda f: clean_corpus(corpus, shards, f, config.cleaning, config.corpus),
        )
        short = clean.folder / "dialogues.jsonl"
        pools = step("4-pools", parts("splits"), lambda f: divide_corpus(config, short, f))
        triplets = step(
            "5-triplets",
            parts("matching", "max_triplets"),
            lambda f: match_corpus(config, clean.folder, pools.folder, f),
        )
        annotated = step(
            "6-annotate",
            [
                parts("engine", "annotate", "target_language"),
                prompts.texts.model_dump(),
                [weights_of(path) for path in engine_paths if path],
            ],
            lambda f: annotate(config, short, triplets.folder, f),
        )
        log = annotated.folder / "annotated.jsonl"
        queries = step(
            "7-queries",
            parts("queries", "negatives_by_embedding"),
            lambda f: draw(config, log, f),
        )
    texts = {r["dialogue_id"]: dialogue_text(dialogue_from_record(r)) for r in read_records(short)}
    splits = step("8-splits", parts("splits"), lambda f: split(config, queries.folder, texts, f))
    counts = {name: found.counts for name, found in done.items()}
    published = publish(config, out, splits.folder, queries.folder, counts)
    summary = {
        "steps": counts,
        "published": published,
        "repeated": [n for n, d in done.items() if d.repeated],
    }
    write_json(out / "summary.json", summary)
    return summary


def _without(value: Any, names: frozenset[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key not in names}


def _quiet_ray_data() -> None:
    import ray

    # Set here because importing ray.data sets its own levels; it announces each data set.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True


def _print(done: Done, seconds: float) -> None:
    how = "done" if done.repeated else "kept from an earlier run"
    print(f"{done.folder.name}: {how} after {seconds:.1f} s  {json.dumps(done.counts)}", flush=True)


def main(
    config: Annotated[Path, typer.Option(help="TOML file of the run.")],
    input: Annotated[list[str] | None, typer.Option(help="Instead of the file's input.")] = None,
    out: Annotated[Path | None, typer.Option(help="Instead of the file's out.")] = None,
) -> None:
    """Build a data set as a TOML file says."""
    try:
        values = read_toml(config)
        values.update({"input": tuple(input)} if input else {})
        values.update({"out": str(out)} if out else {})
        parsed = DatasetConfig.parse(values, str(config))
        summary = run(parsed)
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    counts = summary["steps"]["6-annotate"]
    if sum(counts["reasons"].values()) > parsed.max_dead_share * max(1, counts["in"]):
        print("error: too many triplets in the dead letter", file=sys.stderr)
        raise typer.Exit(3)


if __name__ == "__main__":
    typer.run(main)
