"""Eq. 8-10 against closed forms; cached and gathered gradients against plain ones."""

import math

import pytest
import torch
from torch import multiprocessing, nn

from ffr_core.errors import InputError
from ffr_core.losses.contrastive import (
    FemEmbeddings,
    FemTargets,
    fem_loss,
    frozen_inter_loss,
    inter_loss,
    intra_loss,
)
from ffr_core.losses.gradient_cache import cached_gradients, gather_rows

TAU = 0.1


def own(number):
    return torch.eye(number, dtype=torch.bool)


def test_zero_embeddings_give_log_b():
    result = inter_loss(torch.zeros(4, 8), torch.zeros(4, 8), own(4), contrastive_temperature=TAU)
    assert result.loss.item() == pytest.approx(math.log(4))
    assert result.num_rows == 4


def test_inter_loss_of_orthogonal_pairs_is_the_closed_form():
    # Cosine 1 with the own fragment, 0 with the two others; norms do not matter.
    queries = torch.eye(3) * 7
    result = inter_loss(queries, torch.eye(3), own(3), contrastive_temperature=0.5)
    assert result.loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    assert result.accuracy.item() == 1.0


def test_inter_loss_of_swapped_pairs_counts_as_wrong():
    result = inter_loss(torch.eye(2), torch.eye(2).flip(0), own(2), contrastive_temperature=1.0)
    assert result.loss.item() == pytest.approx(math.log(1 + math.e))
    assert result.accuracy.item() == 0.0


def test_two_windows_of_a_fragment_share_the_mass():
    # Window cosines (1, 0) for the own fragment, (0, 0) for the other: mass (e + 1) / (e + 3).
    positive = torch.tensor([[True, True, False, False]])
    candidates = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    result = inter_loss(torch.tensor([[1.0, 0]]), candidates, positive, contrastive_temperature=1.0)
    assert result.loss.item() == pytest.approx(math.log((math.e + 3) / (math.e + 1)))


def test_ignored_candidates_leave_the_denominator_but_never_the_right_one():
    ignored = torch.tensor([[True, True, False]])
    result = inter_loss(
        torch.zeros(1, 2),
        torch.zeros(3, 2),
        torch.tensor([[True, False, False]]),
        contrastive_temperature=TAU,
        ignored_QN=ignored,
    )
    assert result.loss.item() == pytest.approx(math.log(2))


def test_frozen_units_count_with_their_best_and_the_own_fragment_with_its_best_gold_unit():
    units = torch.tensor([[0.0, 1], [1, 0], [0, 1], [0, 1]])
    fragments = torch.tensor([0, 0, 1, 1])
    query = torch.tensor([[1.0, 0]], requires_grad=True)
    for gold, expected in ((1, math.log(1 + math.exp(-1))), (0, math.log(2))):
        gold_units = torch.arange(4)[None] == gold
        result = frozen_inter_loss(query, units, fragments, gold_units, contrastive_temperature=1.0)
        assert result.loss.item() == pytest.approx(expected)
    result.loss.backward()
    assert torch.isfinite(query.grad).all()


def test_frozen_loss_equals_inter_loss_when_every_fragment_is_one_unit():
    torch.manual_seed(0)
    queries, units = torch.randn(4, 6), torch.randn(5, 6)
    gold = torch.eye(5, dtype=torch.bool)[:4]
    frozen = frozen_inter_loss(queries, units, torch.arange(5), gold, contrastive_temperature=TAU)
    plain = inter_loss(queries, units, gold, contrastive_temperature=TAU)
    assert frozen.loss.item() == pytest.approx(plain.loss.item(), rel=1e-6)


def test_intra_loss_sees_only_its_own_fragment():
    fragments = torch.tensor([0, 0, 0, 1])
    zero = intra_loss(torch.zeros(4, 5), torch.zeros(4, 5), fragments, contrastive_temperature=TAU)
    assert zero.loss.item() == pytest.approx(math.log(3))
    assert zero.num_rows == 3


def test_intra_loss_equals_a_loop_over_fragments():
    torch.manual_seed(0)
    questions, answers = torch.randn(7, 6), torch.randn(7, 6)
    fragments = torch.tensor([2, 0, 2, 0, 2, 5, 0])
    losses = []
    for name in (0, 2):
        rows = (fragments == name).nonzero()[:, 0]
        cosines = nn.functional.cosine_similarity(questions[rows, None], answers[None, rows], -1)
        losses.append(
            nn.functional.cross_entropy(cosines / TAU, torch.arange(len(rows)), reduction="none")
        )
    result = intra_loss(questions, answers, fragments, contrastive_temperature=TAU)
    assert result.loss.item() == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)


def step(seed=0, dim=8):
    """Six queries, eight candidates, four pairs; rows [0:6], [6:14], [14:18], [18:22]."""
    generator = torch.Generator().manual_seed(seed)
    positive = torch.zeros(6, 8, dtype=torch.bool)
    positive[torch.arange(6), torch.arange(6)] = True
    ignored = torch.zeros(6, 8, dtype=torch.bool)
    ignored[0, 7] = True
    targets = FemTargets(
        positive_QN=positive, ignored_QN=ignored, fragments_A=torch.tensor([0, 0, 1, 1])
    )
    return torch.randn(22, dim, generator=generator), targets


