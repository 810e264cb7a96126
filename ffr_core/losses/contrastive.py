"""The two contrastive losses of the fragment embedding model (FEM).

    Eq 8   L_inter = - 1/Q sum_q log ( sum_{n in P(q)} exp(s_qn) / sum_n exp(s_qn) )
    Eq 9   L_intra = - 1/A sum_a log ( exp(s_aa) / sum_{b in the fragment of a} exp(s_ab) )
    Eq 10  L = L_inter + lambda L_intra,      s = cosine / contrastive_temperature

Source: Sec 5.3.2, Eq 8-10, as stated. Our reading, because the paper's symbols are lost: P(q) holds
all windows of the query's fragment in the batch (one window is Eq 8 itself); candidates beyond the
batch's own fragments are allowed as hard negatives; the mean of Eq 9 runs over the questions whose
fragment holds at least two answers, because a lone pair has a loss of 0 by construction.

Legend: Q queries, N candidates (windows of fragments), A question-answer pairs, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ffr_core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContrastiveLoss:
    """One InfoNCE term with what it says about the batch."""

    loss: Tensor
    """Scalar, in nats, at least 0."""
    accuracy: Tensor
    """Scalar: share of the counted rows whose best candidate is a right one."""
    num_rows: int
    """Rows that the mean runs over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FemLoss:
    """Eq 10 and its parts."""

    loss: Tensor
    inter: ContrastiveLoss
    intra: ContrastiveLoss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FemEmbeddings:
    """What one step embeds; rows need not have unit norm."""

    queries_QD: Tensor
    candidates_ND: Tensor
    questions_AD: Tensor
    answers_AD: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FemTargets:
    """Who belongs to whom in one step."""

    positive_QN: Tensor
    """Bool: candidate n is a window of the fragment that query q asks for."""
    ignored_QN: Tensor
    """Bool: candidate n is neither right nor wrong for query q (a known false negative)."""
    fragments_A: Tensor
    """Int: fragment of each question-answer pair."""


def inter_loss(
    queries_QD: Tensor,
    candidates_ND: Tensor,
    positive_QN: Tensor,
    *,
    contrastive_temperature: float,
    ignored_QN: Tensor | None = None,
) -> ContrastiveLoss:
    """InfoNCE from each query to the windows of its fragment. Source: Eq 8, as stated.

    Example:
        Four queries, four candidates, all embeddings zero: every cosine is 0, the loss log 4.

    Args:
        queries_QD: Any norm.
        candidates_ND: Any norm; the batch's fragments and hard negatives.
        positive_QN: Bool, at least one true a row.
        contrastive_temperature: Above 0.
        ignored_QN: Bool; such candidates are left out of that query's denominator.

    Raises:
        InputError: A temperature that is not above 0.
    """
    logits_QN = _logits(queries_QD, candidates_ND, contrastive_temperature)
    if ignored_QN is not None:
        logits_QN = logits_QN.masked_fill(ignored_QN & ~positive_QN, float("-inf"))
    return _info_nce(logits_QN, positive_QN)


def frozen_inter_loss(
    queries_QD: Tensor,
    units_UD: Tensor,
    fragments_U: Tensor,
    gold_QU: Tensor,
    *,
    contrastive_temperature: float,
) -> ContrastiveLoss:
    """Eq 8 against every fragment of a corpus whose vectors stay as they are.

    A fragment counts with its best unit (turn), as recall counts it; the query's own fragment with
    its best *gold* unit. Nothing of the corpus needs a gradient, so all of it can be a negative.
    Our option, for adapters of the query side.

    Example:
        Units (1, 0), (0, 1) of fragment 0 and (0, 1) of fragment 1, query (1, 0), gold unit 0,
        temperature 1: scores 1 and 0, the loss log(1 + 1/e).

    Args:
        queries_QD: Any norm.
        units_UD: Any norm.
        fragments_U: Int from 0; fragment of each unit, every fragment has one.
        gold_QU: Bool; at least one true a row, all of one fragment.
        contrastive_temperature: Above 0.
    """
    logits_QU = _logits(queries_QD, units_UD, contrastive_temperature)
    own_Q = fragments_U[gold_QU.int().argmax(dim=1)]
    kept_QU = gold_QU | (fragments_U[None, :] != own_Q[:, None])
    logits_QU = logits_QU.masked_fill(~kept_QU, float("-inf"))
    num_fragments = int(fragments_U.max()) + 1
    logits_QF = logits_QU.new_full((len(logits_QU), num_fragments), float("-inf"))
    places_QU = fragments_U.expand_as(logits_QU)
    logits_QF = logits_QF.scatter_reduce(1, places_QU, logits_QU, "amax")
    return _info_nce(logits_QF, functional.one_hot(own_Q, num_fragments).bool())


