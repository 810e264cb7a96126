"""Index a corpus: segment every dialogue, embed its fragments, write them to Milvus.

    ray job submit --address http://HEAD:8265 -- python -m jobs.index_corpus --config FILE.toml

Running it again indexes only what is new or changed; a run that was killed is repaired by the same
command. Every record that was left out is in the dead-letter file with its position and a reason.
"""

from __future__ import annotations

import json
import logging
import pickle
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import Field

from ffr_core.config import Config
from ffr_core.errors import FfrError
from ffr_core.operations.config import LogConfig
from ffr_core.profile import data_home, load_profile, remember_root
from jobs.cli_common import clear_errors
from jobs.index_models import BuildStage, EmbedStage, SegmentStage, describe_models, measure_speed
from jobs.index_owner import IndexOwner
from jobs.index_report import collect, describe, exceeds
from jobs.index_rows import rows_of
from jobs.index_stages import PrepareStage, ReadStage, WriteStage
from jobs.reading import Source, list_sources
from serve.runtime import ray_session

T = TypeVar("T")


class PoolConfig(Config):
    """Workers of one stage; the pool grows with the backlog."""

    min_workers: int = Field(default=1, ge=1)
    max_workers: int = Field(default=1, ge=1)
    cpus: float = 1.0
    """CPUs of one worker."""
    gpus: float = 0.0
    """GPUs of one worker."""
    batch: int = Field(default=16, ge=1)
    """Dialogues that a worker gets at once."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of these, roughly, that its model gets in one call; all of them when left out."""


class IndexJobConfig(Config):
    """An index run."""

    input: tuple[str, ...]
    """Files, folders or `s3://bucket/prefix` URIs of JSONL or Parquet."""
    profile: str = "laptop"
    """Name or path of the profile."""
    home: str | None = None
    """Data folder; `FFRS_HOME` or `~/.ffrs` when left out."""
    tenant: str = "default"
    """Owner of the dialogues."""
    restore: bool = False
    """Index dialogues again that were deleted."""
    prefix: str | None = None
    """Write collections whose names start so, beside those that are searched (`ffrs reindex`)."""
    stages: Literal["joint", "separate"] = "joint"
    """`joint`: segment and embed in one worker (one shared model); `separate`: two pools."""
    build: PoolConfig = PoolConfig()
    """Workers of the joint stage."""
    segment: PoolConfig = PoolConfig()
    embed: PoolConfig = PoolConfig()
    writers: int = Field(default=1, ge=1)
    """Connections to a Milvus server; Milvus Lite always has one."""
    block_bytes: int = Field(default=1_000_000, ge=1_000)
    """Rows that wait or travel together between two stages."""
    max_record_bytes: int = Field(default=32_000_000, ge=1_000)
    max_dead_share: float = Field(default=0.5, ge=0, le=1)
    """The run ends with exit code 3 when a larger share of records went to the dead letter; deleted
    and replaced ones are no part of it."""
    report: str | None = None
    """Folder for `summary.json` and `dead_letter.jsonl`; `<home>/runs/index` when left out. That of
    a dry run is `<report>/dry-run`, or `<home>/runs/dry-run`."""


class IndexOwnerOrError(IndexOwner):
    """An owner that says why it cannot open the index.

    Of what a new actor raises, Ray keeps only the text. One that Ray starts again raises: nobody
    asks it any more.
    """

    def __init__(self, *args: Any) -> None:
        """Open the index."""
        import ray

        self._error: Exception | None = None
        try:
            super().__init__(*args)
        except (FfrError, OSError) as error:
            if ray.get_runtime_context().was_current_actor_reconstructed:
                raise
            self._error = error

    def error(self) -> Exception | None:
        """What went wrong at the start, if anything did."""
        return self._error


