"""Profiles: the only place that turns the names in a TOML file into objects.

A profile is a folder `jobs/configs/<name>/` with `profile.toml`, or a path to such a file.
`{home}` in a value stands for the data folder (`--home`, else `FFRS_HOME`, else `~/.ffrs`).
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ffr_core.config import Config, read_toml
from ffr_core.errors import ConfigError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.ocr import OcrConfig
from ffr_core.serving import ServeConfig

if TYPE_CHECKING:
    from ffr_core.index.payload import PayloadStore
    from ffr_core.pipeline import Builder, System
    from ffr_core.protocols import Encoder, FragmentIndex, Localizer, Segmenter


class EncoderConfig(Config):
    """`[encoder]`: text or images to vectors."""

    kind: Literal["e5", "minilm", "hashing"] = "e5"
    """`e5`: multilingual-e5-small; `minilm`: all-MiniLM-L6-v2 (English); `hashing`: no model."""
    threads: int | None = None
    """CPU threads of the model; all cores when left out."""


class SegmenterConfig(Config):
    """`[segmenter]`: dialogues to fragments."""

    kind: Literal["texttiling"] = "texttiling"
    """`texttiling`: embeddings plus reply structure, no GPU."""


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


class LocalizerConfig(Config):
    """`[localizer]`: turns and images inside a candidate."""

    kind: Literal["embedding"] = "embedding"
    """`embedding`: encoder similarities and word overlap, calibrated, no GPU."""


class SearchConfig(Config):
    """`[search]`: the two-stage search."""

    num_candidates: int = Field(default=20, ge=1, le=200)
    """K fragments that the localizer reads. Source: authors' setting."""
    min_relevance: float = Field(default=0.0, ge=0, le=1)
    """Candidates whose localization is less likely to be relevant are dropped."""
    recall_weight: float = Field(default=0.0, ge=0)
    """How much a candidate's distance to the best one in recall lowers its relevance."""


class Profile(Config):
    """The parts of a system, by name."""

    encoder: EncoderConfig = EncoderConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    fragment_vector: Literal["mean", "encode"] = "mean"
    """Vector of a whole fragment: mean of its passages, or read by the encoder."""
    index: IndexConfig = IndexConfig()
    storage: StorageConfig = StorageConfig()
    localizer: LocalizerConfig = LocalizerConfig()
    search: SearchConfig = SearchConfig()
    images: ImageLimits = ImageLimits()
    ocr: OcrConfig = OcrConfig()
    serve: ServeConfig = ServeConfig()


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


def load_profile(name_or_path: str, home: str | Path | None = None) -> Profile:
    """Read a profile, fill in `{home}` and add the image roots that this home remembers.

    Raises:
        ConfigError: No such profile, or every wrong key and value of its file.
    """
    path = profile_path(name_or_path)
    folder = data_home(home)
    values = _fill(read_toml(path), str(folder))
    roots = [*values.get("images", {}).get("roots", []), *remembered_roots(folder)]
    values["images"] = {**values.get("images", {}), "roots": list(dict.fromkeys(roots))}
    profile = Profile.parse(values, str(path))
    return Profile.parse(_fill(profile.model_dump(), str(folder)), str(path))


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


def build_encoder(config: EncoderConfig) -> Encoder:
    """Load the encoder."""
    if config.kind == "hashing":
        from ffr_core.embedding.hashing import HashingEncoder

        return HashingEncoder()
    from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder

    return (E5Encoder if config.kind == "e5" else MiniLmEncoder)(threads=config.threads)


def build_segmenter(config: SegmenterConfig, encoder: Encoder) -> Segmenter:
    """Build the segmenter."""
    from ffr_core.segmentation.texttiling import TextTilingSegmenter

    return TextTilingSegmenter(encoder)


def build_localizer(config: LocalizerConfig, encoder: Encoder) -> Localizer:
    """Build the localizer."""
    from ffr_core.localization.embedding import EmbeddingLocalizer

    return EmbeddingLocalizer(encoder)


def build_builder(profile: Profile, encoder: Encoder) -> Builder:
    """Segmenter and encoder as one unit, for indexing; what both embed is embedded once."""
    from ffr_core.embedding.memo import MemoEncoder
    from ffr_core.ocr import OcrReader
    from ffr_core.pipeline import Builder

    encoder = MemoEncoder(encoder)
    return Builder(
        segmenter=build_segmenter(profile.segmenter, encoder),
        encoder=encoder,
        fragment_vector=profile.fragment_vector,
        ocr=OcrReader(images=build_image_reader(profile), min_confidence=profile.ocr.min_confidence)
        if profile.ocr.enabled
        else None,
    )


def build_index(profile: Profile, encoder_fingerprint: str, dim: int) -> FragmentIndex:
    """Open the index; a Milvus Lite file can be open in one process only (BusyError)."""
    from ffr_core.index.fusion import FusionWeights

    config = profile.index
    weights = FusionWeights(**config.weights.model_dump())
    if config.kind == "exact":
        from ffr_core.index.exact import ExactIndex

        return ExactIndex(
            encoder_fingerprint=encoder_fingerprint,
            dim=dim,
            weights=weights,
            depth=config.channel_depth,
        )
    from ffr_core.index.milvus import MilvusIndex

    return MilvusIndex(
        config.uri,
        token=os.environ.get(config.token_env),
        encoder_fingerprint=encoder_fingerprint,
        dim=dim,
        weights=weights,
        depth=config.channel_depth,
    )


def build_payloads(profile: Profile) -> PayloadStore:
    """Where dialogues are kept."""
    from ffr_core.index.payload import PayloadStore
    from ffr_core.storage import open_storage

    return PayloadStore(open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint))


def build_image_reader(profile: Profile) -> ImageReader:
    """Opens the images that the profile allows."""
    return ImageReader(limits=profile.images, s3_endpoint=profile.storage.s3_endpoint)


def open_system(name_or_path: str = "laptop", home: str | Path | None = None) -> System:
    """Open a profile as one object: add, search, get and delete dialogues in this process.

    Example:
        with open_system("laptop") as system:
            for answer in system.search("where do we meet on Saturday?"):
                print(answer.dialogue_id, answer.spans)
    """
    from ffr_core.pipeline import System

    profile = load_profile(name_or_path, home)
    encoder = build_encoder(profile.encoder)
    return System(
        builder=build_builder(profile, encoder),
        index=build_index(profile, encoder.fingerprint, encoder.dim),
        payloads=build_payloads(profile),
        localizer=build_localizer(profile.localizer, encoder),
        num_candidates=profile.search.num_candidates,
        min_relevance=profile.search.min_relevance,
        recall_weight=profile.search.recall_weight,
    )


def _fill(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, home) for item in value]
    return value.replace("{home}", home) if isinstance(value, str) else value
