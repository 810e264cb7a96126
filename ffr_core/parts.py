"""Build the parts that a profile names: the only place that turns names into objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.engine.config import EngineConfig
from ffr_core.errors import ConfigError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.profile import (
    EncoderConfig,
    LocalizerConfig,
    Profile,
    SegmenterConfig,
    load_profile,
)
from ffr_core.recent import KEPT_SECONDS

if TYPE_CHECKING:
    from ffr_core.building import Builder
    from ffr_core.index.payload import PayloadStore
    from ffr_core.localization.f2rvlm import F2rvlmReader
    from ffr_core.pipeline import System
    from ffr_core.protocols import Encoder, Engine, FragmentIndex, Localizer, Segmenter


def build_encoder(config: EncoderConfig, s3_endpoint: str | None = None) -> Encoder:
    """Load the encoder; one that sees pictures opens those on S3 at `s3_endpoint`."""
    if config.kind == "hashing":
        from ffr_core.embedding.hashing import HashingEncoder

        return HashingEncoder()
    if config.kind == "fem":
        return _fem_encoder(config, s3_endpoint)
    from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder

    encoder = MiniLmEncoder if config.kind == "minilm" else E5Encoder
    return encoder(
        adapter=None if config.adapter is None else Path(config.adapter),
        adapter_side=config.adapter_side,
        adapter_share=config.adapter_share,
        threads=config.threads,
    )


def encoder_of(profile: Profile) -> Encoder:
    """Load the encoder of a profile, whose pictures may lie in its S3 store."""
    return build_encoder(profile.encoder, profile.storage.s3_endpoint)


def _fem_encoder(config: EncoderConfig, s3_endpoint: str | None) -> Encoder:
    from ffr_core.embedding.fem import FemEncoder, FemTemplate

    assert config.path is not None
    reader = ImageReader(limits=ImageLimits(roots=config.image_roots), s3_endpoint=s3_endpoint)
    template = FemTemplate(query_instruction=config.query_instruction, max_tokens=config.max_tokens)
    common: dict[str, Any] = {
        "adapter": config.adapter,
        "template": template,
        "dtype": config.dtype,
        "max_pixels": config.max_pixels,
    }
    if config.engine == "transformers":
        return FemEncoder(config.path, reader.open, device=config.device, **common)
    from ffr_core.embedding.fem_vllm import VllmFemEncoder

    share = config.gpu_memory_utilization
    return VllmFemEncoder(config.path, reader.open, gpu_memory_utilization=share, **common)


def part_engine(profile: Profile, part: SegmenterConfig | LocalizerConfig) -> Engine | None:
    """The engine of a segmenter or localizer, one in this process for equal tables.

    None where the part needs none.
    """
    if part.kind not in ("vlm", "f2rvlm"):
        return None
    from ffr_core.engine.build import shared_engine

    return shared_engine(part.engine or profile.engine, build_image_reader(profile))


def build_segmenter(
    config: SegmenterConfig,
    encoder: Encoder,
    engine: Engine | None = None,
    shared: EngineConfig | None = None,
) -> Segmenter:
    """Build the segmenter; `vlm` needs the engine of `part_engine` and the profile's `[engine]`."""
    if config.kind == "vlm":
        from ffr_core.engine.build import adapter_hash
        from ffr_core.prompts import Prompts
        from ffr_core.segmentation.vlm import VlmSegmenter

        return VlmSegmenter(
            _needed(engine, "vlm"),
            Prompts.load(config.prompts),
            adapter=config.adapter,
            adapter_hash=adapter_hash(config.engine or shared or EngineConfig(), config.adapter),
            window_turns=config.window_turns,
            window_overlap=config.window_overlap,
        )
    from ffr_core.segmentation.texttiling import TextTilingSegmenter

    return TextTilingSegmenter(encoder)


