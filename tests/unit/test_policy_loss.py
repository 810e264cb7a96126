import math

import pytest
import torch

from ffr_core.losses.policy import (
    group_advantages,
    importance_weights,
    k3_kl,
    mean_entropy,
    policy_loss,
    token_entropies,
    token_logprobs,
    top_p_mask,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_advantages_by_hand():
    assert group_advantages([1.0, 0.0], eps=0) == [1.0, -1.0]
    # Mean 2, population deviation 1.
    assert group_advantages([1, 1, 3, 3], eps=0) == [-1, -1, 1, 1]
    assert group_advantages([1, 1, 3, 3], eps=1) == [-0.5, -0.5, 0.5, 0.5]
    assert group_advantages([0.7, 0.7, 0.7]) == pytest.approx([0, 0, 0], abs=1e-9)


def test_on_policy_loss_is_minus_the_advantages_and_its_gradient_too():
    policy = tensor(-1.0, -2.0, -0.5).requires_grad_()
    loss = policy_loss(policy, policy.detach(), tensor(1.0, 1.0, -2.0), beta=0)
    assert loss.loss.item() == pytest.approx(0.0)
    assert (loss.ratio, loss.clipped, loss.num_tokens, loss.weight) == (3.0, 0.0, 3, 3.0)
    loss.loss.backward()
    assert policy.grad.tolist() == [-1.0, -1.0, 2.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
    [
        # Inside the band: -r A; gradient to log p is -r A as well.
        (1.1, 2.0, -2.2, -2.2, 0),
        # Above 1.28 with positive advantage: clipped, no gradient.
        (1.5, 2.0, -2.56, 0.0, 1),
        # 1.25 is inside clip-higher but would be outside a symmetric 0.2.
        (1.25, 1.0, -1.25, -1.25, 0),
        # Above the band with negative advantage: not clipped.
        (1.5, -2.0, 3.0, 3.0, 0),
        # Below 0.8 with negative advantage: clipped.
        (0.5, -2.0, 1.6, 0.0, 1),
        # Below the band with positive advantage: not clipped.
        (0.5, 2.0, -1.0, -1.0, 0),
    ],
)
def test_clip_higher_by_hand(ratio, advantage, loss, gradient, clipped):
    policy = tensor(math.log(ratio)).requires_grad_()
    result = policy_loss(policy, tensor(0.0), tensor(advantage), beta=0)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(loss, rel=1e-5)
    assert policy.grad.item() == pytest.approx(gradient, rel=1e-5)
    assert result.clipped == clipped


def test_token_level_sums_weigh_long_rollouts_by_their_tokens():
    one = policy_loss(tensor(0.0), tensor(0.0), tensor(3.0), beta=0)
    many = policy_loss(torch.zeros(4), torch.zeros(4), torch.full((4,), -1.0), beta=0)
    both = policy_loss(torch.zeros(5), torch.zeros(5), tensor(3, -1, -1, -1, -1), beta=0)
    assert both.loss == one.loss + many.loss
    assert both.num_tokens == one.num_tokens + many.num_tokens


def test_k3_is_zero_on_equal_and_never_negative():
    policy = torch.linspace(-5, 0, 21)
    assert k3_kl(policy, policy).abs().max() == 0
    assert (k3_kl(policy, policy.flip(0)) >= 0).all()
    # d = ln 2: 2 - ln 2 - 1.
    assert k3_kl(tensor(-1.0), tensor(-1.0 + math.log(2))).item() == pytest.approx(1 - math.log(2))


def test_k3_is_unbiased_under_the_policy():
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    exact = (policy * (policy / reference).log()).sum()
    assert (policy * k3_kl(policy.log(), reference.log())).sum().item() == pytest.approx(exact)


def test_kl_enters_with_beta_and_pulls_to_the_reference():
    policy = tensor(-1.0).requires_grad_()
    result = policy_loss(policy, tensor(-1.0), tensor(0.0), reference_T=tensor(-1 + math.log(2)))
    assert result.loss.item() == pytest.approx(0.02 * (1 - math.log(2)))
    result.loss.backward()
    # d/dp (e^(r-p) - (r-p) - 1) = 1 - e^(r-p) = -1: the step raises the policy's probability.
    assert policy.grad.item() == pytest.approx(-0.02)
    assert result.kl == pytest.approx(1 - math.log(2))


def test_importance_weights_are_truncated_and_scale_the_gradient():
    behavior, sampler = tensor(-1.0, -1.0, -3.0), tensor(-1.0, -3.0, -2.0)
    weights = importance_weights(behavior, sampler, cap=2.0)
    assert weights.tolist() == pytest.approx([1.0, 2.0, math.exp(-1)])
    policy = behavior.clone().requires_grad_()
    result = policy_loss(policy, behavior, tensor(1, 1, 1), weights_T=weights, beta=0)
    result.loss.backward()
    assert policy.grad.tolist() == pytest.approx([-1.0, -2.0, -math.exp(-1)])
    assert result.weight == pytest.approx(3 + math.exp(-1))


def test_huge_differences_stay_finite():
    policy = tensor(-1e4, 0.0).requires_grad_()
    result = policy_loss(policy, tensor(0.0, -1e4), tensor(1, -1), reference_T=tensor(0.0, -1e4))
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(policy.grad).all()


def test_logprobs_over_the_masked_vocabulary_by_hand():
    logits = torch.log(torch.tensor([[4.0, 2.0, 1.0, 1.0]]))
    ids = torch.tensor([1])
    assert token_logprobs(logits, ids).exp().item() == pytest.approx(2 / 8)
    assert token_logprobs(logits, ids, banned_token_ids=(0,)).exp().item() == pytest.approx(2 / 4)
    allowed = torch.tensor([[True, True, False, False]])
    assert token_logprobs(logits, ids, allowed_TV=allowed).exp().item() == pytest.approx(2 / 6)
    # Half the temperature squares the weights: 16, 4, 1, 1.
    hot = token_logprobs(logits, ids, sampling_temperature=0.5)
    assert hot.exp().item() == pytest.approx(4 / 22)
    # A sampled token outside the mask is added to it.
    other = token_logprobs(logits, torch.tensor([2]), allowed_TV=allowed)
    assert other.exp().item() == pytest.approx(1 / 7)


def test_top_p_mask_by_hand_and_as_transformers_does_it():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert top_p_mask(logits, 0.79).tolist() == [[True, True, False, False]]
    assert top_p_mask(logits, 0.85).tolist() == [[True, True, True, False]]
    assert top_p_mask(logits, 0.01).tolist() == [[True, False, False, False]]
    assert top_p_mask(logits, 1.0).all()
    assert top_p_mask(logits, 0.85, banned_token_ids=(0,)).tolist() == [[False, True, True, False]]

    from transformers.generation.logits_process import TopPLogitsWarper

    many = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3
    theirs = TopPLogitsWarper(0.85)(None, many.clone()) > -torch.inf
    assert (top_p_mask(many, 0.85) == theirs).all()


@pytest.mark.parametrize("top_p", [1.0, 0.85])
def test_ratio_is_one_on_policy_with_masks(top_p):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, 50, generator=generator) * 2
    banned = (3, 7, 11)
    allowed = top_p_mask(logits, top_p, banned_token_ids=banned)
    masked = logits.index_fill(1, torch.tensor(banned), -torch.inf).masked_fill(
        ~allowed, -torch.inf
    )
    ids = torch.multinomial(masked.softmax(1), 1, generator=generator)[:, 0]
    behavior = token_logprobs(logits, ids, banned_token_ids=banned, allowed_TV=allowed)
    policy = token_logprobs(logits, ids, banned_token_ids=banned, allowed_TV=allowed)
    result = policy_loss(policy, behavior, torch.ones(30), beta=0)
    assert result.ratio == 30
    assert result.clipped == 0
    torch.testing.assert_close(
        behavior.exp(), masked.softmax(1).gather(1, ids[:, None])[:, 0], rtol=1e-5, atol=0
    )


def test_entropy_of_uniform_and_certain_distributions():
    assert token_entropies(torch.zeros(1, 8)).item() == pytest.approx(math.log(8))
    assert token_entropies(torch.zeros(1, 8), (0, 1, 2, 3)).item() == pytest.approx(math.log(4))
    assert token_entropies(torch.tensor([[0.0, 100.0, 0.0]])).item() == pytest.approx(0)


def test_mean_entropy_does_not_depend_on_length():
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(2))
    assert mean_entropy(logits.expand(40, -1)) == pytest.approx(mean_entropy(logits), rel=1e-5)
    assert mean_entropy(torch.zeros(0, 12)) == 0.0
