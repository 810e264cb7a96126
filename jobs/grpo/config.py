"""Configuration of difficulty scoring and GRPO. Defaults are our preset, the paper's are TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from ffr_core.adapters import LoraSettings
from ffr_core.config import Config
from ffr_core.curriculum import CurriculumSettings, Difficulty
from ffr_core.errors import ConfigError
from ffr_core.rewards import RewardSettings
from jobs.training.config import LaunchConfig, OptimizerConfig

FREE_KEYS = ("launch", "engine", "eval_every", "checkpoint_every")
"""What may change when a run is resumed: where it runs, and what does not touch the steps."""


class ModelConfig(Config):
    """`[model]`: the base, its cold-start adapter and how prompts are made."""

    path: str
    """Folder in hub layout, or hub id."""
    cold_start: str | None = None
    """PEFT folder of the SFT stage: start of the policy, and its reference. None starts at the
    base with a fresh adapter."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    prompts: str = "default"
    """Shipped prompt file or a `.toml` path."""
    max_pixels: int | None = None
    """Larger pictures are scaled down. Source: 602,112, authors' setting."""
    max_images: int = Field(default=8, ge=0)
    """Further pictures of a prompt are left out, by engines and trainer alike. Source: authors'
    setting."""
    max_model_len: int | None = None
    """Longest prompt plus answer; the model's own limit when left out."""
    image_roots: tuple[str, ...] = ()
    """Folders below which images may be opened, beside the folders of the corpus files."""


class DataConfig(Config):
    """`[data]`: corpora in our JSONL form, with gold queries."""

    train: tuple[str, ...]
    """Files whose queries are trained on (or scored)."""
    validation: tuple[str, ...] = ()
    """Files for the real metric during training."""
    sft_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the dialogues that the SFT stage used; only the others are trained on here.
    Source: 25 % SFT and 75 % GRPO (Sec 6.1.1), as stated; 0 where the files are split already."""
    max_validation: int | None = Field(default=None, ge=1)
    """At most so many validation queries, the first ones."""


class EngineConfig(Config):
    """`[engine]`: what samples the rollouts."""

    kind: Literal["transformers", "vllm"] = "transformers"
    actors: int = Field(default=0, ge=0)
    """Engines in Ray actors; 0 puts one engine into every training worker."""
    cpus_per_actor: float = 1.0
    gpus_per_actor: float = 0.0
    max_batch_tokens: int = Field(default=16_384, ge=1)
    """Tokens of one generation batch (transformers)."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, lt=1)
    """Share of a GPU's memory that an engine takes (vLLM)."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs of one engine (vLLM)."""

    @model_validator(mode="after")
    def _check_gpus(self) -> EngineConfig:
        if self.kind != "vllm" or not self.actors or not self.gpus_per_actor:
            return self
        if self.gpus_per_actor < 1 and self.gpu_memory_utilization > self.gpus_per_actor:
            raise ValueError(
                f"gpu_memory_utilization {self.gpu_memory_utilization} and gpus_per_actor"
                f" {self.gpus_per_actor}: engines that share a GPU may not take more of its memory"
                " than their share"
            )
        if self.tensor_parallel_size > max(1, self.gpus_per_actor):
            raise ValueError(
                f"tensor_parallel_size {self.tensor_parallel_size} and gpus_per_actor"
                f" {self.gpus_per_actor:g}: an actor needs all GPUs of its engine"
            )
        return self


class RolloutConfig(Config):
    """`[rollout]`: groups, sampling, dynamic sampling."""

    group_size: int = Field(default=8, ge=2)
    """G. Source: authors' setting."""
    groups_per_step: int = Field(default=8, ge=1)
    """Prompt groups of one step over all workers."""
    sampling_temperature: float = Field(default=1.0, gt=0)
    """Source: authors' setting."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Our preset 1.0; the authors use 0.85."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Source: authors' setting."""
    oversample: float = Field(default=1.0, ge=1)
    """Prompts rolled out for each missing group."""
    max_rounds: int = Field(default=4, ge=1)
    """Bound on refills of one step."""
    min_spread: float = Field(default=1e-4, ge=0)
    """Groups whose total rewards spread over less are dropped; 0 is no dynamic sampling."""


class RewardConfig(Config):
    """`[rewards]`: weights and presets, see `ffr_core.rewards`."""

    preset: Literal["ours", "paper"] = "ours"
    """`ours`: gated order reward, absent modalities left out; `paper`: the authors' settings."""
    f1_weight: float = Field(default=1.0, ge=0)
    order_weight: float = Field(default=1.0, ge=0)
    """0 switches the order reward off; it needs `clip` otherwise."""
    format_weight: float = Field(default=0.3, ge=0)
    gamma: float = Field(default=0.95, gt=0, le=1)
    accuracy: Literal["f1", "exact"] = "f1"
    clip: str | None = None
    """open_clip model of the order reward: a folder, `hf-hub:...`, or `NAME/PRETRAINED`."""

    @model_validator(mode="after")
    def _check_clip(self) -> RewardConfig:
        if self.order_weight > 0 and self.clip is None:
            raise ValueError("the order reward needs clip; give a model or order_weight = 0")
        return self

    def settings(self) -> RewardSettings:
        """The library's form."""
        paper = self.preset == "paper"
        return RewardSettings(
            f1_weight=self.f1_weight,
            order_weight=self.order_weight,
            format_weight=self.format_weight,
            gamma=self.gamma,
            accuracy=self.accuracy,
            order="authors" if paper else "gated",
            renormalize_absent=not paper,
        )