def build_localizer(
    config: LocalizerConfig,
    encoder: Encoder,
    lifetime: float = KEPT_SECONDS,
    engine: Engine | None = None,
) -> Localizer:
    """Build the localizer; what it read of a dialogue stays in memory for `lifetime` seconds.

    `f2rvlm` needs the engine of `part_engine` and keeps nothing.
    """
    if config.kind == "f2rvlm":
        from ffr_core.localization.f2rvlm import F2rvlmLocalizer

        return F2rvlmLocalizer(_needed(engine, "f2rvlm"), build_reader(config))
    from ffr_core.localization.embedding import EmbeddingLocalizer

    localizer = EmbeddingLocalizer(encoder, lifetime=lifetime)
    if config.calibration is None:
        return localizer
    from ffr_core.localization.calibrated import CalibratedLocalizer
    from ffr_core.localization.calibration import Calibration

    return CalibratedLocalizer(localizer, Calibration.load(config.calibration))


def build_reader(config: LocalizerConfig) -> F2rvlmReader:
    """Prompts, grammar and calibration of `f2rvlm`, for the plain and the async localizer."""
    from ffr_core.localization.calibration import Calibration
    from ffr_core.localization.f2rvlm import F2rvlmReader
    from ffr_core.prompts import Prompts

    return F2rvlmReader(
        prompts=Prompts.load(config.prompts),
        adapter=config.adapter,
        calibration=Calibration.load(config.calibration) if config.calibration else Calibration(),
        grammar=config.grammar,
        window_turns=config.window_turns,
        window_overlap=config.window_overlap,
    )


def build_builder(profile: Profile, encoder: Encoder, engine: Engine | None = None) -> Builder:
    """Segmenter and encoder as one unit, for indexing; what both embed is embedded once.

    `engine` answers for a segmenter that needs one; that of `part_engine` when left out.
    """
    from ffr_core.building import Builder
    from ffr_core.embedding.memo import MemoEncoder
    from ffr_core.ocr import OcrReader

    encoder = MemoEncoder(encoder)
    return Builder(
        segmenter=build_segmenter(
            profile.segmenter,
            encoder,
            engine or part_engine(profile, profile.segmenter),
            profile.engine,
        ),
        encoder=encoder,
        fragment_vector=profile.fragment_vector,
        window_tokens=profile.window_tokens,
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
    from ffr_core.index.collections import read_collections
    from ffr_core.index.milvus import MilvusIndex
    from ffr_core.storage import open_storage

    storage = open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)
    return MilvusIndex(
        config.uri,
        prefix=config.prefix or read_collections(storage).of(encoder_fingerprint),
        token=os.environ.get(config.token_env),
        encoder_fingerprint=encoder_fingerprint,
        dim=dim,
        weights=weights,
        depth=config.channel_depth,
    )


def build_payloads(
    profile: Profile, cached: int = 256, lifetime: float = KEPT_SECONDS
) -> PayloadStore:
    """Where dialogues are kept; `cached` of them stay in memory for `lifetime` seconds."""
    from ffr_core.index.payload import PayloadStore
    from ffr_core.storage import open_storage

    storage = open_storage(profile.storage.uri, endpoint_url=profile.storage.s3_endpoint)
    return PayloadStore(storage, cached, lifetime)


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
    return build_system(load_profile(name_or_path, home))


def build_system(
    profile: Profile, encoder: Encoder | None = None, localizer: Localizer | None = None
) -> System:
    """All parts of a profile as one object.

    Args:
        profile: What to build.
        encoder: In the place of the profile's own, such as one with a cache.
        localizer: In the place of the profile's own.
    """
    from ffr_core.pipeline import System

    encoder = encoder or encoder_of(profile)
    if localizer is None:
        engine = part_engine(profile, profile.localizer)
        localizer = build_localizer(profile.localizer, encoder, engine=engine)
    return System(
        builder=build_builder(profile, encoder),
        index=build_index(profile, encoder.fingerprint, encoder.dim),
        payloads=build_payloads(profile),
        localizer=localizer,
        num_candidates=profile.search.num_candidates,
        min_relevance=profile.search.min_relevance,
        recall_weight=profile.search.recall_weight,
        min_confidence=profile.search.min_confidence,
    )


def _needed(engine: Engine | None, kind: str) -> Engine:
    if engine is None:
        raise ConfigError(f"kind {kind!r} needs an engine; add the table [engine] to the profile")
    return engine
