"""Settings of a run of `jobs/train_fem.py`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ffr_core.adapters import LoraSettings
from ffr_core.config import Config
from ffr_core.errors import ConfigError
from jobs.fem.steps import View
from jobs.training.config import LaunchConfig, OptimizerConfig

FREE_KEYS = ("launch", "evaluate_every", "tokens_per_pass", "cached_gradients", "cache")
"""What may change when a run is resumed."""


class ModelConfig(Config):
    """`[model]`: the encoder that gets an adapter."""

    kind: Literal["e5", "minilm", "qwen2vl"] = "e5"
    """`e5`: multilingual-e5-small, the text encoder of the laptop profile; `minilm`:
    all-MiniLM-L6-v2, English; `qwen2vl`: Qwen2-VL, GME and their like."""
    path: str | None = None
    """Folder or hub id of a `qwen2vl` model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    first_layer: int = Field(default=8, ge=0)
    """Text encoders: the first layer that is adapted, of 12 (`e5`) or 6 (`minilm`, where it is 4
    unless given); those below are computed once a text."""
    trained_side: Literal["both", "queries"] = "both"
    """`queries`: passages keep the vectors of the plain encoder, and every fragment of a set is a
    negative of each query. Our option; `both` is the paper's."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer passages are cut; `minilm`: 256 unless given, as profiles do."""
    max_pixels: int | None = None
    max_images: int | None = 8
    query_instruction: str = "Find the dialogue fragment that answers the query."
    """`qwen2vl`: system message of a query."""
    passage_instruction: str = "You are a helpful assistant."
    """`qwen2vl`: system message of a passage. Source: GME's template."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("kind") == "minilm":
            return {"first_layer": 4, "max_tokens": 256, **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if (self.kind == "qwen2vl") != (self.path is not None):
            raise ValueError(f"kind {self.kind!r} and path {self.path!r}: `qwen2vl` needs a path")
        if self.kind == "qwen2vl" and self.trained_side == "queries":
            raise ValueError("trained_side = 'queries' works with text encoders only")
        return self


class DataConfig(Config):
    """`[[data]]`: a corpus file with gold fragments and queries."""

    path: str
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of the dialogues that choose the best checkpoint."""
    test: float = Field(default=0.0, ge=0, lt=1)
    """Share of the dialogues that is only scored, at every validation, and chooses nothing."""
    max_dialogues: int | None = Field(default=None, ge=1)


class LossConfig(Config):
    """`[loss]`: Eq 8-10. Temperature and lambda are lost in the paper; these are our choice."""

    contrastive_temperature: float = Field(default=0.02, gt=0)
    intra_weight: float = Field(default=0.5, ge=0)
    """lambda; 0 is the ablation *inter only*."""
    dims: tuple[int, ...] = ()
    """Matryoshka: dimensions trained beside the full one (`trained_side = "both"`)."""
    anchor_weight: float = Field(default=0.0, ge=0)
    """Times 1 - cosine between a query before and after training: keeps what the encoder knows
    (`trained_side = "queries"`)."""
    anchor_texts_weight: float = Field(default=10.0, ge=0)
    """The same for turns of the `anchor_texts` files, without effect where there are none."""


class StepConfig(Config):
    """`[step]`: rows of one optimizer step over all workers."""

    queries: int = Field(default=32, ge=1)
    views: tuple[View, ...] = ("window",)
    """What stands for a fragment: a turn, a window of turns around it, the whole fragment. With
    `trained_side = "queries"` it is always the turns."""
    siblings: int = Field(default=1, ge=0)
    """Mined hard negatives from other fragments of the same dialogue, a query and view."""
    others: int = Field(default=1, ge=0)
    """Mined hard negatives from other dialogues, a query and view."""
    pairs: int = Field(default=16, ge=0)
    """Question-answer pairs."""
    anchor_texts: int = Field(default=32, ge=1)
    """Turns of the `anchor_texts` files."""
    positive_depth: int = Field(default=3, ge=1)
    """The positive is drawn from so many best gold turns."""
    negative_depth: int = Field(default=10, ge=1)
    window_tokens: tuple[int, ...] = (96, 256)
    """A window's limit is drawn from these."""


class SweepConfig(Config):
    """`[sweep]`: one run for each combination; empty lists keep the value of the run."""

    contrastive_temperature: tuple[float, ...] = ()
    intra_weight: tuple[float, ...] = ()
    seed: tuple[int, ...] = ()
    """Each combination once a seed; the seed also divides the dialogues."""


