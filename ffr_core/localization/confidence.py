"""How sure a generated selection is, read from token log-probabilities.

The raw score of a selected id is the probability with which the model chose its digits, before any
grammar mask. The raw relevance of a fragment is the best id's score, or, when the model selects
nothing, one minus the probability of both empty lists. `calibration` turns raw scores into
probabilities. Our choice throughout; the paper gives no confidence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

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
