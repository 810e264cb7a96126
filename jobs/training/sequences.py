"""Training sequences of the Qwen2-VL family: an answer behind its prompt, or several behind one.

Queries about one dialogue share its tokens: the common head of their prompts (*prefix*) stands once
and every query with its answer is a *branch* behind it. A branch sees the prefix and itself; its
positions go on where the prefix ends. So the loss is that of separate sequences, and the dialogue
is computed once. Legend: B sequences, L tokens, N predicted tokens, E pairs of a query and an
element (a turn or an image), K image tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ffr_core.errors import ConfigError
from jobs.training.branch_attention import BranchMask, make_branch_mask

if TYPE_CHECKING:
    from ffr_core.engine.inputs import EncodedPrompt

PADDING = -1
"""Branch number of padding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Tokens that the auxiliary loss compares; see `PairFinder.find`."""

    query_E: Tensor
    """Position of the query's last token, of one inside an answer's list, or of a turn's last."""
    element_E: Tensor
    """Position of the last token of a turn or image before it."""
    gold_E: Tensor
    """1.0 where the element is selected or in the same cluster, else 0.0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSequence:
    """One row of a batch."""

    input_ids_L: Tensor
    positions_3L: Tensor
    """M-RoPE positions."""
    branch_L: Tensor
    """0 for the prefix, k for branch k; all 0 in a sequence with one answer."""
    image_L: Tensor
    """True at image placeholders."""
    predict_at_N: Tensor
    """Positions whose next token is trained."""
    targets_N: Tensor
    """Those next tokens."""
    pixel_values: Tensor | None = None
    image_grid_thw: Tensor | None = None
    features_KD: Tensor | None = None
    """Output of the frozen vision tower, in the place of the pixels."""
    pairs: Pairs | None = None

    def __len__(self) -> int:
        """L."""
        return len(self.input_ids_L)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingBatch:
    """Padded rows."""

    input_ids_BL: Tensor
    positions_3BL: Tensor
    mask: Tensor | BranchMask | None
    """None: causal without padding; [B, L]: causal with padding; else with branches."""
    image_BL: Tensor
    row_N: Tensor
    predict_at_N: Tensor
    targets_N: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    features_KD: Tensor | None
    row_E: Tensor | None
    pairs: Pairs | None

    def to(self, device: torch.device) -> TrainingBatch:
        """Move everything."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name in self.__slots__
            if isinstance(value := getattr(self, name), Tensor | BranchMask)
        }
        if self.pairs is not None:
            moved["pairs"] = Pairs(
                query_E=self.pairs.query_E.to(device),
                element_E=self.pairs.element_E.to(device),
                gold_E=self.pairs.gold_E.to(device),
            )
        return replace(self, **moved)


def make_sequence(
    prompts: SequenceOf[EncodedPrompt],
    positions: SequenceOf[Tensor],
    pairs: SequenceOf[Pairs] | None = None,
) -> TrainingSequence:
    """Build a sequence from prompts with answers; several must begin with the same dialogue.

    Args:
        prompts: Encoded with their answers.
        positions: M-RoPE positions [3, L] of each prompt on its own.
        pairs: Of each prompt, in its own positions.

    Raises:
        ConfigError: Several prompts, and a picture lies behind their common head.
    """
    prefix = common_prefix(prompts) if len(prompts) > 1 else 0
    ids: list[int] = list(prompts[0].input_ids[:prefix])
    branch = [0] * prefix
    image = list(prompts[0].mm_token_type_ids[:prefix])
    places = [positions[0][:, :prefix]]
    predict, targets, moved = [], [], []
    for number, (prompt, place) in enumerate(zip(prompts, positions, strict=True), start=1):
        offset = len(ids) - prefix
        if len(prompts) > 1 and any(prompt.mm_token_type_ids[prefix:]):
            raise ConfigError(
                "queries can share a dialogue only when they come after it; use prompts with the"
                " query last, or queries_per_sequence = 1"
            )
        size = len(prompt.input_ids)
        ids += prompt.input_ids[prefix:]
        image += prompt.mm_token_type_ids[prefix:]
        branch += [number if len(prompts) > 1 else 0] * (size - prefix)
        places.append(place[:, prefix:])
        answer = range(prompt.num_prompt_tokens, size)
        predict += [i - 1 + offset for i in answer]
        targets += [prompt.input_ids[i] for i in answer]
        if pairs is not None:
            moved.append(_shift(pairs[number - 1], prefix, offset))
    return TrainingSequence(
        input_ids_L=torch.tensor(ids),
        positions_3L=torch.cat(places, dim=1),
        branch_L=torch.tensor(branch, dtype=torch.int16),
        image_L=torch.tensor(image, dtype=torch.bool),
        predict_at_N=torch.tensor(predict, dtype=torch.long),
        targets_N=torch.tensor(targets, dtype=torch.long),
        pixel_values=prompts[0].pixel_values,
        image_grid_thw=prompts[0].image_grid_thw,
        pairs=_join(moved) if pairs is not None else None,
    )