class FemConfig(Config):
    """A run."""

    model: ModelConfig = ModelConfig()
    lora: LoraSettings = LoraSettings()
    data: tuple[DataConfig, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    """Further corpora that are only scored."""
    max_held_out_dialogues: int | None = Field(default=None, ge=1)
    """Of each of them."""
    anchor_texts: tuple[str, ...] = ()
    """Corpora whose turns, read as queries, stay where the plain encoder puts them, so that
    languages that training lacks are kept (`trained_side = "queries"`). Our option."""
    image_roots: tuple[str, ...] = ()
    loss: LossConfig = LossConfig()
    step: StepConfig = StepConfig()
    sweep: SweepConfig = SweepConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    launch: LaunchConfig
    num_steps: int = Field(ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between two validations, each with a checkpoint."""
    tokens_per_pass: int = Field(default=4096, ge=1)
    """Tokens of one forward pass."""
    cached_gradients: bool = False
    """Embed twice, so that memory does not grow with the rows of a step."""
    cache: str | None = None
    """Text encoders: folder that keeps vectors of the plain encoder for the next runs."""
    seed: int = 0

    @model_validator(mode="after")
    def _check_options(self) -> FemConfig:
        """No option is left without effect."""
        queries_only = self.model.trained_side == "queries"
        is_text = self.model.kind != "qwen2vl"
        checks = (
            (
                queries_only and self.loss.dims,
                "loss.dims works with model.trained_side = 'both' only",
            ),
            (
                not queries_only and self.loss.anchor_weight,
                "loss.anchor_weight works with model.trained_side = 'queries' only",
            ),
            (
                not queries_only and self.anchor_texts,
                "anchor_texts works with model.trained_side = 'queries' only",
            ),
            (
                queries_only and "fragment" in self.step.views,
                "step.views cannot hold 'fragment' with model.trained_side = 'queries'",
            ),
            (
                is_text and self.lora.dropout,
                "lora.dropout works with model.kind = 'qwen2vl' only",
            ),
            (
                is_text and self.launch.use_gpu,
                f"model.kind = {self.model.kind!r} is trained on CPUs, so launch.use_gpu must be"
                " false",
            ),
            (
                not is_text and self.cache,
                "cache does not work with model.kind = 'qwen2vl'",
            ),
        )
        if found := [reason for refused, reason in checks if refused]:
            raise ValueError("; ".join(found))
        return self

    def runs(self) -> list[FemConfig]:
        """This run, or one for each combination of the sweep."""
        sweep = self.sweep
        if not (sweep.contrastive_temperature or sweep.intra_weight or sweep.seed):
            return [self]
        runs = []
        for temperature, weight, seed in product(
            sweep.contrastive_temperature or (self.loss.contrastive_temperature,),
            sweep.intra_weight or (self.loss.intra_weight,),
            sweep.seed or (self.seed,),
        ):
            loss = self.loss.model_copy(
                update={"contrastive_temperature": temperature, "intra_weight": weight}
            )
            name = f"{self.launch.name}-t{temperature:g}-l{weight:g}"
            name += f"-s{seed}" if sweep.seed else ""
            launch = self.launch.model_copy(update={"name": name})
            changes = {"loss": loss, "launch": launch, "seed": seed, "sweep": SweepConfig()}
            runs.append(self.model_copy(update=changes))
        return runs


def resolve_paths(config: FemConfig) -> FemConfig:
    """Make local paths absolute: workers have their own folder; image roots default to the data.

    Raises:
        ConfigError: A corpus file is not there.
    """
    for path in (*(part.path for part in config.data), *config.held_out, *config.anchor_texts):
        if not Path(path).is_file():
            raise ConfigError(
                f"there is no corpus file {path}; check [[data]], held_out and anchor_texts"
            )

    def absolute(path: str) -> str:
        return str(Path(path).resolve()) if Path(path).exists() else path

    data = tuple(part.model_copy(update={"path": absolute(part.path)}) for part in config.data)
    held_out = tuple(map(absolute, config.held_out))
    files = [*(part.path for part in data), *held_out]
    roots = config.image_roots or tuple(dict.fromkeys(str(Path(f).parent) for f in files))
    model = config.model
    if model.path is not None:
        model = model.model_copy(update={"path": absolute(model.path)})
    return config.model_copy(
        update={
            "data": data,
            "held_out": held_out,
            "anchor_texts": tuple(map(absolute, config.anchor_texts)),
            "image_roots": tuple(map(absolute, roots)),
            "model": model,
            "cache": config.cache and str(Path(config.cache).resolve()),
        }
    )
