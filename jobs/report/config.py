"""What a report compares: systems, sets, and how the numbers are made."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ffr_core.config import Config, read_toml
from ffr_core.engine.config import EngineConfig
from ffr_core.errors import ConfigError
from ffr_core.profile import EncoderConfig

Part = Literal["selection", "segmentation", "recall", "search"]
PARTS: tuple[Part, ...] = ("selection", "segmentation", "recall", "search")

ABILITIES: dict[str, tuple[Part, ...]] = {
    "profile": PARTS,
    "brute_force": ("selection", "search"),
    "bm25": ("selection", "recall", "search"),
    "text_embedding": ("selection", "recall", "search"),
    "clip": ("selection", "recall", "search"),
    "fem": ("selection", "recall", "search"),
    "vlm": ("selection", "search"),
    "even_cuts": ("segmentation",),
    "reply_rule": ("segmentation",),
    "text_tiling": ("segmentation",),
}
"""What each kind of system can do."""


class SetConfig(Config):
    """`[[sets]]`: a corpus with gold labels, or with free queries."""

    name: str
    path: str
    """A corpus file (`.jsonl`, `.jsonl.gz`) or a folder of `*.jsonl`; `{package}` is `ffr_core`."""
    translation: str | None = None
    """JSON lines with translated queries and turns: `{query_id | dialogue_id + position, query}`,
    `{dialogue_id, turn_id, text}`. Queries without a translation are left out and counted."""
    queries: str | None = None
    """A text file, one query a line, asked of the whole corpus without gold, for judging."""
    hide_timestamps: bool = False
    """Segment without times."""
    max_dialogues: int | None = Field(default=None, ge=1)
    """The first ones."""
    max_queries: int | None = Field(default=None, ge=1)
    """Evenly spaced."""
    paper: Literal["MLDR", "WeChat", "WeChat-en"] | None = None
    """The paper's set whose numbers stand beside; MLDR, or WeChat-en with a translation."""

    @property
    def beside(self) -> str:
        """Which of the paper's sets stands beside this one."""
        return self.paper or ("WeChat-en" if self.translation else "MLDR")


class SystemConfig(Config):
    """`[[systems]]`: a name and what it runs."""

    name: str
    kind: Literal[
        "profile",
        "brute_force",
        "bm25",
        "text_embedding",
        "clip",
        "fem",
        "vlm",
        "even_cuts",
        "reply_rule",
        "text_tiling",
    ]
    """`profile`: all parts of a profile; `brute_force`: a profile's localizer reads every dialogue;
    `fem`: a Qwen2-VL encoder (GME zero-shot, or with an adapter); `vlm`: an engine reads each
    dialogue with the query."""
    profile: str = "laptop"
    """Of `profile` and `brute_force`."""
    encoder: EncoderConfig = EncoderConfig()
    """Of `text_embedding` and `text_tiling`."""
    model: str | None = None
    """Of `clip` (see `ClipEmbedder.open`) and `fem` (folder or hub id); without it: not run."""
    adapter: str | None = None
    """PEFT folder of `fem`; an engine's adapter name for `vlm`."""
    engine: EngineConfig | None = None
    """Of `vlm`; without it: not run."""
    prompts: str = "default"
    """Of `vlm`: a shipped prompt file or a path."""
    grammar: bool = False
    """Of `vlm`: answers can only name ids that exist."""
    windows: bool = False
    """Of `vlm`: windows of 35 turns, overlap 15, union of the answers. Source: App. C.1."""
    best_turns: int = Field(default=1, ge=1)
    """Turns that `bm25` and `text_embedding` select."""
    strictness: float = 1.0
    """`clip` and `fem` select elements whose cosine exceeds mean + strictness x deviation of their
    modality in the dialogue. Our choice: the paper does not say how embeddings select."""
    parts: tuple[Part, ...] = PARTS
    """What of its abilities is measured."""
    sets: tuple[str, ...] = ()
    """Names of the sets that it is asked on; all when left out."""
    paper_row: dict[str, str] = Field(default_factory=dict)
    """Table number -> the paper's row that stands beside this system; `""` for all tables."""
    num_cpus: float = Field(default=1.0, gt=0)
    num_gpus: float = Field(default=0.0, ge=0)
    """Of its Ray tasks."""


class ReportConfig(Config):
    """A report."""

    name: str
    """Results go to `runs/<name>/`."""
    reference: str
    """The system that the others are compared with, query by query."""
    systems: tuple[SystemConfig, ...]
    sets: tuple[SetConfig, ...]
    cache: str | None = None
    """Folder that keeps embeddings between runs."""
    clip: str | None = None
    """CLIP model of Table 5; without it: not run."""
    resamples: int = Field(default=1000, ge=10)
    """Of the bootstrap."""
    worst: int = Field(default=20, ge=0)
    """Queries of each system and set in the failure browser."""

    def abilities(self, system: SystemConfig) -> tuple[Part, ...]:
        """The parts that are measured of a system."""
        return tuple(part for part in ABILITIES[system.kind] if part in system.parts)

    @model_validator(mode="after")
    def _names(self) -> ReportConfig:
        for kind, names in (
            ("systems", [system.name for system in self.systems]),
            ("sets", [item.name for item in self.sets]),
        ):
            if len(set(names)) != len(names) or not names:
                raise ValueError(f"{kind} {names} must have different names, at least one")
        known = {item.name for item in self.sets}
        for system in self.systems:
            if not known.issuperset(system.sets):
                raise ValueError(f"system {system.name!r} names sets {system.sets}, not in {known}")
        if self.reference not in {system.name for system in self.systems}:
            raise ValueError(f"reference {self.reference!r} is none of the systems")
        return self


def load_config(path: Path) -> ReportConfig:
    """Read a report's TOML; `{package}` in a value is the folder of `ffr_core`.

    Raises:
        ConfigError: Every wrong key and value.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a TOML file such as {path}/report.toml")
    return ReportConfig.parse(_fill(read_toml(path)), str(path))


def _fill(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item) for item in value]
    if isinstance(value, str):
        return value.replace("{package}", str(resources.files("ffr_core")))
    return value
