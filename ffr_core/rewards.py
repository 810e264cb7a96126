"""Rewards of one rollout: format, retrieval F1, order consistency, and their weighted total.

Departures (our choice), each behind a setting: `renormalize_absent` weighs only the modalities that
are present in gold or prediction, and `order="gated"` pays for order only where the F1 reward is
positive and the gold has neighbors. The paper's own settings ship as `PAPER_REWARDS`.
Ids that do not exist in the dialogue count as predicted ids, so they cost F1.

Legend: E elements of a selection, D embedding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ffr_core.errors import ConfigError
from ffr_core.metrics.selection import f1_of_sets
from ffr_core.parsing import parse_selection
from ffr_core.types import Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OrderPreset = Literal["stated", "authors", "gated"]
AccuracyKind = Literal["f1", "exact"]

FALLBACK = 0.5
"""Order reward of a sequence that is too short. Source: Sec 5.1.2, as stated."""

_ANY_ID = 10**7
"""Above every id that an answer can name, so that parsing keeps unknown ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """What the rewards pay for. The defaults are our preset; see `PAPER_REWARDS`."""

    f1_weight: float = 1.0
    order_weight: float = 1.0
    """0 switches the reward off; no embeddings are needed then."""
    format_weight: float = 0.3
    utterance_weight: float = 0.5
    """Share of the utterances in the F1 reward; the images have the rest."""
    gamma: float = 0.95
    """Base of the length penalty; 1 is none."""
    accuracy: AccuracyKind = "f1"
    """`exact`: 1 for exactly the gold ids, else 0 (Table 6's plain accuracy, our reading)."""
    order: OrderPreset = "gated"
    renormalize_absent: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.utterance_weight <= 1 or not 0 < self.gamma <= 1:
            raise ConfigError(
                f"utterance_weight {self.utterance_weight} and gamma {self.gamma}:"
                " expected in [0, 1] and in (0, 1]; correct the [rewards] table"
            )
        if min(self.f1_weight, self.order_weight, self.format_weight) < 0:
            raise ConfigError("a reward weight is negative; use 0 to switch a reward off")


PAPER_REWARDS = RewardSettings(order="authors", renormalize_absent=False)
"""Weights 1.0, 1.0, 0.3, gamma 0.95, halves per modality. Source: Sec 6.1.1, authors' setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The total of one rollout and what it is made of."""

    total: float
    """Weighted sum of the parts."""
    f1: float
    """Retrieval reward before its weight, [0, 1]."""
    order: float
    """Order consistency before its weight, [-1, 1]; 0 where the reward is switched off."""
    format: float
    """0 or 1."""

    @property
    def breakdown(self) -> dict[str, float]:
        """Parts and total by name, for logs."""
        return {"total": self.total, "f1": self.f1, "order": self.order, "format": self.format}


def format_reward(text: str) -> float:
    """1 when the whole completion has the output form and no list names an id twice, else 0.

    Source: Sec 5.1.2, as stated (the authors' script rewards another form).

    Example:
        `<|utt_ids_start|>[0, 3, 4]<|utt_ids_end|>;<|img_ids_start|>[1]<|img_ids_end|>` is 1; the
        same with `[0, 0, 4]`, a leading space or a word behind it is 0.
    """
    if text != text.strip():
        return 0.0
    return float(parse_selection(text, _ANY_ID, _ANY_ID).well_formed)


def read_answer(text: str) -> Selection | None:
    """The ids of a completion, unknown ones too; None when the form is wrong.

    A list with duplicates is read: the form reward punishes it, the ids still count.
    """
    parsed = parse_selection(text, _ANY_ID, _ANY_ID)
    if parsed.well_formed or parsed.selection:
        return parsed.selection
    return None


def f1_reward(
    predicted: Selection | None,
    gold: Selection,
    *,
    utterance_weight: float = 0.5,
    gamma: float = 1.0,
    renormalize_absent: bool = False,
) -> float:
    """Sum over modalities m of w_m F1(P_m, G_m) gamma^| |P_m| - |G_m| |, in [0, 1].

    F1 of two empty sets is 1, an answer that cannot be read (None) earns 0. With
    `renormalize_absent` the weights are those of the modalities that gold or prediction hold, and
    everything empty on both sides is 1.
    Source: Sec 5.1.2, Eq 5; weights and gamma: authors' setting; `renormalize_absent`: our choice.

    Example:
        gold utterances {1, 2}, images {}; predicted {1, 2, 3}, {}: F1 is 0.8, gamma 0.95 leaves
        0.76. Halves per modality: 0.5 x 0.76 + 0.5 x 1 = 0.88; renormalized 0.76.
    """
    if predicted is None:
        return 0.0
    total = weights = 0.0
    for weight, found, wanted in (
        (utterance_weight, predicted.utterance_ids, gold.utterance_ids),
        (1 - utterance_weight, predicted.image_ids, gold.image_ids),
    ):
        if renormalize_absent and not found and not wanted:
            continue
        weights += weight
        total += weight * f1_of_sets(found, wanted) * gamma ** abs(len(found) - len(wanted))
    if not renormalize_absent:
        return total
    return total / weights if weights else float(not predicted and not gold)


