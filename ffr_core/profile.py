"""Profiles: what a TOML file can say, and where files and their paths are found.

A profile is a folder `jobs/configs/<name>/` with `profile.toml`, or a path to such a file.
`{home}` in a value stands for the data folder (`--home`, else `FFRS_HOME`, else `~/.ffrs`),
`{package}` for the folder of `ffr_core`, where shipped checkpoints are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ffr_core.aggregation import MIN_CONFIDENCE
from ffr_core.config import Config, read_toml
from ffr_core.engine.config import EngineConfig
from ffr_core.errors import ConfigError, NotFoundError
from ffr_core.images import ImageLimits
from ffr_core.ocr import OcrConfig
from ffr_core.operations.config import LogConfig, RetentionConfig
from ffr_core.serving import ServeConfig
from ffr_core.windows import WINDOW_OVERLAP, WINDOW_TURNS


class EncoderConfig(Config):
    """`[encoder]`: text or images to vectors."""

    kind: Literal["e5", "minilm", "hashing", "fem"] = "e5"
    """`e5`: multilingual-e5-small; `minilm`: all-MiniLM-L6-v2 (English); `hashing`: no model;
    `fem`: a Qwen2-VL model (GME is one) that reads pictures."""
    threads: int | None = None
    """CPU threads of the model; all cores when left out."""
    adapter: str | None = None
    """PEFT folder that `jobs/train_fem.py` wrote for this encoder; not for `hashing`."""
    adapter_side: Literal["both", "queries"] = "both"
    """`e5`, `minilm`: what the adapter changes; as it was trained (`model.trained_side`)."""
    adapter_share: float = Field(default=1.0, gt=0, le=1)
    """`e5`, `minilm` with `adapter_side = "queries"`: share of the adapted vector in a query."""
    path: str | None = None
    """`fem`: the base model, a folder or hub id."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """`fem`: what runs it; both give the same vectors."""
    device: str = "cpu"
    """`fem` in transformers: a torch device."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`fem`: precision; `auto` as the weights are stored."""
    gpu_memory_utilization: float = Field(default=0.2, gt=0, lt=1)
    """`fem` in vLLM: share of the GPU's memory."""
    max_tokens: int = Field(default=2048, ge=8)
    """`fem`: longer passages are cut."""
    max_pixels: int | None = None
    """`fem`: larger pictures are scaled down."""
    query_instruction: str = "Find the dialogue fragment that answers the query."
    """`fem`: as it was trained."""
    image_roots: tuple[str, ...] = ()
    """`fem`: where pictures may lie; the profile's `images.roots` when left out."""

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.adapter is not None and self.kind == "hashing":
            raise ValueError("encoder.kind 'hashing' takes no adapter; use `e5`, `minilm` or `fem`")
        if (self.kind == "fem") != (self.path is not None):
            raise ValueError("encoder.path and encoder.kind = 'fem' go together")
        if self.engine == "vllm" and self.kind != "fem":
            raise ValueError(f"encoder.kind {self.kind!r} does not run in vllm; only `fem` does")
        return self


class ReadingConfig(Config):
    """What a segmenter and a localizer that run a vision-language model share."""

    engine: EngineConfig | None = None
    """An engine of its own; the profile's `[engine]` when left out."""
    adapter: str | None = None
    """Name among the engine's adapters; the bare base model when left out."""
    prompts: str = "default"
    """A shipped prompt file by name, or a path; the one that the model was trained with."""
    window_turns: int = Field(default=WINDOW_TURNS, ge=1)
    """Longer inputs are read in windows of this many turns. Source: App. C.1, as stated."""
    window_overlap: int = Field(default=WINDOW_OVERLAP, ge=0)
    """Turns that neighboring windows share. Source: App. C.1, as stated."""


class SegmenterConfig(ReadingConfig):
    """`[segmenter]`: dialogues to fragments."""

    kind: Literal["texttiling", "vlm"] = "texttiling"
    """`texttiling`: embeddings plus reply structure, no GPU; `vlm`: the boundary model."""


class FusionConfig(Config):
    """`[index.weights]`: weight of each recall channel's z-score; 0 switches a channel off."""

    dense_passage: float = 1.0
    dense_fragment: float = 0.0
    bm25_passage: float = 1.0
    bm25_fragment: float = 1.0


class IndexConfig(Config):
    """`[index]`: where vectors live."""

    kind: Literal["milvus", "exact"] = "milvus"
    """`milvus`: Milvus Lite for a file, Milvus for a URL; `exact`: NumPy, in memory."""
    uri: str = "{home}/ffrs.db"
    """A file (Milvus Lite) or `http(s)://host:port` (a Milvus server)."""
    token_env: str = "MILVUS_TOKEN"
    """Environment variable with the server's token; secrets never stand in a file."""
    prefix: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,15}$")
    """Start of the collection names; those of the last `ffrs reindex` when left out."""
    channel_depth: int = Field(default=200, ge=1, le=16_384)
    """Rows recalled per channel before fusion."""
    weights: FusionConfig = FusionConfig()

    @property
    def is_lite(self) -> bool:
        """One process holds the file."""
        return self.kind == "exact" or "://" not in self.uri


class StorageConfig(Config):
    """`[storage]`: where dialogues live."""

    uri: str = "{home}/store"
    """A folder or `s3://bucket/prefix`."""
    s3_endpoint: str | None = None
    """Endpoint of an S3-compatible store; AWS when left out."""


