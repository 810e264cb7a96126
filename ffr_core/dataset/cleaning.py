"""The four cleaning filters of the short dialogues: pure decisions, each with a reason.

Source: App. B.1 (data cleaning), as stated; the details below are our reading where marked.

- `low_image_text_similarity`: an image whose CLIP similarity to its turn is too low.
- `off_topic`: turns that stray from the central topic (see `topic_drift`).
- `broken_turn_structure`: fewer than three turns, or not User1-User2-User1.
- `small_image`, `extreme_aspect_ratio`, `unreadable_image`: picture quality.

Our reading: a bad image is removed from its dialogue and counted; a dialogue that loses its last
image is dropped with that image's reason. `no_images` and `near_duplicate` are ours: the corpus is
one of shared images, and a triplet of copies is no long dialogue.

Shapes: T turns, K topics, D embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ffr_core.dataset.ranges import check_ranges
from ffr_core.types import Dialogue, Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the file of an image says, without its pixels."""

    width: int
    """Pixels; 0 when it cannot be read."""
    height: int
    key: str
    """Hash of the content, or the URI where there is no content: equal keys are one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningRules:
    """Thresholds of the filters."""

    min_side: int = 500
    """Pixels of the shorter side (which side is our reading). Source: App. B.1, as stated."""
    max_aspect: float = 7.5
    """Longer side over shorter side. Source: App. B.1, as stated."""
    min_image_text: float = 0.2
    """CLIP cosine of an image and its turn (our choice, the paper's value is not given)."""
    max_drift: float = 0.06
    """Upper bound of `topic_drift`, or of `drift_limit` over the corpus (our choice, the paper's
    value is not given)."""
    turn_pattern: Literal["start", "throughout"] = "throughout"
    """`start`: the first three turns are User1-User2-User1; `throughout`: two speakers who
    alternate to the end. Source: our reading."""

    def __post_init__(self) -> None:
        """Refuse thresholds that are out of range with ConfigError."""
        check_ranges(
            self,
            min_side=(0, math.inf),
            max_aspect=(1, math.inf),
            min_image_text=(-1, 1),
            max_drift=(0, math.inf),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one dialogue."""

    dialogue: Dialogue | None
    """What is kept, images renumbered; None when it is dropped."""
    reason: str = ""
    """Why it is dropped."""
    kept_images: tuple[int, ...] = ()
    """Ids (of the input) of the images that stay."""
    removed_images: tuple[tuple[int, str], ...] = ()
    """(id of the input, reason) of each image that goes."""


def image_problem(facts: ImageFacts | None, rules: CleaningRules) -> str:
    """The reason against an image, or an empty text.

    Example:
        499 x 900 is `small_image`; 4000 x 500 has the aspect ratio 8: `extreme_aspect_ratio`.
    """
    if facts is None:
        return ""
    short, long = sorted((facts.width, facts.height))
    if short <= 0:
        return "unreadable_image"
    if long / short > rules.max_aspect:
        return "extreme_aspect_ratio"
    return "small_image" if short < rules.min_side else ""


def structure_problem(dialogue: Dialogue, rules: CleaningRules) -> str:
    """`broken_turn_structure` unless User1-User2-User1 holds; else an empty text."""
    speakers = [turn.speaker for turn in dialogue.turns]
    if rules.turn_pattern == "start":
        speakers = speakers[:3]
    fits = (
        len(speakers) >= 3
        and speakers[0] != speakers[1]
        and all(a == b for a, b in zip(speakers, speakers[2:], strict=False))
    )
    return "" if fits else "broken_turn_structure"


def topic_drift(turns_TD: NDArray[np.float32], centers_KD: NDArray[np.float32]) -> float:
    """How far a dialogue strays from its central topic, in [0, 2]; 0 when it never does.

    The topics are k-means centers of a corpus. The central one is the closest to the mean of the
    turns; a turn strays by the cosine that it has with its own closest topic beyond the one with
    the central topic. The drift is the mean over the turns, so that turns that belong to no topic
    (greetings, "no idea") do not count. Source: App. B.1 (sentence embeddings, k-means, deviation
    from a central topic), as stated; the formula is our reading.

    Args:
        turns_TD: [T, D], unit norm, the corpus mean taken off; turns without text left out.
        centers_KD: [K, D], unit norm.

    Example:
        Turns e1, e1, e1, e2 with centers e1 and e2: the central topic is e1, the last turn strays
        by 1 - 0: 0.25.
    """
    if len(turns_TD) == 0:
        return 0.0
    turns = turns_TD.astype(np.float32)
    cosines = turns @ centers_KD.T
    central = int(np.argmax(centers_KD @ turns.sum(axis=0)))
    return float((cosines.max(axis=1) - cosines[:, central]).mean())


def drift_limit(drifts: Sequence[float], deviations: float) -> float:
    """A bound on the drift that fits an encoder and a corpus: median + deviations x spread.

    The spread is the median distance from the median times 1.4826, which is the standard deviation
    of a normal distribution and is not moved by a few outliers.

    Example:
        Drifts 0, 1, 2, 3, 100: median 2, distances 2, 1, 0, 1, 98, their median 1: with 2
        deviations 2 + 2 x 1.4826 = 4.9652.
    """
    values = np.asarray(drifts, dtype=np.float64)
    if len(values) == 0:
        return 0.0
    median = float(np.median(values))
    return median + deviations * 1.4826 * float(np.median(np.abs(values - median)))


def clean_dialogue(
    dialogue: Dialogue,
    rules: CleaningRules,
    *,
    facts: Mapping[int, ImageFacts],
    image_text: Mapping[int, float] | None = None,
    drift: float | None = None,
) -> Verdict:
    """Apply the filters: structure, image quality, image-text similarity, topic.

    Args:
        dialogue: A short dialogue.
        rules: Thresholds.
        facts: By image id; an image without facts passes the quality filter.
        image_text: CLIP cosine by image id; None switches that filter off.
        drift: Of `topic_drift`; None switches that filter off.
    """
    problem = structure_problem(dialogue, rules)
    if problem:
        return Verdict(dialogue=None, reason=problem)
    if not dialogue.images:
        return Verdict(dialogue=None, reason="no_images")
    removed: list[tuple[int, str]] = []
    for image in dialogue.images:
        reason = image_problem(facts.get(image.image_id), rules)
        if not reason and image_text is not None:
            low = image_text.get(image.image_id, -1.0) < rules.min_image_text
            reason = "low_image_text_similarity" if low else ""
        if reason:
            removed.append((image.image_id, reason))
    gone = {image_id for image_id, _ in removed}
    kept = tuple(i.image_id for i in dialogue.images if i.image_id not in gone)
    if not kept:
        return Verdict(dialogue=None, reason=removed[-1][1], removed_images=tuple(removed))
    if drift is not None and drift > rules.max_drift:
        return Verdict(dialogue=None, reason="off_topic", removed_images=tuple(removed))
    without = without_images(dialogue, gone)
    if without is None:
        return Verdict(dialogue=None, reason="broken_turn_structure", removed_images=tuple(removed))
    return Verdict(dialogue=without, kept_images=kept, removed_images=tuple(removed))


def without_images(dialogue: Dialogue, gone: Iterable[int]) -> Dialogue | None:
    """Remove images and renumber the rest; None when a turn is left with nothing at all."""
    removed = set(gone)
    if not removed:
        return dialogue
    turns: list[Turn] = []
    num_images = 0
    for turn in dialogue.turns:
        images = []
        for image in turn.images:
            if image.image_id not in removed:
                images.append(replace(image, image_id=num_images))
                num_images += 1
        if not turn.text and not images and turn.images:
            return None
        turns.append(replace(turn, images=tuple(images)))
    return replace(dialogue, turns=tuple(turns), queries=None)
