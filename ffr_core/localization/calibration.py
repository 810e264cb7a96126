"""Calibrators: raw scores of a localizer to probabilities, fitted on validation data.

Our choice; the paper gives no confidence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ffr_core.errors import ConfigError, InputError
from ffr_core.types import Localization, Selection


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
        rising = all(a <= b for v in (x, y) for a, b in pairwise(v))
        finite = all(map(math.isfinite, (*x, *y)))
        if not (x and len(x) == len(y) and rising and finite and y[0] >= 0 and y[-1] <= 1):
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


def fit_calibration(
    examples: Sequence[tuple[Localization, Selection]],
    method: Literal["isotonic", "platt"] = "isotonic",
) -> Calibration:
    """Fit all three calibrators on localizations that were made without calibration.

    A selected id counts as right when the gold selection holds it, relevance when the gold holds
    anything. A kind whose examples are all right or all wrong keeps its raw scores.

    Args:
        examples: What the localizer found and the gold selection, in the same ids.
        method: `isotonic` needs hundreds of examples, `platt` tens.
    """
    fit = fit_isotonic if method == "isotonic" else fit_platt
    pairs: dict[str, list[tuple[float, bool]]] = {"utterance": [], "image": [], "relevance": []}
    for found, gold in examples:
        pairs["utterance"] += [(s, i in gold.utterance_ids) for i, s in found.utterances.items()]
        pairs["image"] += [(s, i in gold.image_ids) for i, s in found.images.items()]
        pairs["relevance"].append((found.relevance, bool(gold)))
    return Calibration(
        **{
            name: fit([score for score, _ in kind], [label for _, label in kind])
            for name, kind in pairs.items()
            if len({label for _, label in kind}) == 2
        }
    )


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
            # Equal scores; the mean of several may be above each by rounding.
            or blocks[-2][0] / blocks[-2][2] >= blocks[-1][0] / blocks[-1][2]
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