def run(config: IndexJobConfig, dry_run: bool = False) -> dict[str, Any]:
    """Run the job and return its summary; see the module text.

    Raises:
        FfrError: The input, the profile or the index cannot be used at all.
        OSError: The data folder or that of the report cannot be used.
    """
    home = data_home(config.home)
    s3_endpoint = load_profile(config.profile, home).storage.s3_endpoint
    sources = list_sources(config.input, s3_endpoint)
    report = _report_folder(config, home, dry_run)
    report.mkdir(parents=True, exist_ok=True)
    roots = [source.base for source in sources]
    if not dry_run:
        for root in roots:
            remember_root(home, root)
    profile = load_profile(config.profile, home, roots).model_dump()
    profile["index"]["prefix"] = config.prefix or profile["index"]["prefix"]
    started = time.monotonic()
    with ray_session():
        recipe = with_models(config, describe_models, profile)
        opened = without_new_file(profile) if dry_run else profile
        owners = _start_owners(config, opened, recipe.encoder_fingerprint, recipe.dim)
        rows = pipeline(config, profile, recipe.text, owners, sources, dry_run)
        sample: list[Any] = []
        logs = LogConfig.model_validate(profile["logs"])
        summary = collect(_sampled(rows, sample), sources, report, started, dry_run, logs)
        if dry_run:
            summary["estimate"] = _estimate(profile, sample, summary["turns"], config)
        _close(owners)
    (report / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (report / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
    return summary


def _report_folder(config: IndexJobConfig, home: Path, dry_run: bool) -> Path:
    """Where the report goes; a dry run leaves that of the last real one alone."""
    if config.report:
        return Path(config.report, "dry-run") if dry_run else Path(config.report)
    return home / "runs" / ("dry-run" if dry_run else "index")


def _sampled(rows: Iterator[dict[str, Any]], sample: list[Any]) -> Iterator[dict[str, Any]]:
    """Pass rows through, keeping the first few dialogues that have work left (a dry run)."""
    for row in rows:
        if row["item"] and len(sample) < 8:
            sample.append(pickle.loads(row["item"]))
        yield row


def with_models(config: IndexJobConfig, work: Callable[..., T], *args: Any) -> T:
    """Run a function where models can run: here, or on a node with the GPUs that a worker has."""
    import ray

    pools = [config.build] if config.stages == "joint" else [config.segment, config.embed]
    gpus = max(pool.gpus for pool in pools)
    if not gpus:
        return work(*args)
    remote = ray.remote(num_cpus=max(pool.cpus for pool in pools), num_gpus=gpus)(work)
    result: T = ray.get(remote.remote(*args))
    return result


def _estimate(
    profile: dict[str, Any], sample: list[Any], num_turns: int, config: IndexJobConfig
) -> dict[str, float]:
    """Build a few dialogues here, write nothing, and scale up to all turns."""
    if not sample:
        return {"seconds": 0.0, "turns_per_second": 0.0, "workers": config.build.max_workers}
    speed = with_models(config, measure_speed, profile, sample)
    workers = config.build.max_workers if config.stages == "joint" else config.embed.max_workers
    return {
        "seconds": round(num_turns / speed / workers, 1),
        "turns_per_second": round(speed, 1),
        "workers": workers,
    }


def without_new_file(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile with an empty index in memory where opening its own would make a Lite file."""
    from ffr_core.profile import Profile

    index = Profile.model_validate(profile).index
    if not index.is_lite or Path(index.uri).exists():
        return profile
    return {**profile, "index": {**profile["index"], "kind": "exact"}}


def _start_owners(
    config: IndexJobConfig, profile: dict[str, Any], fingerprint: str, dim: int
) -> list[Any]:
    import ray

    from ffr_core.profile import Profile

    lite = Profile.model_validate(profile).index.is_lite
    owner = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(IndexOwnerOrError)
    name, beside = uuid.uuid4().hex, config.prefix is not None
    owners = [
        owner.remote(profile, fingerprint, dim, config.tenant, name, number, beside)
        for number in range(1 if lite else config.writers)
    ]
    import ray.data  # takes seconds, in which the owners start

    for refusal in ray.get([o.error.remote() for o in owners]):
        if refusal is not None:
            raise refusal
    try:
        ray.get([o.stats.remote() for o in owners])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, FfrError | OSError) else error) from None
    return owners


def pipeline(
    config: IndexJobConfig,
    profile: dict[str, Any],
    recipe: str,
    owners: list[Any],
    sources: list[Source],
    dry_run: bool,
    wrap: Callable[[Any], Any] = lambda stage: stage,
) -> Iterator[dict[str, Any]]:
    """Finished rows of all stages.

    Args:
        config: Pools and sizes.
        profile: Models.
        recipe: Text of the fingerprints.
        owners: Actors with the methods of `IndexOwner`.
        sources: What is read.
        dry_run: Stop before the models.
        wrap: Replaces a stage, an object or an actor class, by another one (a benchmark).
    """
    import ray.data

    # Set here because importing ray.data sets its own levels; it announces each data set.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A file becomes one block otherwise, and one worker of each stage reads all of it.
    context.target_max_block_size = config.block_bytes
    s3_endpoint = profile["storage"]["s3_endpoint"]
    rows = ray.data.from_items(
        [{"uri": source.uri, "size": source.size} for source in sources],
        override_num_blocks=len(sources),
    )
    rows = rows.map_batches(
        wrap(ReadStage(max_bytes=config.max_record_bytes, s3_endpoint=s3_endpoint)),
        batch_size=1,
        num_cpus=0.25,
    ).map_batches(
        wrap(
            PrepareStage(
                profile=profile,
                recipe=recipe,
                owners=owners,
                restore=config.restore,
                dry_run=dry_run,
            )
        ),
        batch_size=64,
        num_cpus=0.25,
    )
    if not dry_run:
        pools = (
            [(BuildStage, config.build)]
            if config.stages == "joint"
            else [(SegmentStage, config.segment), (EmbedStage, config.embed)]
        )
        watched = profile["segmenter"]["kind"] == "vlm"
        for stage, pool in pools:
            rows = rows.map_batches(
                wrap(stage),
                fn_constructor_args=(profile, owners if watched else (), pool.batch_tokens),
                batch_size=pool.batch,
                num_cpus=pool.cpus,
                num_gpus=pool.gpus or None,
                compute=ray.data.ActorPoolStrategy(
                    min_size=pool.min_workers, max_size=pool.max_workers
                ),
            )
        # Actors: a worker process of tasks that pause ends, and a new one costs seconds of CPU.
        rows = rows.map_batches(
            wrap(WriteStage),
            fn_constructor_args=(owners,),
            batch_size=64,
            num_cpus=0.1,
            compute=ray.data.ActorPoolStrategy(size=len(owners)),
        )
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        yield from rows_of(batch)


def _close(owners: list[Any]) -> None:
    import ray

    ray.get([owner.close.remote() for owner in owners])


@clear_errors
def main(
    config: Annotated[Path, typer.Option(help="TOML file of the run.")],
    dry_run: Annotated[
        bool, typer.Option(help="Count and estimate, index nothing; report in runs/dry-run.")
    ] = False,
) -> None:
    """Index a corpus as a TOML file says."""
    parsed = IndexJobConfig.load(config)
    summary = run(parsed, dry_run)
    print(describe(summary))
    print(json.dumps(summary))
    if exceeds(summary, parsed.max_dead_share):
        print("error: too many records in the dead letter", file=sys.stderr)
        raise typer.Exit(3)


if __name__ == "__main__":
    typer.run(main)
