"""Settings that every training job has: where it runs, how it optimizes, how it batches."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ffr_core.config import Config
from ffr_core.errors import ConfigError


class LaunchConfig(Config):
    """`[launch]`: name of the run and its workers. The same command resumes the run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder of the run inside `storage_path`."""
    storage_path: str = "runs"
    """Folder, or `s3://` URI, that all nodes reach."""
    num_workers: int = Field(default=1, ge=0)
    """Ray Train workers; 0 trains in this process, without Ray, into a folder."""
    max_workers: int | None = None
    """Given: the run is elastic between `num_workers` and this many."""
    use_gpu: bool = False
    """A GPU and NCCL for each worker, else gloo."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    max_failures: int = Field(default=3, ge=-1)
    """Restarts from the latest checkpoint after a worker's death; -1 without bound."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Best checkpoints that are kept, beside the latest."""
    stop_after_minutes: float | None = Field(default=None, gt=0)
    """End this start at a checkpoint after so long; the same command goes on."""

    @model_validator(mode="after")
    def _check_workers(self) -> LaunchConfig:
        if self.max_workers is not None and not 1 <= self.num_workers <= self.max_workers:
            raise ValueError(
                f"num_workers {self.num_workers} and max_workers {self.max_workers}:"
                " an elastic run needs 1 <= num_workers <= max_workers"
            )
        if self.num_workers == 0 and "://" in self.storage_path:
            raise ValueError(
                f"storage_path {self.storage_path!r} needs Ray: set num_workers to 1 or more, or"
                " give a folder"
            )
        return self


class OptimizerConfig(Config):
    """`[optimizer]`: AdamW with warm-up."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak. Source: Sec 6.1, authors' setting (SFT)."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps with a growing rate. Source: authors' setting (SFT)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay after the warm-up."""
    final_share: float = Field(default=0.0, ge=0, le=1)
    """Rate at the end, as a share of the peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)


class BatchConfig(Config):
    """`[batch]`: one optimizer step; its content does not depend on the number of workers."""

    examples_per_step: int | None = Field(default=None, ge=1)
    """Examples of a step over all workers."""
    tokens_per_step: int | None = Field(default=None, ge=1)
    """Tokens of a step over all workers (as many examples as fit); one of the two is given."""
    tokens_per_microbatch: int = Field(default=16_384, ge=1)
    """Padded tokens of one forward pass; a longer example goes alone."""
    bucket_steps: int = Field(default=50, ge=1)
    """Examples are sorted by length inside blocks of so many steps."""

    @model_validator(mode="after")
    def _check_size(self) -> BatchConfig:
        if (self.examples_per_step is None) == (self.tokens_per_step is None):
            raise ValueError("give either examples_per_step or tokens_per_step")
        return self


def check_same_run(values: dict[str, Any], checkpoint: Path, free_keys: Collection[str]) -> None:
    """Refuse to go on from a checkpoint whose settings would make other steps.

    Args:
        values: The configuration of this start.
        checkpoint: Holds `config.json` of the start that wrote it.
        free_keys: Settings that do not touch the steps and may change.

    Raises:
        ConfigError: Names the settings that differ.
    """
    written = json.loads((checkpoint / "config.json").read_text("utf-8"))
    changed = [
        key
        for key in values
        if key not in free_keys and json.dumps(values[key]) != json.dumps(written.get(key))
    ]
    if changed:
        raise ConfigError(
            f"the run was started with other values of {', '.join(changed)};"
            " restore them or use another launch.name"
        )
