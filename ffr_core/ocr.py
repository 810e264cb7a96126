"""Text inside pictures, read by RapidOCR (the `ocr` extra; its models come with the package)."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ffr_core.config import Config
from ffr_core.errors import ConfigError, FfrError
from ffr_core.images import ImageReader
from ffr_core.types import Dialogue, Image

logger = logging.getLogger(__name__)


class OcrConfig(Config):
    """The `[ocr]` table of a profile."""

    enabled: bool = False
    """Read the text in pictures when indexing, Chinese and English; needs the `ocr` extra."""
    min_confidence: float = 0.6
    """Lines read with less confidence are left out."""


@dataclass(frozen=True, kw_only=True)
class OcrReader:
    """Fills `Image.text` of the dialogues that it is given, where the source gives none."""

    images: ImageReader
    min_confidence: float

    @property
    def fingerprint(self) -> str:
        """Changes with the package's version and the threshold."""
        try:
            version = importlib.metadata.version("rapidocr-onnxruntime")
        except importlib.metadata.PackageNotFoundError as error:
            raise ConfigError(
                "[ocr] is enabled but RapidOCR is not installed; run pip install 'ffrs[ocr]'"
            ) from error
        return f"rapidocr:{version}:{self.min_confidence}"

    def read_all(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """Read every picture that can be opened; one that cannot keeps no text and is logged."""
        return [self._read_dialogue(dialogue) for dialogue in dialogues]

    def read(self, uri: str) -> str:
        """Lines of a picture from top to bottom, joined by blanks."""
        import numpy as np

        found, _ = self._engine(np.asarray(self.images.open(uri)))
        lines = [(text, float(sure)) for _, text, sure in found or ()]
        return " ".join(text for text, sure in lines if sure >= self.min_confidence)

    def _read_dialogue(self, dialogue: Dialogue) -> Dialogue:
        if not any(image.uri for image in dialogue.images):
            return dialogue
        turns = tuple(
            replace(turn, images=tuple(self._read_image(image) for image in turn.images))
            for turn in dialogue.turns
        )
        return replace(dialogue, turns=turns)

    def _read_image(self, image: Image) -> Image:
        given = image.text is not None and not image.ocr
        if image.uri is None or given:
            return image
        try:
            text = self.read(image.uri) or None
            return replace(image, text=text, ocr=text is not None)
        except FfrError as error:
            logger.warning("no text read: %s", error)
            return image

    @cached_property
    def _engine(self) -> Callable[[Any], Any]:
        from rapidocr_onnxruntime import RapidOCR

        engine: Callable[[Any], Any] = RapidOCR()
        return engine
