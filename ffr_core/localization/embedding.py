"""The localizer that needs no GPU: similarities and word overlap, read by small learned networks.

Steps of one call: features of every turn (`features`), their probabilities by one of two networks
(`network`: the second one reads requests for a summary, which a whole stretch answers), the
relevance of the scope, the turns above the thresholds (`selection`; the less a query looks as if a
stretch answered it, the closer to the best turn the others must come), and the images that it
means. The numbers in `data/localizer.json` are learned by `fit`.
Departure from the paper, where a vision-language model reads the candidate (Sec 5.2.2, step 4).

Shapes: N turns of the scope, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.localization.images import image_probabilities
from ffr_core.localization.network import logistic, logit, network_from_json, shipped_model
from ffr_core.localization.reader import FeatureReader
from ffr_core.localization.selection import above
from ffr_core.localization.terms import QueryForm, asks_summary, query_form
from ffr_core.recent import KEPT_SECONDS
from ffr_core.types import Dialogue, Localization, PassageEvidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.protocols import Encoder


LITERAL = 0.5
"""Least probability of a turn that holds every word of a query of keywords, our choice: the learned
numbers come from sets without such queries."""


class EmbeddingLocalizer:
    """Selects turns and images by learned, calibrated probabilities."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        model: Mapping[str, Any] | None = None,
        dialogues_kept: int = 32,
        lifetime: float = KEPT_SECONDS,
    ) -> None:
        """Keep the encoder and read the model.

        Args:
            encoder: The encoder that made the stored vectors.
            model: Learned numbers; None takes those that ship.
            dialogues_kept: Dialogues whose turns stay in memory between calls.
            lifetime: Seconds that they stay there at most.
        """
        numbers = shipped_model() if model is None else model
        self._reader = FeatureReader(encoder, dialogues_kept, lifetime)
        self._names = list(numbers["features"])
        self._few, self._many = (network_from_json(numbers[part]) for part in ("few", "many"))
        self._gate = numbers["gate"]
        self._relevance = numbers["relevance"]
        self._image_weights = numbers["images"]
        self._rules = numbers["rules"]

    def localize(
        self,
        query: str,
        dialogue: Dialogue,
        turn_ids: Sequence[int] | None = None,
        evidence: Sequence[PassageEvidence] = (),
    ) -> Localization:
        """Select inside `turn_ids` (None: the whole dialogue), in the dialogue's own ids."""
        ids = sorted(range(len(dialogue.turns)) if turn_ids is None else set(turn_ids))
        if not ids:
            return Localization(utterances={}, images={}, relevance=0.0)
        form = query_form(query)
        columns = self._reader.columns(query, form, dialogue, ids, evidence)
        gate = logistic(self._gate, gate_values(form, columns["length"]))
        features_NF = np.stack([columns[name] for name in self._names], axis=1)
        whole = asks_summary(query)
        turns_N = self.turn_probabilities(features_NF, whole)
        turns_N = np.maximum(turns_N, LITERAL * columns["literal"])
        relevance = logistic(self._relevance, relevance_values(turns_N, gate))
        rule = self._rules["whole" if whole else "turns"]
        literal_N = columns["literal"] > 0
        share = 0.0 if whole or literal_N.any() else rule["share"] * (1 - gate) ** 2
        chosen = above(turns_N.tolist(), rule["every"], rule["best"], share)
        pictures = image_probabilities(
            form, dialogue, dict(zip(ids, turns_N.tolist(), strict=True)), self._image_weights
        )
        rule = self._rules["images"]
        shown = above(list(pictures.values()), rule["every"], rule["best"], rule["share"])
        image_ids = list(pictures)
        return Localization(
            utterances={ids[i]: float(turns_N[i]) for i in chosen},
            images={image_ids[i]: pictures[image_ids[i]] for i in shown},
            relevance=relevance,
            utterance_share=share,
            image_share=rule["share"],
            literal=frozenset(ids[i] for i in chosen if literal_N[i]),
        )

    def turn_probabilities(
        self, features_NF: NDArray[np.float64], whole: bool
    ) -> NDArray[np.float64]:
        """P(a person would select the turn), [N]; `whole`: a stretch is asked for."""
        network = self._many if whole else self._few
        chances_N: NDArray[np.float64] = 1 / (1 + np.exp(-network.log_odds(features_NF)))
        return chances_N


def gate_values(form: QueryForm, lengths_N: NDArray[np.floating[Any]]) -> dict[str, float]:
    """What the gate reads: the form of the query and how long turns are (mean log terms).

    The gate is P(more than `fit.LONG` turns answer the query), a logistic regression.
    """
    flags = {f"asks_{name}": float(value) for name, value in form.flags.items()}
    return flags | {
        "terms": float(np.log1p(len(form.terms))),
        "turn_length": float(lengths_N.mean()),
    }


def relevance_values(turns_N: NDArray[np.float64], gate: float) -> dict[str, float]:
    """What relevance is read from: the best turn, the expected number of turns, the gate."""
    return {
        "best": logit(float(turns_N.max())),
        "total": float(np.log(turns_N.sum() + 1e-4)),
        "gate": gate,
    }
