"""The numbers of the small models, as JSON in the package; `training.py` writes them.

Fitted on (parts of) the development halves of TIAGE (MIT), QMSum (MIT), VCSum (MIT), FriendsQA
(annotations Apache-2.0), the two IRC channels of Kummerfeld et al. 2019 (CC-BY-4.0) and on this
project's sample corpus. Only the fitted numbers ship, no text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.errors import ConfigError
from ffr_core.segmentation.linear import temper_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logistic:
    """A logistic model over named features; standardization is folded into the weights."""

    names: tuple[str, ...]
    weights_F: NDArray[np.float64]
    bias: float

    def probabilities(
        self, names: tuple[str, ...], features_NF: NDArray[Any]
    ) -> NDArray[np.float64]:
        """[N] in (0, 1); the names must be those it was fitted on."""
        assert names == self.names, sorted(set(names) ^ set(self.names))
        odds = np.clip(features_NF @ self.weights_F + self.bias, -12, 12)
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
        return probabilities


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kinds:
    """Kinds of talk that the gap weights were fitted on, as normal spreads. M kinds, F features."""

    names: tuple[str, ...]
    """Features that are equal for all gaps of a dialogue."""
    mean_MF: NDArray[np.float64]
    spread_MF: NDArray[np.float64]

    def strangeness(self, names: tuple[str, ...], features_GF: NDArray[np.float64]) -> float:
        """Root mean square distance, in spreads, of a dialogue from the nearest kind."""
        values_F = features_GF[0, [names.index(name) for name in self.names]]
        distances_M = np.sqrt((((values_F - self.mean_MF) / self.spread_MF) ** 2).mean(axis=1))
        return float(distances_M.min())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkScorer:
    """Linear scores plus one tanh layer; softmax over the candidates of a turn. H hidden units."""

    mean_F: NDArray[np.float32]
    scale_F: NDArray[np.float32]
    linear_F: NDArray[np.float32]
    hidden_FH: NDArray[np.float32]
    hidden_bias_H: NDArray[np.float32]
    output_H: NDArray[np.float32]

    def probabilities(
        self, features: NDArray[np.float32], exists_TK: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """[T, K], rows sum to 1; features are [T, K, F], candidates that do not exist get 0."""
        scaled = (features - self.mean_F) / self.scale_F
        hidden = np.tanh(scaled @ self.hidden_FH + self.hidden_bias_H)
        scores = (scaled @ self.linear_F + hidden @ self.output_H).astype(np.float64)
        scores = np.where(exists_TK, scores, -np.inf)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """All fitted numbers of `TextTilingSegmenter`."""

    gaps: Logistic
    kinds: Kinds
    pairs: Logistic
    links: LinkScorer
    text: str
    """The JSON they were read from; part of the fingerprint."""

    @classmethod
    def parse(cls, text: str) -> Weights:
        """Read the JSON form; ConfigError when a part is missing."""
        try:
            parts = json.loads(text)
            links = {k: np.array(v, np.float32) for k, v in parts["links"].items()}
            return cls(
                gaps=_logistic(parts["gaps"]),
                kinds=Kinds(
                    names=tuple(parts["kinds"]["names"]),
                    mean_MF=np.array(parts["kinds"]["mean_MF"], np.float64),
                    spread_MF=np.array(parts["kinds"]["spread_MF"], np.float64),
                ),
                pairs=_logistic(parts["pairs"]),
                links=LinkScorer(**links),
                text=text,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the segmentation weights cannot be read ({error!r});"
                " write them again with python -m ffr_core.segmentation.training"
            ) from error

    @classmethod
    def shipped(cls) -> Weights:
        """The weights that come with the package."""
        file = resources.files("ffr_core") / "data" / "segmentation" / "weights.json"
        return cls.parse(file.read_text(encoding="utf-8"))


def _logistic(part: dict[str, Any]) -> Logistic:
    return Logistic(
        names=tuple(part["weights"]),
        weights_F=np.array(list(part["weights"].values()), np.float64),
        bias=float(part["bias"]),
    )


def boundary_probabilities(
    gaps: Logistic, kinds: Kinds, names: tuple[str, ...], features_GF: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Boundary probabilities [G]; the stranger the dialogue, the more the prior sets their rate.

    Up to a strangeness of 1.2 the fitted rate is trusted, from 3.2 on four fifths of the way (in
    the log of the number of fragments) are the prior's.
    """
    strangeness = kinds.strangeness(names, features_GF)
    pull = 0.8 * min(max((strangeness - 1.2) / 2.0, 0.0), 1.0)
    return temper_rate(gaps.probabilities(names, features_GF), pull)