def intra_loss(
    questions_AD: Tensor,
    answers_AD: Tensor,
    fragments_A: Tensor,
    *,
    contrastive_temperature: float,
) -> ContrastiveLoss:
    """InfoNCE from each question to its answer over the answers of its own fragment only.

    The block mask `fragments_A[:, None] == fragments_A[None, :]` makes one product of all blocks.
    Source: Eq 9, as stated; questions without a rival answer are not counted, our reading.

    Example:
        Fragments (0, 0, 0, 1), all embeddings zero: the lone pair is not counted, the loss log 3.
    """
    block_AA = fragments_A[:, None] == fragments_A[None, :]
    counted_A = block_AA.sum(dim=1) > 1
    logits_AA = _logits(questions_AD, answers_AD, contrastive_temperature)
    logits_AA = logits_AA.masked_fill(~block_AA, float("-inf"))
    right_AA = torch.eye(len(fragments_A), dtype=torch.bool, device=logits_AA.device)
    return _info_nce(logits_AA[counted_A], right_AA[counted_A])


def fem_loss(
    embeddings: FemEmbeddings,
    targets: FemTargets,
    *,
    contrastive_temperature: float,
    intra_weight: float,
    dims: Sequence[int] = (),
) -> FemLoss:
    """L_inter + lambda L_intra. Source: Eq 10, as stated; lambda (`intra_weight`) is lost there.

    Args:
        embeddings: Of one step, over all workers.
        targets: Of the same step.
        contrastive_temperature: Of both terms.
        intra_weight: lambda; 0 is the ablation "inter only".
        dims: Matryoshka: leading dimensions to train beside all D; each gives the same loss on the
            cut vectors, and the mean over D and `dims` counts. Our option.

    Raises:
        InputError: A dimension outside 1..D.
    """
    full = embeddings.queries_QD.shape[1]
    if any(not 1 <= dim <= full for dim in dims):
        raise InputError(f"Matryoshka dimensions {list(dims)}; expected values from 1 to {full}")
    cuts = [full, *(dim for dim in dims if dim != full)]
    inters, intras = [], []
    for dim in cuts:
        inters.append(
            inter_loss(
                embeddings.queries_QD[:, :dim],
                embeddings.candidates_ND[:, :dim],
                targets.positive_QN,
                contrastive_temperature=contrastive_temperature,
                ignored_QN=targets.ignored_QN,
            )
        )
        intras.append(
            intra_loss(
                embeddings.questions_AD[:, :dim],
                embeddings.answers_AD[:, :dim],
                targets.fragments_A,
                contrastive_temperature=contrastive_temperature,
            )
        )
    inter, intra = _mean(inters), _mean(intras)
    return FemLoss(loss=inter.loss + intra_weight * intra.loss, inter=inter, intra=intra)


def _logits(left_RD: Tensor, right_CD: Tensor, contrastive_temperature: float) -> Tensor:
    """Cosines over the temperature, in at least float32; a zero vector has cosine 0."""
    if contrastive_temperature <= 0:
        raise InputError(
            f"contrastive_temperature is {contrastive_temperature}; expected a value above 0"
        )
    wide = torch.promote_types(left_RD.dtype, torch.float32)
    left_RD = functional.normalize(left_RD.to(wide), dim=1)
    right_CD = functional.normalize(right_CD.to(wide), dim=1)
    return left_RD @ right_CD.T / contrastive_temperature


def _info_nce(logits_RC: Tensor, right_RC: Tensor) -> ContrastiveLoss:
    """Mean over the rows of -log of the softmax mass on the right columns; 0 without rows."""
    if not len(logits_RC):
        zero = logits_RC.sum() * 0.0
        return ContrastiveLoss(loss=zero, accuracy=zero.detach(), num_rows=0)
    right_R = logits_RC.masked_fill(~right_RC, float("-inf")).logsumexp(dim=1)
    loss = (logits_RC.logsumexp(dim=1) - right_R).mean()
    best_R1 = logits_RC.detach().argmax(dim=1, keepdim=True)
    accuracy = right_RC.gather(1, best_R1).float().mean()
    return ContrastiveLoss(loss=loss, accuracy=accuracy, num_rows=len(logits_RC))


def _mean(terms: Sequence[ContrastiveLoss]) -> ContrastiveLoss:
    """Mean loss over the cuts; accuracy and rows are those of the full width."""
    loss = torch.stack([term.loss for term in terms]).mean()
    return ContrastiveLoss(loss=loss, accuracy=terms[0].accuracy, num_rows=terms[0].num_rows)
