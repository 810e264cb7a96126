"""Train the fragment embedding model (FEM) by the two contrastive losses.

    ray job submit --address http://HEAD:8265 -- python -m jobs.train_fem --config FILE.toml

One job for the text encoder of the laptop profile and for Qwen2-VL backbones. The same command
resumes a run that was killed. The best adapter by Recall@1 on the validation dialogues is
`<storage_path>/<name>/best/adapter`, a plain PEFT folder; name it in a profile's `[encoder]`.
Source: Sec 5.3, Eq 8-10.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.errors import FfrError
from jobs.fem.config import FREE_KEYS, FemConfig, resolve_paths
from jobs.fem.table import SweepResult, render
from jobs.training.config import check_same_run
from jobs.training.logs import read_metrics
from jobs.training.run import LaunchResult, Session, launch


def run(config: FemConfig) -> list[LaunchResult]:
    """Train every run of a configuration to its end, over restarts; best run first.

    A sweep leaves its table in `<storage_path>/<name>.md`.

    Raises:
        FfrError: The data, the model or the configuration cannot be used.
    """
    from jobs.fem.loop import METRIC

    results = []
    singles = resolve_paths(config).runs()
    for single in singles:
        result = launch(train, single.model_dump(mode="json"), single.launch, METRIC)
        summary = {
            **(result.value or {}),
            "metrics": dict(result.metrics),
            "best_metrics": dict(result.best_metrics),
            "best": None if result.best is None else str(result.best / "adapter"),
        }
        (result.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
        results.append(result)
    if len(singles) > 1:
        rows = [_swept(*pair) for pair in zip(singles, results, strict=True)]
        table_of(config, results).write_text(render(rows), "utf-8")
    return sorted(results, key=lambda r: -r.best_metrics.get(METRIC, -1.0))


def _swept(config: FemConfig, result: LaunchResult) -> SweepResult:
    loss = config.loss
    metrics = read_metrics(result.folder / "metrics.csv")
    row = f"temperature {loss.contrastive_temperature:g}, lambda {loss.intra_weight:g}"
    if (step := (result.value or {}).get("step")) != config.num_steps:
        row += f", stopped at step {step} of {config.num_steps}"
    return SweepResult(
        row=row,
        before={name: value for step, name, value in metrics if step == 0},
        best=result.best_metrics,
    )


def table_of(config: FemConfig, results: list[LaunchResult]) -> Path:
    """Where the table of a sweep lies: beside the folders of its runs."""
    return results[0].folder.parent / f"{config.launch.name}.md"


def train(values: dict[str, Any], session: Session) -> dict[str, Any]:
    """What every worker runs: load, go on from the latest checkpoint, train, validate, save."""
    from jobs.fem.loop import Loop, prepare
    from jobs.training.checkpoints import load_state, provenance, seed_everything
    from jobs.training.logs import RunLog
    from jobs.training.optimization import build_optimizer

    config = FemConfig.parse(values, "train_fem")
    seed_everything(config.seed)
    state = prepare(config, session)
    # All ranks draw the same fresh adapter, but each its own dropout.
    seed_everything(config.seed, session.rank)
    module = state.backbone.module
    optimizer, scheduler = build_optimizer(module.parameters(), config.optimizer, config.num_steps)
    cursor = None
    with session.checkpoint() as folder:
        if folder is not None:
            check_same_run(values, folder, FREE_KEYS)
            cursor = load_state(
                folder,
                modules={"fem": module},
                optimizer=optimizer,
                scheduler=scheduler,
                rank=session.rank,
                data_hash=state.data_hash,
                model=state.fingerprint,
            )
    place = -1 if cursor is None else cursor.step
    log = RunLog(session.folder, place) if session.rank == 0 else None
    source = provenance(values, state.data_hash, state.fingerprint)
    if log is not None:
        source.write(session.folder)
    done = Loop(state, optimizer, scheduler, log, source).run(cursor)
    if log is not None:
        log.close()
    return {
        "step": done.step,
        "total_steps": config.num_steps,
        "queries": sum(len(s.corpus.queries) for s in state.sources),
        "left_out": state.counts,
    }


def main(config: Annotated[Path, typer.Option(help="TOML file of the run.")]) -> None:
    """Train as a TOML file says; the same command resumes."""
    try:
        loaded = FemConfig.load(config)
        results = run(loaded)
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    for result in results:
        value = result.value or {}
        print(f"{result.folder.name}: step {value.get('step')} of {value.get('total_steps')}")
        for reason, count in sorted(value.get("left_out", {}).items()):
            print(f"  queries left out, {reason}: {count}")
        for name, score in sorted(result.best_metrics.items()):
            print(f"  {name} {score:.4f}")
        print(f"  logs and curves: {result.folder}")
    if len(results) > 1:
        print(table_of(loaded, results).read_text("utf-8"))
    if results and results[0].best is not None:
        print(f"best adapter: {results[0].best / 'adapter'}")
    elif results and results[0].latest is not None:
        print(f"nothing was validated, the last adapter: {results[0].latest / 'adapter'}")


if __name__ == "__main__":
    typer.run(main)
