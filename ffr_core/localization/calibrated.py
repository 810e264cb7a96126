"""A localizer whose probabilities pass through a calibration; what it selects stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ffr_core.localization.calibration import Calibration
from ffr_core.protocols import Localizer
from ffr_core.types import Dialogue, Localization, PassageEvidence


class CalibratedLocalizer:
    """`Localizer` around one that knows no calibration; `F2rvlmReader` applies its own."""

    def __init__(self, inner: Localizer, calibration: Calibration) -> None:
        self.inner, self.calibration = inner, calibration

    def localize(
        self,
        query: str,
        dialogue: Dialogue,
        turn_ids: Sequence[int] | None = None,
        evidence: Sequence[PassageEvidence] = (),
    ) -> Localization:
        """Select as the inner localizer does."""
        found = self.inner.localize(query, dialogue, turn_ids, evidence)
        return apply(self.calibration, found)


def apply(calibration: Calibration, found: Localization) -> Localization:
    """The same selection with calibrated probabilities."""
    return replace(
        found,
        utterances={i: calibration.utterance(p) for i, p in found.utterances.items()},
        images={i: calibration.image(p) for i, p in found.images.items()},
        relevance=calibration.relevance(found.relevance),
    )
