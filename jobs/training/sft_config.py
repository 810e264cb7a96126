"""Settings of an SFT run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ffr_core.adapters import LoraSettings
from ffr_core.config import Config
from ffr_core.errors import ConfigError
from jobs.training.batches import plan_epoch
from jobs.training.config import BatchConfig, LaunchConfig, OptimizerConfig

FREE_KEYS = (
    "launch",
    "model",
    "init_adapter",
    "train",
    "evaluation",
    "image_roots",
    "max_eval_examples",
    "eval_every",
    "checkpoint_every",
    "eval_batch_tokens",
    "keep_encoded",
    "gradient_checkpointing",
)
"""What may change when a run is resumed: where things lie, and what does not touch the steps.

Model and adapter may be moved, not exchanged: their fingerprint is compared.
"""


class SftConfig(Config):
    """An SFT run."""

    task: Literal["localize", "segment"]
    """`localize`: query -> ids (F2RVLM); `segment`: dialogue -> clusters (boundary model)."""
    model: str
    """Base model: folder or hub id."""
    init_adapter: str | None = None
    """PEFT folder to go on from; a fresh adapter when left out."""
    prompts: str = "default"
    """Name or path of the prompt file."""
    train: tuple[str, ...]
    """JSONL files with gold."""
    evaluation: tuple[str, ...] = ()
    """JSONL files for the metric that chooses the best checkpoint."""
    views: tuple[Literal["dialogue", "fragment"], ...] = ("dialogue",)
    """What a query is asked about: the whole dialogue, its gold fragment (local ids), or both."""
    negatives: int = Field(default=0, ge=0)
    """Other fragments that each query is asked about as well (view `fragment`)."""
    max_train_dialogues: int | None = Field(default=None, ge=1)
    max_eval_examples: int | None = Field(default=500, ge=1)
    image_roots: tuple[str, ...] = ()
    """Where pictures may lie; the folders of the files when left out."""
    max_length: int = Field(default=15_536, ge=1)
    """Tokens; a longer sequence is left out. Source: authors' setting."""
    max_pixels: int | None = 602_112
    """Larger pictures are scaled down. Source: authors' setting."""
    max_images: int | None = None
    """Further pictures of a prompt are left out."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "bfloat16"
    """Of the frozen base. Source: bf16, authors' setting."""
    autocast: bool | Literal["auto"] = False
    """Compute in bfloat16 over a float32 base; `auto`: on GPUs, and on processors that multiply
    bfloat16 themselves, for others are many times slower with it."""
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    gradient_checkpointing: bool = True
    keep_encoded: bool = False
    """Keep token ids and picture features in memory: much faster, for small models."""
    queries_per_sequence: int = Field(default=1, ge=1)
    """Queries of a dialogue behind one copy of it; for prompts with the query last."""
    auxiliary_loss_weight: float = Field(default=0.0, ge=0)
    """Weight of the per-turn loss of a head that is no part of the adapter, or of the attention."""
    auxiliary_head: Literal["bilinear", "linear", "attention"] = "bilinear"
    """`bilinear` for prompts with the query last, `linear` with the query first; `attention`: no
    head beside the model, its own attention is taught to score what matches (query last)."""
    auxiliary_layer: int = -1
    """Layer whose output is scored, from 1; -1 is the last."""
    num_epochs: int = Field(default=1, ge=1)
    """Source: Sec 6.1, as stated."""
    max_steps: int | None = Field(default=None, ge=1)
    curriculum_start: float = Field(default=1.0, gt=0, le=1)
    """Share of the shortest sequences that the first epoch has."""
    curriculum_epochs: int = Field(default=0, ge=0)
    """Epochs over which that share grows to 1."""
    eval_every: int = Field(default=200, ge=1)
    """Optimizer steps between evaluations; the last step is always evaluated."""
    checkpoint_every: int = Field(default=100, ge=1)
    max_new_tokens: int = Field(default=512, ge=1)
    eval_batch_tokens: int = Field(default=32_768, ge=1)
    seed: int = 0
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: BatchConfig
    launch: LaunchConfig

    @model_validator(mode="after")
    def _check(self) -> SftConfig:
        if self.task == "segment" and (
            self.queries_per_sequence > 1 or self.views != ("dialogue",)
        ):
            raise ValueError("views and queries belong to the task localize")
        if (
            self.task == "segment"
            and self.auxiliary_loss_weight
            and self.auxiliary_head == "linear"
        ):
            raise ValueError(
                "auxiliary_head = 'linear' scores turns against a query; use 'attention'"
            )
        if self.queries_per_sequence > 1 and self.attention == "flash_attention_2":
            raise ValueError("queries_per_sequence > 1 needs attention = 'sdpa'")
        return self


def plan(config: SftConfig, lengths: list[int]) -> list[list[int]]:
    """The sequences of every optimizer step of the run, over all epochs and workers."""
    steps: list[list[int]] = []
    for epoch in range(config.num_epochs):
        share = 1.0
        if epoch < config.curriculum_epochs:
            grown = epoch / config.curriculum_epochs
            share = config.curriculum_start + (1 - config.curriculum_start) * grown
        steps += plan_epoch(lengths, config.batch, config.seed, epoch, share)
    return steps[: config.max_steps]


def resolve_paths(config: SftConfig) -> SftConfig:
    """Make local paths absolute (workers have their own folder) and fill in the image roots."""

    def absolute(path: str) -> str:
        return str(Path(path).resolve()) if Path(path).exists() else path

    files = {
        name: tuple(absolute(path) for path in getattr(config, name))
        for name in ("train", "evaluation")
    }
    for path in (*files["train"], *files["evaluation"]):
        if not Path(path).is_file():
            raise ConfigError(f"there is no corpus file {path}; check `train` and `evaluation`")
    roots = config.image_roots or sorted(
        {str(Path(path).parent) for paths in files.values() for path in paths}
    )
    return config.model_copy(
        update={
            **files,
            "model": absolute(config.model),
            "init_adapter": config.init_adapter and absolute(config.init_adapter),
            "prompts": absolute(config.prompts),
            "image_roots": tuple(absolute(root) for root in roots),
        }
    )