def common_prefix(prompts: SequenceOf[EncodedPrompt]) -> int:
    """Number of tokens that all prompts begin with, at most all but the last of each prompt.

    The last prompt token predicts the answer's first token, so every branch needs its own.
    """
    limit = min(prompt.num_prompt_tokens for prompt in prompts) - 1
    first = prompts[0].input_ids
    for i in range(limit):
        if any(prompt.input_ids[i] != first[i] for prompt in prompts[1:]):
            return i
    return limit


def collate_sequences(rows: SequenceOf[TrainingSequence], pad_token_id: int) -> TrainingBatch:
    """Pad sequences on the right to one batch."""
    length = max(len(row) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_token_id, dtype=torch.long)
    positions = torch.zeros((3, *shape), dtype=torch.long)
    branch = torch.full(shape, PADDING, dtype=torch.int16)
    image = torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        size = len(row)
        ids[i, :size] = row.input_ids_L
        positions[:, i, :size] = row.positions_3L
        branch[i, :size] = row.branch_L
        image[i, :size] = row.image_L
    paired = [(i, row.pairs) for i, row in enumerate(rows) if row.pairs is not None]
    return TrainingBatch(
        input_ids_BL=ids,
        positions_3BL=positions,
        mask=_mask(branch),
        image_BL=image,
        row_N=_rows(row.predict_at_N for row in rows),
        predict_at_N=torch.cat([row.predict_at_N for row in rows]),
        targets_N=torch.cat([row.targets_N for row in rows]),
        pixel_values=_cat([row.pixel_values for row in rows]),
        image_grid_thw=_cat([row.image_grid_thw for row in rows]),
        features_KD=_cat([row.features_KD for row in rows]),
        row_E=torch.cat([torch.full_like(p.query_E, i) for i, p in paired]) if paired else None,
        pairs=_join([p for _, p in paired]) if paired else None,
    )


def _mask(branch_BL: Tensor) -> Tensor | BranchMask | None:
    if bool((branch_BL > 0).any()):
        return make_branch_mask(branch_BL)
    padding_BL = branch_BL == PADDING
    return (~padding_BL).long() if bool(padding_BL.any()) else None


def _rows(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.full_like(part, i) for i, part in enumerate(parts)])


def _cat(parts: SequenceOf[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _shift(pairs: Pairs, prefix: int, offset: int) -> Pairs:
    """Positions of a prompt on its own -> positions in the packed sequence."""

    def moved(at_E: Tensor) -> Tensor:
        return torch.where(at_E < prefix, at_E, at_E + offset)

    return Pairs(
        query_E=moved(pairs.query_E), element_E=moved(pairs.element_E), gold_E=pairs.gold_E
    )


def _join(parts: SequenceOf[Pairs]) -> Pairs:
    return Pairs(
        query_E=torch.cat([p.query_E for p in parts]),
        element_E=torch.cat([p.element_E for p in parts]),
        gold_E=torch.cat([p.gold_E for p in parts]),
    )
