"""How sure a generated selection is: token log-probabilities to calibrated probabilities.

The raw score of a selected id is the probability with which the model chose its digits, before any
grammar mask. The raw relevance of a fragment is the best id's score, or, when the model selects
nothing, one minus the probability of both empty lists. Calibrators fitted on validation data turn
raw scores into probabilities. Our choice throughout; the paper gives no confidence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffr_core.errors import ConfigError, InputError
from ffr_core.generation import Completion

_LISTS = {
    "utterance": re.compile(r"<\|utt_ids_start\|>(\[[^\]]*\])"),
    "image": re.compile(r"<\|img_ids_start\|>(\[[^\]]*\])"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawConfidence:
    """Scores of one completion, each in [0, 1]."""

    utterances: Mapping[int, float]
    """Selected utterance id -> probability of its digits."""
    images: Mapping[int, float]
    """Selected image id -> probability of its digits."""
    relevance: float
    """Score that anything answers the query."""


def raw_confidence(completion: Completion) -> RawConfidence:
    """Read the scores at the places of the ids in the text.

    Without log-probabilities (or where their tokens do not spell the text) every selected id and
    the relevance get 1, an empty selection relevance 0.

    Example:
        `[2, 17]` with tokens `2` (log 0.9), `, `, `1` (log 0.5), `7` (log 0.8): {2: 0.9, 17: 0.4}.
    """
    starts = _token_starts(completion)
    scores: dict[str, dict[int, float]] = {}
    nothing = 1.0
    for modality, pattern in _LISTS.items():
        match = pattern.search(completion.text)
        scores[modality] = {}
        if match is None:
            continue
        ids = list(re.finditer(r"\d+", match[1]))
        for number in ids:
            begin, end = match.start(1) + number.start(), match.start(1) + number.end()
            score = _probability(completion, starts, begin, end)
            scores[modality].setdefault(int(number[0]), score)
        if not ids:
            nothing *= _probability(completion, starts, match.end(1) - 1, match.end(1))
    best = [*scores["utterance"].values(), *scores["image"].values()]
    return RawConfidence(
        utterances=scores["utterance"],
        images=scores["image"],
        relevance=max(best) if best else 1.0 - nothing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator:
    """A rising function from raw scores to probabilities: straight lines between knots."""

    scores: tuple[float, ...] = (0.0, 1.0)
    """Knots, ascending."""
    probabilities: tuple[float, ...] = (0.0, 1.0)
    """Their values, not falling, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the knots."""
        x, y = self.scores, self.probabilities
        falling = any(a > b for v in (x, y) for a, b in pairwise(v))
        if not x or len(x) != len(y) or falling or y[0] < 0 or y[-1] > 1:
            raise ConfigError(
                f"calibration knots {x} -> {y}: expected as many of both, ascending, values in"
                " [0, 1]; fit it again"
            )

    def __call__(self, score: float) -> float:
        """The probability of one score."""
        return float(np.interp(score, self.scores, self.probabilities))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Calibrators of the three kinds of scores; the default changes nothing."""

    utterance: Calibrator = field(default_factory=Calibrator)
    image: Calibrator = field(default_factory=Calibrator)
    relevance: Calibrator = field(default_factory=Calibrator)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a JSON file; ConfigError says what is wrong with it."""
        try:
            values: dict[str, dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
            parts = {
                name: Calibrator(
                    scores=tuple(map(float, part["scores"])),
                    probabilities=tuple(map(float, part["probabilities"])),
                )
                for name, part in values.items()
            }
            return cls(**parts)
        except FileNotFoundError as error:
            raise ConfigError(f"there is no calibration file {path}; check the path") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is not a calibration file: {error}; fit it again") from error

    def save(self, path: str | Path) -> None:
        """Write the JSON file."""
        parts = {
            name: {"scores": part.scores, "probabilities": part.probabilities}
            for name, part in (
                ("utterance", self.utterance),
                ("image", self.image),
                ("relevance", self.relevance),
            )
        }
        Path(path).write_text(json.dumps(parts, indent=1), encoding="utf-8")


def fit_isotonic(scores: Sequence[float], labels: Sequence[bool]) -> Calibrator:
    """Least-squares rising step function (pool adjacent violators), lines between step centers.

    Example:
        Scores 0.1, 0.2, 0.3, 0.4 with labels 0, 1, 0, 1 pool the middle two to 0.5.
    """
    order = np.argsort(scores, kind="stable")
    x, y = np.asarray(scores, float)[order], np.asarray(labels, float)[order]
    _check_fit(x, y)
    blocks: list[list[float]] = []  # [sum of scores, sum of labels, size]
    for score, label in zip(x, y, strict=True):
        blocks.append([score, label, 1.0])
        while len(blocks) > 1 and (
            blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]
            or blocks[-2][0] / blocks[-2][2] == blocks[-1][0] / blocks[-1][2]
        ):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    return Calibrator(
        scores=tuple(total / size for total, _, size in blocks),
        probabilities=tuple(label / size for _, label, size in blocks),
    )


def fit_platt(scores: Sequence[float], labels: Sequence[bool], knots: int = 101) -> Calibrator:
    """Logistic regression on the score's log odds, by Newton steps; never falls.

    Source: Platt (1999), with his smoothed targets.
    """
    x, y = np.asarray(scores, float), np.asarray(labels, float)
    _check_fit(x, y)
    positives, negatives = y.sum(), len(y) - y.sum()
    targets = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design_N2 = np.stack([_log_odds(x), np.ones_like(x)], axis=1)
    weights_2 = np.zeros(2)
    for _ in range(100):
        p_N = 1 / (1 + np.exp(-np.clip(design_N2 @ weights_2, -30, 30)))
        gradient_2 = design_N2.T @ (p_N - targets) + 1e-4 * weights_2
        hessian_22 = (design_N2 * (p_N * (1 - p_N))[:, None]).T @ design_N2 + 1e-4 * np.eye(2)
        step_2 = np.linalg.solve(hessian_22, gradient_2)
        weights_2 -= step_2 / max(1.0, float(np.abs(step_2).max()))
        if np.abs(step_2).max() < 1e-8:
            break
    slope, bias = max(float(weights_2[0]), 0.0), float(weights_2[1])
    grid = np.linspace(0, 1, knots)
    values = 1 / (1 + np.exp(-np.clip(slope * _log_odds(grid) + bias, -30, 30)))
    return Calibrator(scores=tuple(map(float, grid)), probabilities=tuple(map(float, values)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """One bar of a reliability plot."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_correct: float


