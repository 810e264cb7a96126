"""Score the difficulty of training samples with the cold-start adapter: F1 and token entropy.

    ray job submit --address http://HEAD:8265 -- python -m jobs.score_difficulty --config FILE.toml

Writes `difficulty.jsonl` (for `[curriculum] difficulty` of jobs.train_grpo), `difficulty.png` and
`summary.json` into `out`. The same command goes on where a killed run was. Source: Sec 5.1.3.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.errors import FfrError
from jobs.grpo.config import DifficultyConfig, resolve_paths
from jobs.grpo.data import load_samples, read_difficulty
from jobs.grpo.scoring import (
    AnswerStage,
    EntropyStage,
    Rows,
    ScoreFile,
    batches,
    draw_distribution,
    pending_rows,
    summarize,
)


def run(config: DifficultyConfig) -> dict[str, Any]:
    """Score what has no score yet and return the summary.

    Raises:
        FfrError: Corpus, model or adapter cannot be used, or no sample could be scored.
    """
    started = time.monotonic()
    config = resolve_paths(config)
    samples = load_samples(config.data.train, config.data.sft_share)
    scores = ScoreFile(Path(config.out), config, samples)
    rows = pending_rows(samples, scores.done)
    if rows:
        stream = _with_ray(rows, config) if config.engine.actors else _here(rows, config)
        for number, batch in enumerate(stream, start=1):
            scores.append(batch["record"])
            if number % 20 == 0:
                print(f"{len(scores.done)} of {len(samples)} samples scored", flush=True)
    scores.finish(samples)
    summary = summarize(scores.path, config)
    summary |= {"scored_now": len(rows), "seconds": round(time.monotonic() - started, 2)}
    scored, _ = read_difficulty(scores.path)
    draw_distribution(list(scored.values()), scores.path.with_suffix(".png"))
    (scores.path.parent / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (scores.path.parent / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
    return summary


def _here(rows: list[Rows], config: DifficultyConfig) -> Iterator[Rows]:
    """Both stages in this process."""
    answer, entropy = AnswerStage(config), EntropyStage(config)
    for batch in batches(rows, config.batch):
        yield entropy(answer(batch))


def _with_ray(rows: list[Rows], config: DifficultyConfig) -> Iterator[Rows]:
    """Both stages as actor pools of Ray Data."""
    import ray

    from serve.runtime import ray_session

    engine = config.engine
    device = "cuda" if engine.gpus_per_actor else "cpu"
    with ray_session(num_cpus=max(2, round(2 * engine.actors * engine.cpus_per_actor) + 1)):
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        data = ray.data.from_items(rows, override_num_blocks=max(1, len(rows) // config.batch))
        for stage in (AnswerStage, EntropyStage):
            data = data.map_batches(
                stage,
                fn_constructor_args=(config, device),
                batch_size=config.batch,
                num_cpus=engine.cpus_per_actor,
                num_gpus=engine.gpus_per_actor or None,
                compute=ray.data.ActorPoolStrategy(size=engine.actors),
            )
        try:
            yield from data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise FfrError(
                f"scoring failed: {reason}; the same command goes on with what is missing"
            ) from error


def describe(summary: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    lines = [
        f"{summary['samples']} samples, {summary['scored_now']} scored in this run"
        f" ({summary['seconds']:.1f} s); mean F1 {summary['mean_f1']:.3f},"
        f" mean entropy {summary['mean_entropy']:.3f}"
    ]
    for preset, counts in summary["labels"].items():
        lines.append(
            f"  labels {preset}: " + ", ".join(f"{n} {name}" for name, n in counts.items())
        )
    lines.append("  curriculum: " + ", ".join(f"{n} {s}" for s, n in summary["curriculum"].items()))
    for reason, count in {**summary["left_out"], **summary["failed"]}.items():
        lines.append(f"  left out, {reason}: {count}")
    return "\n".join(lines)


def main(
    config: Annotated[Path, typer.Option(help="TOML file of the run.")],
) -> None:
    """Score difficulty as a TOML file says; the same command resumes."""
    try:
        summary = run(DifficultyConfig.load(config))
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(describe(summary))


if __name__ == "__main__":
    typer.run(main)
