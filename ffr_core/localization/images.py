"""Which pictures a query means, given how likely their turns are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ffr_core.localization.network import logistic, logit
from ffr_core.localization.terms import STOP_TERMS, QueryForm, terms
from ffr_core.passages import image_words

if TYPE_CHECKING:
    from ffr_core.types import Dialogue

NEIGHBORS = 2
"""Turns around a picture that may speak about it."""


def image_features(
    form: QueryForm, dialogue: Dialogue, turns: Mapping[int, float]
) -> dict[int, dict[str, float]]:
    """Features of each picture in the scope.

    Args:
        form: Of the query.
        dialogue: The whole dialogue.
        turns: Turn id -> P(selected), for the turns of the scope.
    """
    wanted = {term for term in form.terms if term not in STOP_TERMS}
    asked = float(form.flags["picture"])
    rows: dict[int, dict[str, float]] = {}
    for turn_id, own in turns.items():
        turn = dialogue.turns[turn_id]
        for image in turn.images:
            near = range(turn_id - NEIGHBORS, turn_id + NEIGHBORS + 1)
            around = max(turns.get(i, 0.0) for i in near if i != turn_id)
            held = wanted.intersection(terms(image_words(image)))
            rows[image.image_id] = {
                "own": logit(own),
                "around": logit(around),
                "words": len(held) / max(len(wanted), 1),
                "silent": float(not turn.text.strip()),
                "asked": asked,
                "asked_own": asked * logit(max(own, around)),
            }
    best = max((max(row["own"], row["around"]) for row in rows.values()), default=0.0)
    most = max((row["words"] for row in rows.values()), default=0.0)
    for row in rows.values():
        row["behind"] = max(row["own"], row["around"]) - best
        row["fewer_words"] = row["words"] - most
    return rows


def image_probabilities(
    form: QueryForm,
    dialogue: Dialogue,
    turns: Mapping[int, float],
    weights: Mapping[str, float],
) -> dict[int, float]:
    """P(a person would select the picture) by logistic regression; image id -> probability."""
    return {
        image_id: logistic(weights, row)
        for image_id, row in image_features(form, dialogue, turns).items()
    }
