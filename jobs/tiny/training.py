"""One training step over packed sequences: next tokens and matching, on any Qwen2-VL model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.tiny.sequences import Bag, Batch
from jobs.training.attention_scores import attention_scores

POSITIVE_WEIGHT = 3.0
"""Of an element that matches, in the matching loss."""
BETWEEN_WEIGHT = 0.1
"""Of a token that ends no element."""


def matching_loss(model: Any, layer: int, hidden_BLD: Tensor, batch: Batch) -> Tensor:
    """Binary cross entropy of attention scores from prompts and answers to elements.

    The first head of a layer is to score matching turns and pictures above 0, the others and (a
    quarter of them, weighing less) the tokens in between below. Every prompt or answer token counts
    the same, so a few pictures weigh as much as many turns.
    """
    rows, points, keys, gold, weights = [], [], [], [], []
    for match in batch.matches:
        known = set(match.ends)
        between = [i for i in range(match.position % 4, max(match.ends), 4) if i not in known]
        count = len(match.ends) + len(between)
        rows += [match.row] * count
        points += [match.position] * count
        keys += match.ends + between
        gold += match.gold + [False] * len(between)
        of_match = [POSITIVE_WEIGHT if good else 1.0 for good in match.gold]
        of_match += [BETWEEN_WEIGHT] * len(between)
        weights += [weight / sum(of_match) for weight in of_match]
    logits_E = attention_scores(
        model.model.language_model,
        layer,
        hidden_BLD,
        batch.inputs["position_ids"],
        *(torch.tensor(part) for part in (rows, points, keys)),
    )
    weight_E = torch.tensor(weights)
    loss_E = functional.binary_cross_entropy_with_logits(
        logits_E, torch.tensor(gold, dtype=torch.float32), reduction="none"
    )
    return (loss_E * weight_E).sum() / weight_E.sum()


class BagHead(nn.Module):
    """Reads the words of a turn, a picture or a probe from the hidden state at its end.

    It makes the first layers gather what an element says where later layers can match it.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_BLD: Tensor, bags: Sequence[Bag], embedding_VD: Tensor) -> Tensor:
        """Mean negative log-likelihood of a word drawn from each bag."""
        rows = torch.tensor([bag.row for bag in bags])
        positions = torch.tensor([bag.position for bag in bags])
        logits = self.project(self.norm(hidden_BLD[rows, positions])) @ embedding_VD.T
        logprobs = logits.float().log_softmax(-1)
        of_bag = [i for i, bag in enumerate(bags) for _ in bag.token_ids]
        words = [token for bag in bags for token in bag.token_ids]
        shares = torch.tensor([1 / len(bag.token_ids) for bag in bags for _ in bag.token_ids])
        return -(logprobs[of_bag, words] * shares).sum() / len(bags)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoss:
    """A step's loss with its parts."""

    total: Tensor
    tokens: float
    """Mean loss of the answer tokens."""
    prefix: float
    """Mean loss of the dialogue's own next tokens."""
    matching: float
    """Mean binary cross entropy of (prompt, element) pairs, positives weighted."""
    bags: float
    """Mean loss of the words that element ends should know."""


def language_states(model: Any, batch: Batch, all_layers: bool = False) -> Any:
    """Run the language model on a batch, stored features in the place of the pictures."""
    inputs = dict(batch.inputs)
    embeds_BLD = model.get_input_embeddings()(inputs.pop("input_ids"))
    if len(batch.features_KD):
        place = batch.image_BL[..., None].expand_as(embeds_BLD)
        embeds_BLD = embeds_BLD.masked_scatter(place, batch.features_KD.to(embeds_BLD.dtype))
    return model.model.language_model(
        inputs_embeds=embeds_BLD, **inputs, output_hidden_states=all_layers, use_cache=False
    )


def step_loss(
    model: Any,
    batch: Batch,
    *,
    layer: int | None,
    match_weight: float = 1.0,
    bag_head: BagHead | None = None,
) -> StepLoss:
    """Forward one batch.

    Args:
        model: `Qwen2VLForConditionalGeneration`; its vision tower is not used.
        batch: Packed sequences.
        layer: Layer (from 0) whose attention finds what matches; None leaves that loss out.
        match_weight: Weight of the matching loss.
        bag_head: Word head, reads what that layer's neighbor below is given; None leaves it out.
    """
    out = language_states(model, batch, all_layers=layer is not None)
    chosen = batch.labels_BL >= 0
    kept = chosen & (batch.weights_BL > 0)
    logits = model.lm_head(out.last_hidden_state[kept])
    each = functional.cross_entropy(logits, batch.labels_BL[kept], reduction="none")
    weights = batch.weights_BL[kept]
    total = (each * weights).sum() / weights.sum().clamp_min(1e-6)
    matching = 0.0
    if layer is not None and batch.matches:
        loss = matching_loss(model, layer, out.hidden_states[layer], batch)
        total = total + match_weight * loss
        matching = float(loss.detach())
    bag_loss = 0.0
    if layer is not None and bag_head is not None:
        loss = bag_head(out.hidden_states[layer - 1], batch.bags, model.lm_head.weight)
        total = total + 0.3 * loss
        bag_loss = float(loss.detach())
    with torch.no_grad():
        answer = weights >= 1
        tokens = float(each[answer].mean()) if answer.any() else 0.0
        prefix = float(each[~answer].mean()) if (~answer).any() else 0.0
    return StepLoss(total=total, tokens=tokens, prefix=prefix, matching=matching, bags=bag_loss)


def learning_rate(progress: float, peak: float, warmup: float = 0.02, floor: float = 0.05) -> float:
    """Linear warm-up, then cosine down to `floor * peak`; `progress` runs from 0 to 1."""
    if progress < warmup:
        return peak * (progress + 1e-3) / warmup
    done = (progress - warmup) / (1 - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
