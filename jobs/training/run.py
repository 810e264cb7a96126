"""Launch a train function on Ray Train V2, or in this process; the same command resumes.

A train function takes its plain configuration and a `Session`: rank, device, the checkpoint to go
on from, and `report`, which saves and is a barrier of all ranks. It runs unchanged on one core and
on many nodes.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ffr_core.adapters import replace_folder
from ffr_core.errors import FfrError
from jobs.training.config import LaunchConfig
from jobs.training.session import Deadline, LocalSession, RaySession, Session

__all__ = ["Deadline", "LaunchResult", "LocalSession", "RaySession", "Session", "launch"]

TrainFunction = Callable[[dict[str, Any], Session], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchResult:
    """Where a finished start left its files."""

    folder: Path
    """Folder of the run."""
    latest: Path | None
    """Latest checkpoint; None when it lies on S3."""
    best: Path | None
    """Best checkpoint by the metric; None when no checkpoint has one."""
    metrics: Mapping[str, float]
    """Metrics of the latest checkpoint."""
    best_metrics: Mapping[str, float]
    value: Any
    """What the train function returned on rank 0."""


def launch(
    train: TrainFunction,
    config: dict[str, Any],
    settings: LaunchConfig,
    metric: str,
    mode: Literal["max", "min"] = "max",
) -> LaunchResult:
    """Run a train function to its end, over restarts, and keep its best checkpoint in `best/`.

    Args:
        train: An importable function; every worker calls it once a start.
        config: Plain values for it.
        settings: Name, storage, workers, failures.
        metric: Name in the reported metrics that ranks checkpoints; a report may lack it.
        mode: Whether more or less is better.

    Raises:
        FfrError: Raised by the train function, or the run failed more often than it may.
    """
    if settings.num_workers == 0:
        return _launch_here(train, config, settings, metric, mode)
    return _launch_ray(train, config, settings, metric, mode)


def run_folder(settings: LaunchConfig) -> Path:
    """Local folder of a run; logs of a run on S3 lie under `runs/` on the node of rank 0."""
    root = "runs" if "://" in settings.storage_path else settings.storage_path
    return (Path(root) / settings.name).resolve()


def _launch_here(
    train: TrainFunction, config: dict[str, Any], settings: LaunchConfig, metric: str, mode: str
) -> LaunchResult:
    session = LocalSession(run_folder(settings), settings, metric, mode)
    with _progress(session.folder):
        value = train(config, session)
    saved = session.saved()
    best, best_metrics = session.best()
    return LaunchResult(
        folder=session.folder,
        latest=saved[-1][0] if saved else None,
        best=_export(best, session.folder),
        metrics=saved[-1][1] if saved else {},
        best_metrics=best_metrics,
        value=value,
    )


def _launch_ray(
    train: TrainFunction, config: dict[str, Any], settings: LaunchConfig, metric: str, mode: str
) -> LaunchResult:
    from serve.runtime import ray_session

    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    workers = settings.max_workers or settings.num_workers
    with ray_session(num_cpus=max(2, round(workers * settings.cpus_per_worker))):
        with _progress(folder):
            result = _fit(_trainer(train, config, settings, metric, mode))
        scored = [(c, m) for c, m in result.best_checkpoints or [] if metric in m]
        sign = 1 if mode == "max" else -1
        best = max(scored, key=lambda item: sign * item[1][metric], default=None)
        latest = None
        if result.checkpoint is not None and "://" not in settings.storage_path:
            with result.checkpoint.as_directory() as path:
                latest = Path(path)
        exported = None
        if best is not None:
            with best[0].as_directory() as path:
                exported = _export(Path(path), folder)
    return LaunchResult(
        folder=folder,
        latest=latest,
        best=exported,
        metrics=result.metrics or {},
        best_metrics=best[1] if best else {},
        value=result.return_value,
    )


def _trainer(
    train: TrainFunction, config: dict[str, Any], settings: LaunchConfig, metric: str, mode: str
) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = run_folder(settings)
    remote = "://" in settings.storage_path
    resources = {"CPU": settings.cpus_per_worker, **({"GPU": 1} if settings.use_gpu else {})}
    elastic = settings.max_workers is not None
    return TorchTrainer(
        _Worker(train, folder),
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if settings.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(settings.num_workers, settings.max_workers)
            if elastic
            else settings.num_workers,
            use_gpu=settings.use_gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=settings.name,
            storage_path=settings.storage_path if remote else str(folder.parent),
            callbacks=[_refusals()],
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=settings.keep_checkpoints,
                checkpoint_score_attribute=metric,
                checkpoint_score_order=mode,
            ),
        ),
    )


class _Worker:
    """The function that Ray calls on every worker."""

    def __init__(self, train: TrainFunction, folder: Path) -> None:
        self._train, self._folder = train, folder

    def __call__(self, config: dict[str, Any]) -> Any:
        return self._train(config, RaySession(self._folder))


def _refusals() -> Any:
    """Ends a run at once when a worker raises an error on purpose: trying again would not help.

    What one worker cannot use (a file that its node lacks) leaves the others waiting for it inside
    a collective, so the error must not wait for them. An error of a callback is never retried.
    """
    from ray.train import UserCallback

    class Refusals(UserCallback):  # type: ignore[misc]
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> Any:
            for _, error in sorted(worker_exceptions.items()):
                if isinstance(found := getattr(error, "_base_exc", error), FfrError):
                    raise found

    return Refusals()


def _fit(trainer: Any) -> Any:
    """Run the trainer; an error that the train function raised on purpose comes out as itself."""
    from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

    try:
        return trainer.fit()
    except TrainingFailedError as error:
        if isinstance(error, ControllerError) and isinstance(error.controller_failure, FfrError):
            raise error.controller_failure from error
        raise FfrError(f"training failed: {error}; the same command resumes it") from error


def _export(best: Path | None, folder: Path) -> Path | None:
    """Copy a checkpoint to `best/`, so that its place does not depend on what wins later."""
    if best is None:
        return None
    fresh = folder / ".best.new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(best, fresh)
    replace_folder(fresh, folder / "best")
    return folder / "best"


@contextlib.contextmanager
def _progress(folder: Path) -> Iterator[None]:
    """Print lines that rank 0 adds to `progress.txt` while the block runs."""
    path, done = folder / "progress.txt", threading.Event()
    start = path.stat().st_size if path.exists() else 0

    def follow() -> None:
        position = start
        while True:
            last = done.wait(1.0)
            if path.exists():
                with path.open(encoding="utf-8") as file:
                    file.seek(position)
                    if text := file.read():
                        print(text, end="", flush=True)
                    position = file.tell()
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)