def exact_reward(predicted: Selection | None, gold: Selection) -> float:
    """1 for exactly the gold ids of both modalities, else 0. Source: Table 6, our reading."""
    return float(predicted is not None and predicted == gold)


def order_elements(
    selection: Selection,
    utterances: Mapping[int, NDArray[np.float32]],
    images: Mapping[int, NDArray[np.float32]],
    turn_of_image: Sequence[int],
) -> list[NDArray[np.float32]]:
    """Embeddings of a selection in dialogue order: E vectors [D].

    An utterance stands at its turn, an image behind the utterance of its turn; several images of
    one turn are averaged. Ids without an embedding (unknown, or unreadable pictures) are left out.
    Source: Eq 6; averaging: authors' setting.

    Args:
        selection: Ids in the numbering of the dialogue.
        utterances: Turn id -> [D].
        images: Image id -> [D].
        turn_of_image: Turn id of each image id.
    """
    import numpy as np

    by_turn: dict[int, list[NDArray[np.float32]]] = {}
    for image_id, turn_id in enumerate(turn_of_image):
        if image_id in selection.image_ids and image_id in images:
            by_turn.setdefault(turn_id, []).append(images[image_id])
    elements = []
    for turn_id in sorted({*selection.utterance_ids, *by_turn}):
        if turn_id in selection.utterance_ids and turn_id in utterances:
            elements.append(utterances[turn_id])
        if turn_id in by_turn:
            elements.append(np.mean(by_turn[turn_id], axis=0, dtype=np.float32))
    return elements


def order_consistency(elements: Collection[NDArray[np.float32]]) -> float | None:
    """Mean cosine of neighbors, [-1, 1]; None for fewer than two elements. Source: Eq 6.

    Example:
        Vectors [1, 0], [1, 0], [0, 1] have the neighbor cosines 1 and 0: 0.5.
    """
    import numpy as np

    if len(elements) < 2:
        return None
    vectors_ED = np.stack(list(elements)).astype(np.float64)
    vectors_ED /= np.maximum(np.linalg.norm(vectors_ED, axis=1, keepdims=True), 1e-12)
    return float(np.mean(np.sum(vectors_ED[:-1] * vectors_ED[1:], axis=1)))


def num_elements(selection: Selection, turn_of_image: Sequence[int]) -> int:
    """How many elements `order_elements` makes of known ids that all have an embedding."""
    return len(selection.utterance_ids) + len({turn_of_image[i] for i in selection.image_ids})


def order_reward(
    predicted: Selection | None,
    gold: Selection,
    consistency: float | None,
    *,
    preset: OrderPreset,
    f1: float,
    num_gold_elements: int,
) -> float:
    """Order consistency with the fallbacks of a preset; an answer that cannot be read earns 0.

    - `stated`: fewer than two elements, 0.5. Source: Sec 5.1.2, as stated.
    - `authors`: both sides empty 1, one side empty 0, fewer than two elements 0.5. Source:
      authors' setting.
    - `gated`: 0 unless `f1` > 0; 0.5 when the gold has fewer than two elements; else as stated.
      Our choice: the paper's reward pays for an extra neighbor and for near-duplicates.

    Args:
        predicted: Ids of the completion.
        gold: Ids of the gold.
        consistency: Of the predicted elements, `order_consistency`.
        preset: Which fallbacks.
        f1: The F1 reward of the same completion.
        num_gold_elements: `num_elements` of the gold.
    """
    if predicted is None:
        return 0.0
    if preset == "authors" and not (predicted and gold):
        return float(not predicted and not gold)
    if preset == "gated":
        if f1 <= 0:
            return 0.0
        if num_gold_elements < 2:
            return FALLBACK
    return FALLBACK if consistency is None else consistency


def score(
    text: str,
    gold: Selection,
    settings: RewardSettings,
    *,
    utterances: Mapping[int, NDArray[np.float32]] | None = None,
    images: Mapping[int, NDArray[np.float32]] | None = None,
    turn_of_image: Sequence[int] = (),
) -> Reward:
    """All rewards of one completion. Total = weights x (F1, order, format).

    Source: Sec 5.1.2; weights 1.0, 1.0, 0.3: authors' setting.

    Args:
        text: The completion, without the end-of-turn token.
        gold: Gold ids in the numbering of the dialogue that was shown.
        settings: Weights and presets.
        utterances: Turn id -> embedding [D]; not read when the order reward is off.
        images: Image id -> embedding [D].
        turn_of_image: Turn id of each image id.
    """
    predicted = read_answer(text)
    accuracy = (
        exact_reward(predicted, gold)
        if settings.accuracy == "exact"
        else f1_reward(
            predicted,
            gold,
            utterance_weight=settings.utterance_weight,
            gamma=settings.gamma,
            renormalize_absent=settings.renormalize_absent,
        )
    )
    order = 0.0
    if settings.order_weight and predicted is not None:
        elements = order_elements(predicted, utterances or {}, images or {}, turn_of_image)
        order = order_reward(
            predicted,
            gold,
            order_consistency(elements),
            preset=settings.order,
            f1=accuracy,
            num_gold_elements=num_elements(gold, turn_of_image),
        )
    form = format_reward(text)
    total = (
        settings.f1_weight * accuracy
        + settings.order_weight * order
        + settings.format_weight * form
    )
    return Reward(total=total, f1=accuracy, order=order, format=form)