def reliability(
    probabilities: Sequence[float], labels: Sequence[bool], num_bins: int = 10
) -> list[ReliabilityBin]:
    """Bins of equal width that hold anything; equal last two numbers mean perfect calibration."""
    p, y = np.asarray(probabilities, float), np.asarray(labels, float)
    place = np.minimum((p * num_bins).astype(int), num_bins - 1)
    return [
        ReliabilityBin(
            low=i / num_bins,
            high=(i + 1) / num_bins,
            count=int((place == i).sum()),
            mean_probability=float(p[place == i].mean()),
            share_correct=float(y[place == i].mean()),
        )
        for i in range(num_bins)
        if (place == i).any()
    ]


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error in [0, 1]: mean gap of the bins, weighted by their counts."""
    total = sum(bin.count for bin in bins)
    gaps = sum(bin.count * abs(bin.mean_probability - bin.share_correct) for bin in bins)
    return gaps / total if total else 0.0


def _token_starts(completion: Completion) -> list[int] | None:
    """Start of each token in the text; None when the tokens do not spell it."""
    texts = completion.token_texts
    if not texts or len(texts) != len(completion.logprobs):
        return None
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    if not "".join(texts).startswith(completion.text):
        return None
    return starts


def _probability(completion: Completion, starts: list[int] | None, begin: int, end: int) -> float:
    """Probability of the tokens that touch characters [begin, end); 1 when it is unknown."""
    if starts is None:
        return 1.0
    return math.exp(
        sum(
            logprob
            for logprob, start, stop in zip(completion.logprobs, starts, starts[1:], strict=False)
            if start < end and stop > begin
        )
    )


def _log_odds(scores_N: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped_N = np.clip(scores_N, 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(clipped_N / (1 - clipped_N))
    return odds


def _check_fit(scores_N: NDArray[np.float64], labels_N: NDArray[np.float64]) -> None:
    if len(scores_N) != len(labels_N) or len(set(labels_N.tolist())) < 2:
        raise InputError(
            f"{len(scores_N)} scores with labels {sorted(set(labels_N.tolist()))} cannot be"
            " calibrated; give as many labels, right and wrong ones"
        )
