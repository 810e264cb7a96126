"""Merge localizations per dialogue. Source: Sec 5.2.2 (5) and Algorithm 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ffr_core.types import Candidate, Dialogue, DialogueAnswer, Localization


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
    )


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
    merged = merge_localizations([localization for _, localization in kept])
    turns = {*merged.utterances, *(dialogue.turn_of_image[i] for i in merged.images)}
    return DialogueAnswer(
        dialogue_id=dialogue.dialogue_id,
        score=merged.relevance,
        spans=merge_spans(turns),
        localization=merged,
        payload=kept[0][0].payload,
    )


def rank_answers(answers: Iterable[DialogueAnswer | None]) -> list[DialogueAnswer]:
    """Best dialogue first; equal scores are ordered by id, so that answers are reproducible."""
    found = [answer for answer in answers if answer is not None]
    return sorted(found, key=lambda answer: (-answer.score, answer.dialogue_id))
