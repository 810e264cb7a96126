"""Train F2RVLM by GRPO, from its cold-start adapter, with the curriculum and dynamic sampling.

    ray job submit --address http://HEAD:8265 -- python -m jobs.train_grpo --config FILE.toml

The policy is the base with a copy of the cold-start adapter, the reference the same base with the
frozen adapter. The same command resumes a run from its latest checkpoint. In the run's folder:
`best/adapter` is the best policy by validation F1 (a plain PEFT folder), `metrics.csv`,
`curves/*.png` and `tensorboard/` its course. Source: Sec 5.1.2, 5.1.3 and 6.1.1.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffr_core.errors import FfrError
from jobs.grpo.config import GrpoConfig, resolve_paths

if TYPE_CHECKING:
    from jobs.training.run import LaunchResult


def run(config: GrpoConfig) -> LaunchResult:
    """Train to the end, or to `launch.stop_after_minutes`.

    Raises:
        FfrError: Data, model or configuration cannot be used, or the run failed too often.
    """
    from jobs.grpo.training import train
    from jobs.training.run import launch

    values = resolve_paths(config).model_dump(mode="json")
    if config.launch.num_workers == 0:
        return launch(train, values, config.launch, metric="f1")
    from serve.runtime import ray_session

    workers = config.launch.max_workers or config.launch.num_workers
    cpus = workers * config.launch.cpus_per_worker
    cpus += config.engine.actors * config.engine.cpus_per_actor
    with ray_session(num_cpus=max(2, math.ceil(cpus))):
        return launch(train, values, config.launch, metric="f1")


def main(
    config: Annotated[Path, typer.Option(help="TOML file of the run.")],
) -> None:
    """Train a policy as a TOML file says; the same command resumes."""
    try:
        result = run(GrpoConfig.load(config))
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if result.best is not None:
        print(f"best validation F1 {result.best_metrics['f1']:.4f}: {result.best / 'adapter'}")
    state = "finished" if result.value["finished"] else "stopped, the same command goes on"
    print(f"step {result.value['step']}, {state}; latest checkpoint: {result.latest}")


if __name__ == "__main__":
    typer.run(main)
