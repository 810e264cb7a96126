"""Settings of the data set job, and the engine and encoders that they name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from ffr_core.config import Config
from ffr_core.dataset.clean_corpus import CorpusRules
from ffr_core.dataset.cleaning import CleaningRules
from ffr_core.dataset.queries import QueryRules
from ffr_core.dataset.splits import SplitRules
from ffr_core.dataset.triplets import MatchingRules
from ffr_core.engine.build import build_engine
from ffr_core.engine.config import EngineConfig
from ffr_core.errors import ConfigError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.profile import EncoderConfig

if TYPE_CHECKING:
    from ffr_core.dataset.features import ImageTextEncoder
    from ffr_core.protocols import Engine


class AnnotateConfig(Config):
    """`[annotate]`: how the engine is used to merge, tag and question."""

    workers: int = Field(default=1, ge=1)
    """Actors, each with an engine of its own."""
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    """Of one worker."""
    batch: int = Field(default=8, ge=1)
    """Triplets that a worker gets at once."""
    max_attempts: int = Field(default=3, ge=1)
    """Answers asked for before a triplet goes to the dead letter."""
    max_new_tokens: int = Field(default=8192, ge=1)
    sampling_temperature: float = Field(default=0.0, ge=0)
    """Of the first attempt."""
    tolerate_errors: bool = False
    """Leave out triplets that the engine gave no answer for; else the run stops and can go on."""
    structured: bool = False
    """Decode under a grammar that admits well-formed answers only; the engine must support it."""


class ClipConfig(Config):
    """`[clip]`: image-text similarity."""

    model: str = ""
    """open_clip folder, `hf-hub:ORG/NAME` or `ARCHITECTURE/PRETRAINED`; empty switches CLIP off,
    and the card says so."""
    factory: str = ""
    """`module:function` that takes an image opener and returns another encoder of this form."""
    device: str = "cpu"


class WorkConfig(Config):
    """`[embedding]`: the embedding stage."""

    workers: int = Field(default=1, ge=1)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    shard: int = Field(default=512, ge=1)
    """Dialogues of one shard: the unit that is resumed."""


class DatasetConfig(Config):
    """A run of the data set job."""

    input: tuple[str, ...]
    """Files or folders with short image-sharing dialogues."""
    form: Literal["auto", "dialogcc", "records"] = "auto"
    """DialogCC's release, our records, or told apart by their keys."""
    out: str
    """Folder of the result, seen by all nodes."""
    encoder: EncoderConfig = EncoderConfig()
    embedding: WorkConfig = WorkConfig()
    clip: ClipConfig = ClipConfig()
    images: ImageLimits = ImageLimits()
    """Image roots beside the folders of the input."""
    cleaning: CleaningRules = CleaningRules()
    corpus: CorpusRules = CorpusRules()
    matching: MatchingRules = MatchingRules()
    max_triplets: int | None = Field(default=None, ge=1)
    """Triplets that are merged, drawn by seed over all pools; all when left out."""
    engine: EngineConfig = EngineConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    prompts: str = "en"
    """Language of the prompts, or a file of the same form."""
    target_language: Literal["en", "zh"] | None = None
    """Everything is written in this language; the input's own when left out."""
    queries: QueryRules = QueryRules()
    negatives_by_embedding: bool = True
    """Compare negatives by meaning too, not only by their words."""
    splits: SplitRules = SplitRules()
    max_dead_share: float = Field(default=0.5, ge=0, le=1)
    """The run ends with exit code 3 when a larger share of triplets went to the dead letter."""

    @model_validator(mode="after")
    def _check_engine(self) -> DatasetConfig:
        if self.annotate.structured and self.engine.kind == "scripted" and not self.engine.script:
            raise ValueError(
                "annotate.structured: the scripted annotator follows no grammar; leave it out"
            )
        return self


def build_annotator(config: EngineConfig, images: ImageReader) -> Engine:
    """Start the engine; `scripted` without a script answers by rules.

    Raises:
        FfrError: Its settings do not fit, or there is no model.
    """
    if config.kind == "scripted" and not config.script:
        from ffr_core.dataset.scripted_annotator import scripted_answer
        from ffr_core.engine.scripted import ScriptedEngine

        return ScriptedEngine(scripted_answer)
    return build_engine(config, images)


def build_clip(config: ClipConfig, images: ImageReader) -> ImageTextEncoder | None:
    """Load CLIP or what the factory makes; None when neither is named."""
    if config.factory:
        module, _, name = config.factory.partition(":")
        try:
            factory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"[clip] factory {config.factory!r} cannot be loaded: {error}"
            ) from error
        made: ImageTextEncoder = factory(images.open)
        return made
    if not config.model:
        return None
    from ffr_core.embedding.clip import ClipEmbedder

    return ClipEmbedder.open(config.model, images.open, device=config.device)
