"""Where a train function runs: one rank in this process, or a worker of Ray Train."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ffr_core.adapters import replace_folder
from jobs.training.config import LaunchConfig

if TYPE_CHECKING:
    import torch

Save = Callable[[Path], None]
"""Writes a checkpoint into an empty folder; called on rank 0 only."""


class Session(Protocol):
    """What a train function knows about where it runs."""

    rank: int
    world_size: int
    device: torch.device
    folder: Path
    """Local folder of the run, for logs; the same on all starts."""

    def checkpoint(self) -> contextlib.AbstractContextManager[Path | None]:
        """The latest checkpoint as a local folder, None at the first start."""

    def report(self, step: int, metrics: Mapping[str, float], save: Save) -> None:
        """Save a checkpoint with its metrics; every rank calls it, rank 0 saves, all wait."""


class LocalSession:
    """One rank in this process; checkpoints are folders `checkpoints/step-N`."""

    def __init__(self, folder: Path, settings: LaunchConfig, metric: str, mode: str) -> None:
        import torch

        self.rank, self.world_size = 0, 1
        self.device = torch.device("cuda" if settings.use_gpu else "cpu")
        self.folder = folder
        self._keep, self._metric = settings.keep_checkpoints, metric
        self._sign = 1.0 if mode == "max" else -1.0
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        """The latest checkpoint; the folder is the stored one, do not change it."""
        saved = self.saved()
        yield saved[-1][0] if saved else None

    def report(self, step: int, metrics: Mapping[str, float], save: Save) -> None:
        """Save, move into place, drop all but the best ones and the latest."""
        home = self.folder / "checkpoints"
        # Not a temporary folder: those are closed to everybody else, and this one stays.
        fresh = home / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save(fresh)
        (fresh / "metrics.json").write_text(json.dumps(dict(metrics)), "utf-8")
        replace_folder(fresh, home / f"step-{step:08d}")
        saved = self.saved()
        kept = {saved[-1][0], *(path for path, _ in self._ranked()[: self._keep])}
        for path, _ in saved:
            if path not in kept:
                shutil.rmtree(path)

    def saved(self) -> list[tuple[Path, dict[str, float]]]:
        """Complete checkpoints with their metrics, oldest first."""
        folders = sorted((self.folder / "checkpoints").glob("step-*"))
        return [(path, json.loads((path / "metrics.json").read_text("utf-8"))) for path in folders]

    def best(self) -> tuple[Path | None, dict[str, float]]:
        """The best checkpoint by the metric, and its metrics."""
        ranked = self._ranked()
        return ranked[0] if ranked else (None, {})

    def _ranked(self) -> list[tuple[Path, dict[str, float]]]:
        scored = [item for item in self.saved() if self._metric in item[1]]
        return sorted(scored, key=lambda item: -self._sign * item[1][self._metric])


class RaySession:
    """A Ray Train worker."""

    def __init__(self, folder: Path) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.folder = folder

    @contextlib.contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        """The latest checkpoint, downloaded where the storage is not a local folder."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
        else:
            with checkpoint.as_directory() as folder:
                yield Path(folder)

    def report(self, step: int, metrics: Mapping[str, float], save: Save) -> None:
        """Upload what rank 0 saves; all ranks wait until it is in place."""
        import ray.train

        if self.rank != 0:
            ray.train.report(dict(metrics), checkpoint=None)
            return
        with tempfile.TemporaryDirectory(prefix="ffrs-checkpoint-") as folder:
            save(Path(folder))
            ray.train.report(
                dict(metrics),
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=f"step-{step:08d}",
            )


class Deadline:
    """Whether a start has used up `stop_after_minutes`; None never ends."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + minutes * 60

    def passed(self) -> bool:
        """Rank 0 decides, so that all ranks stop at the same step."""
        if self._end is None:
            return False
        from jobs.training.distributed import gather_objects

        return bool(gather_objects(time.monotonic() > self._end)[0])
