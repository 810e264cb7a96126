"""Train the boundary model or F2RVLM by supervised fine-tuning of a LoRA.

    ray job submit --address http://HEAD:8265 -- python -m jobs.train_sft --config FILE.toml

The same command resumes a run that was killed. The best adapter by the real metric on the
evaluation files is `<storage_path>/<name>/best/adapter`, a plain PEFT folder.
Source: Sec 5.1 (cold start) and Sec 5.2.2 (1) (boundary model).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ffr_core.errors import FfrError
from jobs.training.config import check_same_run
from jobs.training.run import LaunchResult, Session, launch
from jobs.training.sft_config import FREE_KEYS, SftConfig, plan, resolve_paths


def run(config: SftConfig) -> LaunchResult:
    """Train to the end, over restarts; see the module text.

    Raises:
        FfrError: The data, the model or the configuration cannot be used.
    """
    from jobs.training.sft_eval import METRIC

    values = resolve_paths(config).model_dump(mode="json")
    result = launch(train, values, config.launch, METRIC[config.task])
    summary = {
        **(result.value or {}),
        "metrics": dict(result.metrics),
        "best_metrics": dict(result.best_metrics),
        "best": None if result.best is None else str(result.best / "adapter"),
    }
    (result.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return result


def train(values: dict[str, Any], session: Session) -> dict[str, Any]:
    """What every worker runs: load, go on from the latest checkpoint, train, evaluate, save."""
    from jobs.training.checkpoints import Cursor, load_state, provenance, seed_everything
    from jobs.training.logs import RunLog
    from jobs.training.optimization import build_optimizer
    from jobs.training.sft_loop import Loop, prepare

    config = SftConfig.parse(values, "train_sft")
    seed_everything(config.seed)
    state = prepare(config, session)
    # All ranks draw the same fresh adapter, but each its own dropout.
    seed_everything(config.seed, session.rank)
    steps = plan(config, state.source.lengths)
    optimizer, scheduler = build_optimizer(state.model.parameters, config.optimizer, len(steps))
    cursor = Cursor()
    with session.checkpoint() as folder:
        if folder is not None:
            check_same_run(values, folder, FREE_KEYS)
            cursor = load_state(
                folder,
                modules=state.model.modules,
                optimizer=optimizer,
                scheduler=scheduler,
                rank=session.rank,
                data_hash=state.data_hash,
                model=state.fingerprint,
                prompts=state.prompts.fingerprint,
            )
    log = RunLog(session.folder, cursor.step) if session.rank == 0 else None
    source = provenance(values, state.data_hash, state.fingerprint, state.prompts.fingerprint)
    if log is not None:
        source.write(session.folder)
    loop = Loop(state, steps, optimizer, scheduler, log, source)
    done = loop.run(cursor)
    if log is not None:
        log.close()
    return {
        "step": done.step,
        "total_steps": len(steps),
        "finished": done.step == len(steps),
        "sequences": len(state.source),
        "left_out_or_repaired": state.counts,
    }


def main(config: Annotated[Path, typer.Option(help="TOML file of the run.")]) -> None:
    """Fine-tune as a TOML file says; the same command resumes."""
    try:
        parsed = SftConfig.load(config)
        result = run(parsed)
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    summary = result.value or {}
    print(f"step {summary.get('step')} of {summary.get('total_steps')}")
    for reason, count in sorted(summary.get("left_out_or_repaired", {}).items()):
        print(f"  {reason}: {count}")
    for name, value in sorted(result.best_metrics.items()):
        print(f"  {name} {value:.4f}")
    if result.best is not None:
        print(f"best adapter: {result.best / 'adapter'}")
    elif result.latest is not None:
        print(f"nothing was evaluated, the last adapter: {result.latest / 'adapter'}")
    print(f"logs and curves: {result.folder}")


if __name__ == "__main__":
    typer.run(main)
