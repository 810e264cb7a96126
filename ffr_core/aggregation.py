"""Merge localizations per dialogue. Source: Sec 5.2.2 (5) and Algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ffr_core.types import Candidate, Dialogue, DialogueAnswer, Localization

MIN_CONFIDENCE = 0.15
"""What an element needs to stay in a weighed answer, unless a profile says otherwise."""

LITERAL_FLOOR = 0.25
"""To what a turn that holds every word of a query of keywords can fall beside its rivals: who types
a word wants all the places where it stands. Above the usual thresholds."""


def weigh(
    candidate: Candidate,
    localization: Localization,
    best_score: float,
    recall_weight: float,
    min_confidence: float,
) -> Localization:
    """Relevance and confidences of a candidate beside its rivals.

    A localizer sees one candidate alone. The log odds of its relevance and of each selected element
    fall by `recall_weight` times the recall score that the candidate lacks to the best one of the
    query; elements below `min_confidence` are dropped. Turns in `literal`, and the relevance of a
    candidate that has some, fall no lower than LITERAL_FLOOR. Our reading.

    Example:
        Relevance 0.5, one point behind, weight 1: 1 / (1 + e) = 0.27.
    """
    if not recall_weight:
        return localization
    fall = recall_weight * (best_score - candidate.score)

    def lowered(p: float, is_literal: bool) -> float:
        p = min(max(p, 1e-6), 1 - 1e-6)
        fallen = 1 / (1 + math.exp(-max(math.log(p / (1 - p)) - fall, -50.0)))
        # Still in the order of the recall scores.
        return LITERAL_FLOOR + (1 - LITERAL_FLOOR) * fallen if is_literal else fallen

    def kept(found: Mapping[int, float], literal: Collection[int] = ()) -> dict[int, float]:
        changed = {i: lowered(confidence, i in literal) for i, confidence in found.items()}
        return {i: p for i, p in changed.items() if p >= min_confidence or i in literal}

    return replace(
        localization,
        utterances=kept(localization.utterances, localization.literal),
        images=kept(localization.images),
        relevance=lowered(localization.relevance, bool(localization.literal)),
    )


def merge_spans(turn_ids: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Half-open ranges that cover exactly the given ids; adjacent ids share a range.

    Example:
        {1, 2, 3, 6, 7, 10} gives ((1, 4), (6, 8), (10, 11)).
    """
    spans: list[tuple[int, int]] = []
    for turn_id in sorted(set(turn_ids)):
        if spans and spans[-1][1] == turn_id:
            spans[-1] = (spans[-1][0], turn_id + 1)
        else:
            spans.append((turn_id, turn_id + 1))
    return tuple(spans)


def merge_localizations(localizations: Sequence[Localization]) -> Localization:
    """Union of selections of one dialogue; an id found twice keeps its higher confidence."""
    utterances: dict[int, float] = {}
    images: dict[int, float] = {}
    for localization in localizations:
        for merged, found in (
            (utterances, localization.utterances),
            (images, localization.images),
        ):
            for element, confidence in found.items():
                merged[element] = max(confidence, merged.get(element, 0.0))
    return Localization(
        utterances=dict(sorted(utterances.items())),
        images=dict(sorted(images.items())),
        relevance=max(localization.relevance for localization in localizations),
        utterance_share=min(localization.utterance_share for localization in localizations),
        image_share=min(localization.image_share for localization in localizations),
    )


def keep_close(localization: Localization) -> Localization:
    """Drop elements that fall too far behind the best one of their kind. Our choice.

    Example:
        Utterances {1: 0.6, 2: 0.2} with `utterance_share` 0.5: the second one is dropped.
    """
    kept = [
        {i: confidence for i, confidence in found.items() if confidence >= share * best(found)}
        for found, share in (
            (localization.utterances, localization.utterance_share),
            (localization.images, localization.image_share),
        )
    ]
    return replace(localization, utterances=kept[0], images=kept[1])


def best(*found: Mapping[int, float]) -> float:
    """The highest confidence; 0 where nothing was found."""
    return max((confidence for part in found for confidence in part.values()), default=0.0)


def aggregate_dialogue(
    dialogue: Dialogue, found: Sequence[tuple[Candidate, Localization]]
) -> DialogueAnswer | None:
    """Merge what was localized in the candidates of one dialogue; None when nothing was.

    The score of a dialogue is the relevance of its best localization.
    """
    kept = [
        (candidate, localization)
        for candidate, localization in found
        if localization.utterances or localization.images
    ]
    if not kept:
        return None
    merged = keep_close(merge_localizations([localization for _, localization in kept]))
    turns = {*merged.utterances, *(dialogue.turn_of_image[i] for i in merged.images)}
    return DialogueAnswer(
        dialogue_id=dialogue.dialogue_id,
        score=merged.relevance,
        spans=merge_spans(turns),
        localization=merged,
        payload=kept[0][0].payload,
    )


def rank_answers(answers: Iterable[DialogueAnswer | None]) -> list[DialogueAnswer]:
    """Best dialogue first; equal scores are ordered by id, so that answers are reproducible.

    A dialogue whose best element falls too far behind that of another one is left out: where one
    turn is likely to be the whole answer, it is in one dialogue.
    """
    found = [answer for answer in answers if answer is not None]
    sure = {id(a): best(a.localization.utterances, a.localization.images) for a in found}
    top = max(sure.values(), default=0.0)
    close = [a for a in found if sure[id(a)] >= a.localization.utterance_share * top]
    return sorted(close, key=lambda answer: (-answer.score, answer.dialogue_id))