class CurriculumConfig(Config):
    """`[curriculum]`: order and share of the samples, see `ffr_core.curriculum`."""

    difficulty: str | None = None
    """`difficulty.jsonl` of `jobs.score_difficulty`; None or empty: one shuffled stage."""
    labels: Literal["script", "text"] = "script"
    fractions: dict[Difficulty, float] = Field(default_factory=dict)
    """Best share of each class; 1 where left out."""
    drop_empty_gold: bool = False
    """Leave out easy and medium samples whose gold is empty."""
    ordered: bool = True
    """False keeps the selection but shuffles all stages into one (ablation)."""

    def settings(self) -> CurriculumSettings:
        """The library's form."""
        return CurriculumSettings(
            labels=self.labels, fractions=self.fractions, drop_empty_gold=self.drop_empty_gold
        )


class PolicyConfig(Config):
    """`[policy]`: the loss and its forward passes."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    """Clip-higher 0.2 / 0.28. Source: authors' setting."""
    beta: float = Field(default=0.02, ge=0)
    """Weight of the KL to the reference; 0 saves its forward pass. Source: authors' setting."""
    scale_rewards: bool = True
    """Divide advantages by the deviation of their group, as the paper does; see
    `group_advantages`."""
    minibatches: int = Field(default=1, ge=1)
    """Optimizer steps on the groups of one step; above 1 the later ones are off policy."""
    importance_cap: float | None = Field(default=2.0, gt=0)
    """Upper bound of importance weights; None switches the correction off."""
    tokens_per_microbatch: int = Field(default=16_384, ge=1)
    """Padded tokens of one forward pass; a longer group goes alone."""
    share_prompts: bool = True
    """Read a group's prompt once for all its rollouts; needs attention with free masks (sdpa)."""
    gradient_checkpointing: bool = False


class GrpoConfig(Config):
    """A GRPO run."""

    launch: LaunchConfig
    model: ModelConfig
    data: DataConfig
    rewards: RewardConfig
    engine: EngineConfig = EngineConfig()
    rollout: RolloutConfig = RolloutConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    policy: PolicyConfig = PolicyConfig()
    lora: LoraSettings = LoraSettings()
    """Of a fresh adapter; a cold-start adapter brings its own."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-6, warmup_share=0.03)
    """Source: rate 2e-6, warm-up 3 %, authors' setting."""
    epochs: int = Field(default=1, ge=1)
    """Source: Sec 6.1.1, as stated."""
    max_steps: int | None = Field(default=None, ge=1)
    """End after so many steps, if the samples last."""
    eval_every: int = Field(default=50, ge=1)
    """Steps between validations; the last step is always validated."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints; every validation makes one as well."""
    seed: int = 0

    @model_validator(mode="after")
    def _check_engine(self) -> GrpoConfig:
        if self.engine.actors and self.launch.num_workers == 0:
            raise ValueError("engine.actors needs Ray; set launch.num_workers to 1 or more")
        vllm = self.engine.kind == "vllm"
        if vllm and not self.engine.actors:
            raise ValueError("engine.kind 'vllm' needs engine.actors of 1 or more")
        if vllm and self.launch.use_gpu and not self.engine.gpus_per_actor:
            raise ValueError("engine.gpus_per_actor is 0: with launch.use_gpu, give vLLM GPUs")
        return self


class DifficultyConfig(Config):
    """A scoring run over the RFT split."""

    out: str
    """Folder for `difficulty.jsonl`, `difficulty.png` and `summary.json`."""
    model: ModelConfig
    data: DataConfig
    engine: EngineConfig = EngineConfig(actors=1)
    max_new_tokens: int = Field(default=1024, ge=1)
    batch: int = Field(default=16, ge=1)
    """Queries that an engine gets at once."""
    curriculum: CurriculumConfig = CurriculumConfig()
    """Only `labels`, `fractions` and `drop_empty_gold` are read, for the summary and the plot."""


Run = TypeVar("Run", GrpoConfig, DifficultyConfig)


def resolve_paths(config: Run) -> Run:
    """Make local paths absolute: workers have a folder of their own.

    Raises:
        ConfigError: A corpus file is not there.
    """

    def absolute(path: str | None) -> str | None:
        return str(Path(path).resolve()) if path and Path(path).exists() else path

    def resolved(part: Config, *names: str) -> Config:
        values = {}
        for name in names:
            value = getattr(part, name)
            many = isinstance(value, tuple)
            values[name] = tuple(map(absolute, value)) if many else absolute(value)
        return part.model_copy(update=values)

    for path in (*config.data.train, *config.data.validation):
        if not Path(path).is_file():
            raise ConfigError(f"there is no corpus file {path}; check [data]")
    update: dict[str, Any] = {
        "model": resolved(config.model, "path", "cold_start", "prompts", "image_roots"),
        "data": resolved(config.data, "train", "validation"),
        "curriculum": resolved(config.curriculum, "difficulty"),
    }
    if isinstance(config, GrpoConfig):
        update["rewards"] = resolved(config.rewards, "clip")
    return config.model_copy(update=update)