def embeddings_of(table):
    return FemEmbeddings(
        queries_QD=table[:6],
        candidates_ND=table[6:14],
        questions_AD=table[14:18],
        answers_AD=table[18:22],
    )


def loss_of(table, **options):
    values = {"contrastive_temperature": TAU, "intra_weight": 0.5, **options}
    return fem_loss(embeddings_of(table), step()[1], **values)


def test_the_sum_weighs_the_intra_loss():
    table, _ = step()
    full, inter_only = loss_of(table), loss_of(table, intra_weight=0.0)
    assert full.loss.item() == pytest.approx(
        inter_only.loss.item() + 0.5 * full.intra.loss.item(), rel=1e-6
    )
    assert inter_only.loss.item() == inter_only.inter.loss.item()


def test_matryoshka_is_the_mean_over_cut_vectors():
    table, _ = step()
    cut = torch.cat([table[:, :4], torch.zeros(22, 4)], dim=1)
    mean = (loss_of(table).loss + loss_of(cut).loss) / 2
    assert loss_of(table, dims=(4, 8)).loss.item() == pytest.approx(mean.item(), rel=1e-6)


def test_wrong_options_are_refused():
    table, _ = step()
    with pytest.raises(InputError, match="from 1 to 8"):
        loss_of(table, dims=(9,))
    with pytest.raises(InputError, match="above 0"):
        loss_of(table, contrastive_temperature=0.0)


def test_without_pairs_the_intra_loss_is_zero_and_has_a_gradient():
    questions = torch.zeros(0, 3, requires_grad=True)
    result = intra_loss(
        questions, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), contrastive_temperature=TAU
    )
    assert result.loss.item() == 0.0 and result.loss.requires_grad


def network(dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8))


def plain_gradients(model, inputs, targets_loss):
    model.zero_grad()
    loss = targets_loss(model(inputs))
    loss.backward()
    return loss.item(), [parameter.grad.clone() for parameter in model.parameters()]


def close(left, right):
    """Each gradient within 1e-5 of the other's norm."""
    return all((a - b).norm() <= 1e-5 * b.norm() for a, b in zip(left, right, strict=True))


def cached(model, inputs, parts):
    model.zero_grad()
    loss = cached_gradients(
        lambda rows: model(inputs[list(rows)]), parts, 22, lambda table: loss_of(table).loss
    )
    return loss.item(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "parts", [[range(22)], [range(0, 5), range(5, 22)], [[i] for i in reversed(range(22))]]
)
def test_cached_gradients_equal_plain_ones(parts):
    model, (inputs, _) = network(), step(3)
    loss, gradients = plain_gradients(model, inputs, lambda table: loss_of(table).loss)
    cached_loss, cached_grads = cached(model, inputs, parts)
    assert cached_loss == pytest.approx(loss, rel=1e-5)
    assert close(cached_grads, gradients)


def test_both_passes_draw_the_same_dropout_masks():
    model, (inputs, _) = network(dropout=0.5), step(3)
    torch.manual_seed(11)
    loss, gradients = plain_gradients(model, inputs, lambda table: loss_of(table).loss)
    torch.manual_seed(11)
    cached_loss, cached_grads = cached(model, inputs, [range(22)])
    assert cached_loss == pytest.approx(loss, rel=1e-5)
    assert close(cached_grads, gradients)


def _worker(rank, folder):
    """Two workers with uneven shares: cached, and plain with each worker's own queries."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    inputs, targets = step(3)
    model = network()
    share = list(range(0, 14)) if rank == 0 else list(range(14, 22))
    loss, gradients = cached(model, inputs, [share[:3], share[3:]])

    model.zero_grad()
    table = gather_rows(model(inputs[share]), share, 22)
    queries = slice(0, 4) if rank == 0 else slice(4, 6)
    own_loss = inter_loss(
        table[:6][queries],
        table[6:14],
        targets.positive_QN[queries],
        contrastive_temperature=TAU,
        ignored_QN=targets.ignored_QN[queries],
    ).loss * (queries.stop - queries.start)
    own_loss.backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    for gradient in (*gradients, *plain):
        torch.distributed.all_reduce(gradient)
    torch.save((loss, gradients, plain), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_workers_equal_one(tmp_path):
    multiprocessing.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    model, (inputs, _) = network(), step(3)
    loss, gradients = plain_gradients(model, inputs, lambda table: loss_of(table).loss)
    _, inter_sum = plain_gradients(
        model, inputs, lambda table: 6 * loss_of(table, intra_weight=0.0).loss
    )
    for rank in (0, 1):
        worker_loss, cached_grads, plain = torch.load(tmp_path / f"{rank}.pt")
        assert worker_loss == pytest.approx(loss, rel=1e-5)
        assert close(cached_grads, gradients)
        assert close(plain, inter_sum)