class LocalizerConfig(ReadingConfig):
    """`[localizer]`: turns and images inside a candidate."""

    kind: Literal["embedding", "f2rvlm"] = "embedding"
    """`embedding`: encoder similarities and word overlap, calibrated, no GPU; `f2rvlm`: a
    vision-language model reads each candidate."""
    grammar: bool = True
    """Answers of `f2rvlm` can only name ids that exist."""
    calibration: str | None = None
    """File of `python -m jobs.calibrate`; the localizer's own probabilities when left out."""


class SearchConfig(Config):
    """`[search]`: the two-stage search."""

    num_candidates: int = Field(default=20, ge=1, le=200)
    """K fragments that the localizer reads. Source: authors' setting."""
    min_relevance: float = Field(default=0.0, ge=0, le=1)
    """Candidates whose localization is less likely to be relevant are dropped."""
    recall_weight: float = Field(default=0.0, ge=0)
    """How much a candidate's distance to the best one in recall lowers its relevance."""
    min_confidence: float = Field(default=MIN_CONFIDENCE, ge=0, le=1)
    """Turns and images that are less likely after that are no part of an answer; unused with a
    `recall_weight` of 0."""


class Profile(Config):
    """The parts of a system, by name."""

    encoder: EncoderConfig = EncoderConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    engine: EngineConfig = EngineConfig()
    fragment_vector: Literal["mean", "encode"] = "mean"
    """Vector of a whole fragment: mean of its windows, or read by the encoder."""
    window_tokens: int = Field(default=0, ge=0)
    """Size of the windows of neighboring turns that are embedded and searched beside single turns,
    a token taken as four bytes; with 0 a window is a turn."""
    index: IndexConfig = IndexConfig()
    storage: StorageConfig = StorageConfig()
    localizer: LocalizerConfig = LocalizerConfig()
    search: SearchConfig = SearchConfig()
    images: ImageLimits = ImageLimits()
    ocr: OcrConfig = OcrConfig()
    serve: ServeConfig = ServeConfig()
    retention: RetentionConfig = RetentionConfig()
    logs: LogConfig = LogConfig()

    def with_image_root(self, folder: Path) -> Profile:
        """The profile, with the pictures below a folder readable."""
        roots = (*self.images.roots, str(folder.resolve()))
        encoder = self.encoder
        if encoder.kind == "fem":
            encoder = encoder.model_copy(update={"image_roots": (*encoder.image_roots, roots[-1])})
        images = self.images.model_copy(update={"roots": roots})
        return self.model_copy(update={"images": images, "encoder": encoder})


def data_home(home: str | Path | None = None) -> Path:
    """The data folder: the argument, else `FFRS_HOME`, else `~/.ffrs`."""
    return Path(home or os.environ.get("FFRS_HOME") or "~/.ffrs").expanduser().resolve()


def profile_path(name_or_path: str) -> Path:
    """Find the TOML file of a profile; ConfigError lists the names that ship."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_dir():
        return path / "profile.toml" if path.is_dir() else path
    shipped = Path(str(resources.files("jobs"))) / "configs"
    found = shipped / name_or_path / "profile.toml"
    if not found.is_file():
        names = sorted(p.parent.name for p in shipped.glob("*/profile.toml"))
        raise ConfigError(
            f"there is no profile {name_or_path!r}; use one of {', '.join(names)} or a path"
        )
    return found


def load_profile(
    name_or_path: str, home: str | Path | None = None, roots: Sequence[str] = ()
) -> Profile:
    """Read a profile, fill in `{home}` and add the image roots that this home remembers.

    Args:
        name_or_path: The profile.
        home: Data folder.
        roots: Further image roots, which this home does not remember.

    Raises:
        ConfigError: No such profile, or every wrong key and value of its file.
    """
    path = profile_path(name_or_path)
    folder = data_home(home)
    values = _fill(read_toml(path), str(folder))
    allowed = [*values.get("images", {}).get("roots", []), *remembered_roots(folder), *roots]
    values["images"] = {**values.get("images", {}), "roots": list(dict.fromkeys(allowed))}
    if values.get("encoder", {}).get("kind") == "fem":
        values["encoder"].setdefault("image_roots", values["images"]["roots"])
    profile = Profile.parse(values, str(path))
    return Profile.parse(_fill(profile.model_dump(), str(folder)), str(path))


def require_index(profile: Profile, home: str | Path | None = None) -> None:
    """Refuse a data folder without an index, for work that must not create one.

    Raises:
        ConfigError: The data folder is a file.
        NotFoundError: The Milvus Lite file of the profile is missing.
    """
    folder = data_home(home)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the data folder {folder} is a file; give --home a folder")
    config = profile.index
    if config.kind == "milvus" and config.is_lite and not Path(config.uri).exists():
        place = folder if Path(config.uri).is_relative_to(folder) else config.uri
        raise NotFoundError(
            f"there is no index in {place}; run `ffrs index PATH --home {folder}` or correct --home"
        )


def remembered_roots(home: Path) -> list[str]:
    """Image roots that `ffrs index` added to this home."""
    path = home / "image_roots.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def remember_root(home: Path, root: str) -> None:
    """Allow images below `root`, from now on, for everything that uses this home."""
    roots = remembered_roots(home)
    if root not in roots:
        home.mkdir(parents=True, exist_ok=True)
        temporary = home / "image_roots.json.new"
        temporary.write_text(json.dumps([*roots, root]))
        temporary.replace(home / "image_roots.json")


def _fill(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, home) for item in value]
    if not isinstance(value, str):
        return value
    return value.replace("{home}", home).replace("{package}", str(resources.files("ffr_core")))
