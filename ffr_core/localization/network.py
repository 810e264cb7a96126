"""The learned numbers of the localizer and their evaluation in NumPy.

Shapes: N rows, F features, H hidden units.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CLIP = 3.0
"""Standardized features are cut here, so that unseen data cannot run away."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Log odds = linear part + one hidden layer of tanh units, over standardized features."""

    mean_F: Floats
    scale_F: Floats
    linear_F: Floats
    bias: float
    hidden_FH: Floats
    hidden_bias_H: Floats
    output_H: Floats

    def log_odds(self, features_NF: NDArray[np.floating[Any]]) -> Floats:
        """Return [N]."""
        x_NF = np.clip((features_NF - self.mean_F) / self.scale_F, -CLIP, CLIP)
        hidden_NH = np.tanh(x_NF @ self.hidden_FH + self.hidden_bias_H)
        odds: Floats = x_NF @ self.linear_F + hidden_NH @ self.output_H + self.bias
        return odds


def network_from_json(record: Mapping[str, Any]) -> Network:
    """Read the numbers of one network."""
    return Network(
        bias=float(record["bias"]),
        **{
            name: np.asarray(record[name], dtype=np.float64)
            for name in ("mean_F", "scale_F", "linear_F", "hidden_FH", "hidden_bias_H", "output_H")
        },
    )


def network_to_json(network: Network) -> dict[str, Any]:
    """The numbers, four digits each."""
    return {name: _rounded(getattr(network, name)) for name in Network.__dataclass_fields__}


def logistic(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    """Probability by a logistic regression; `weights` holds a `bias` and a weight a value."""
    odds = weights["bias"] + sum(weights[name] * value for name, value in values.items())
    return sigmoid(odds)


def sigmoid(odds: float) -> float:
    """1 / (1 + exp(-odds)), for any size of `odds`."""
    return 1 / (1 + math.exp(-max(min(odds, 50.0), -50.0)))


def logit(p: float) -> float:
    """log(p / (1 - p)), with p held inside [1e-4, 1 - 1e-4]."""
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))


def shipped_model() -> dict[str, Any]:
    """The learned numbers that ship with the library."""
    text = resources.files("ffr_core").joinpath("data/localizer.json").read_text("utf-8")
    model: dict[str, Any] = json.loads(text)
    return model


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_rounded(item) for item in value.tolist()]
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}")
