"""Loss and gradients of one step: embed this worker's rows, join, Eq 10, backpropagate.

Every worker takes the loss of the whole step and its gradients hold the share of its own rows, so
gradients are added over the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.fem.backbones import Backbone, Row
from jobs.fem.config import FemConfig
from jobs.fem.steps import Source, StepShape, draw_frozen_step, plan_step

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoss:
    """What a step is logged with; the gradients lie in the parameters."""

    values: dict[str, float]
    rows: int
    """Rows that were embedded, over all workers."""


def step_loss(
    backbone: Backbone, sources: Sequence[Source], shape: StepShape, config: FemConfig, step: int
) -> StepLoss:
    """Both sides trained. Source: Eq 10, as stated."""
    import torch

    from ffr_core.losses.contrastive import FemEmbeddings, FemLoss, FemTargets, fem_loss

    plan = plan_step(sources, shape, config.seed, step)
    rows: list[Row] = [*plan.queries, *plan.candidates, *plan.questions, *plan.answers]
    sizes = [len(plan.queries), len(plan.candidates), len(plan.questions), len(plan.answers)]
    results: list[FemLoss] = []

    def loss_of(table_ND: Tensor) -> Tensor:
        queries, candidates, questions, answers = table_ND.split(sizes)
        device = table_ND.device
        result = fem_loss(
            FemEmbeddings(
                queries_QD=queries[torch.from_numpy(plan.query_rows_R).to(device)],
                candidates_ND=candidates,
                questions_AD=questions,
                answers_AD=answers,
            ),
            FemTargets(
                positive_QN=torch.from_numpy(plan.positive_RN).to(device),
                ignored_QN=torch.from_numpy(plan.ignored_RN).to(device),
                fragments_A=torch.from_numpy(plan.fragments_A).to(device),
            ),
            contrastive_temperature=config.loss.contrastive_temperature,
            intra_weight=config.loss.intra_weight,
            dims=config.loss.dims,
        )
        results.append(result)
        return result.loss

    backpropagate(backbone, rows, loss_of, config)
    found = results[-1]
    return StepLoss(
        values={
            "train/loss": found.loss.item(),
            "train/inter": found.inter.loss.item(),
            "train/inter_accuracy": found.inter.accuracy.item(),
            "train/intra": found.intra.loss.item(),
            "train/intra_accuracy": found.intra.accuracy.item(),
        },
        rows=len(rows),
    )


def frozen_loss(
    backbone: Backbone,
    sources: Sequence[Source],
    frozen: Sequence[NDArray[np.float32]],
    anchor_texts: Sequence[str],
    shape: StepShape,
    config: FemConfig,
    step: int,
) -> StepLoss:
    """Only queries trained, against all fragments of one set; our option."""
    import torch

    from ffr_core.losses.contrastive import ContrastiveLoss, frozen_inter_loss

    plan = draw_frozen_step(sources, anchor_texts, shape, config.seed, step)
    units_UD = torch.from_numpy(frozen[plan.source])
    plain_QD = torch.from_numpy(backbone.plain(plan.queries))
    plain_TD = torch.from_numpy(backbone.plain(plan.anchor_texts))
    temperature = config.loss.contrastive_temperature
    rows: list[Row] = [*plan.queries, *plan.questions, *plan.anchor_texts]
    sizes = [len(plan.queries), len(plan.questions), len(plan.anchor_texts)]
    parts: list[tuple[ContrastiveLoss, Tensor, Tensor, Tensor]] = []

    def loss_of(table_ND: Tensor) -> Tensor:
        queries, questions, texts = table_ND.split(sizes)
        inter = frozen_inter_loss(
            queries,
            units_UD.to(queries.device),
            torch.from_numpy(plan.fragments_U).to(queries.device),
            torch.from_numpy(plan.gold_QU).to(queries.device),
            contrastive_temperature=temperature,
        )
        # Eq 9 with every turn of the fragment as a possible answer.
        intra = queries.sum() * 0.0
        for question_D, (turns, answer) in zip(questions, plan.answers, strict=True):
            logits_T = units_UD[turns].to(queries.device) @ question_D / temperature
            intra = intra + logits_T.logsumexp(0) - logits_T[answer]
        intra = intra / max(1, len(plan.answers))
        anchor = mean_distance(queries, plain_QD)
        texts_anchor = mean_distance(texts, plain_TD)
        parts.append((inter, intra, anchor, texts_anchor))
        weights = config.loss
        return (
            inter.loss
            + weights.intra_weight * intra
            + weights.anchor_weight * anchor
            + weights.anchor_texts_weight * texts_anchor
        )

    loss = backpropagate(backbone, rows, loss_of, config)
    inter, intra, anchor, texts_anchor = parts[-1]
    return StepLoss(
        values={
            "train/loss": loss.item(),
            "train/inter": inter.loss.item(),
            "train/inter_accuracy": inter.accuracy.item(),
            "train/intra": intra.item(),
            "train/anchor": anchor.item(),
            "train/texts_anchor": texts_anchor.item(),
        },
        rows=len(rows),
    )


def mean_distance(vectors_ND: Tensor, plain_ND: Tensor) -> Tensor:
    """Mean of 1 - cosine between unit vectors; 0 where there are none."""
    if not len(plain_ND):
        return vectors_ND.sum()
    return 1 - (vectors_ND * plain_ND.to(vectors_ND.device)).sum(dim=1).mean()


def backpropagate(
    backbone: Backbone, rows: Sequence[Row], loss_of: object, config: FemConfig
) -> Tensor:
    """Embed this worker's share of the rows and add its gradients; returns the whole step's loss.

    Shares are dealt out by length, longest first, so that all workers end together.
    """
    import torch

    from ffr_core.losses.gradient_cache import cached_gradients, gather_rows
    from jobs.training.distributed import rank_and_world

    assert callable(loss_of)
    rank, world = rank_and_world()
    lengths = backbone.lengths(rows)
    order = sorted(range(len(rows)), key=lambda i: (-lengths[i], i))
    share = order[rank::world]
    if config.cached_gradients:
        parts, used = [list[int]()], 0
        for position in share:
            if parts[-1] and used + lengths[position] > config.tokens_per_pass:
                parts.append([])
                used = 0
            parts[-1].append(position)
            used += lengths[position]
        return cached_gradients(
            lambda part: backbone.embed([rows[i] for i in part]),
            [part for part in parts if part],
            len(rows),
            loss_of,
        )
    own_nD = backbone.embed([rows[i] for i in share])
    # Rows of other workers enter as constants: each worker's graph holds its own rows only.
    others_ND = gather_rows(own_nD.detach(), share, len(rows))
    index = torch.tensor(share, dtype=torch.long, device=own_nD.device)
    table_ND = others_ND.index_copy(0, index, own_nD)
    loss: Tensor = loss_of(table_ND)
    if share:  # a worker without rows has no graph
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()
