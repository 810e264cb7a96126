"""Forward passes and optimizer steps of GRPO on a random tiny Qwen2-VL."""

import random

import pytest
import torch

from ffr_core.adapters import LoraSettings
from ffr_core.engine.inputs import PromptEncoder, banned_token_ids, collate
from ffr_core.engine.loading import load_model, load_processor
from ffr_core.errors import FfrError
from ffr_core.generation import Message
from ffr_core.losses.policy import group_advantages
from ffr_core.types import Image
from jobs.grpo.config import PolicyConfig
from jobs.grpo.policy import POLICY, REFERENCE, PolicyModel
from jobs.grpo.rows import Row, build_batch, microbatches, rows_of, share_rows
from jobs.grpo.update import Updater
from jobs.tiny.architecture import write_random_model
from jobs.training.config import OptimizerConfig
from jobs.training.optimization import adamw


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_random_model(folder, seed=3)
    return folder


@pytest.fixture(scope="module")
def encoder(tiny):
    import PIL.Image

    return PromptEncoder(
        load_processor(tiny), lambda uri: PIL.Image.new("RGB", (60, 60), uri.split("/")[-1])
    )


def make_policy(tiny, encoder, **options):
    policy = PolicyModel(
        load_model(tiny, "float32"),
        cold_start=None,
        lora=LoraSettings(rank=4, alpha=8),
        banned_token_ids=banned_token_ids(encoder.tokenizer),
        pad_token_id=encoder.tokenizer.pad_token_id,
        **options,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return policy


def make_rows(encoder, num_groups=3, group_size=3, seed=0):
    """Groups with two pictures in the first prompt; completions of different lengths."""
    rng = random.Random(seed)
    groups = []
    for number in range(num_groups):
        parts = ("Ana: look at the red bicycle " * (number + 1),)
        if number == 0:
            pictures = [Image(image_id=i, uri=name) for i, name in enumerate(("red", "blue"))]
            parts = (*parts, pictures[0], "we meet", pictures[1])
        prompt = encoder.encode((Message(role="user", parts=parts),))
        completions = tuple(
            tuple(rng.randrange(20, 300) for _ in range(rng.randint(1, 7)))
            for _ in range(group_size)
        )
        groups.append(
            Row(
                prompt=prompt,
                completions=completions,
                advantages=tuple(group_advantages([rng.random() for _ in completions])),
                logprobs=((),) * group_size,
            )
        )
    return groups


def alone(row):
    """The same group with one row for each completion."""
    items = zip(row.completions, row.advantages, row.logprobs, strict=True)
    return [
        Row(prompt=row.prompt, completions=(c,), advantages=(a,), logprobs=(s,))
        for c, a, s in items
    ]


def score(policy, encoder, rows, **options):
    batch = build_batch(rows, encoder.tokenizer.pad_token_id)
    return policy.score(policy.inputs([row.prompt for row in rows], batch), **options)


def plain_logprobs(policy, encoder, row):
    """Straight through the model's own forward, one sequence at a time."""
    found = []
    banned = torch.tensor(banned_token_ids(encoder.tokenizer))
    for completion in row.completions:
        batch = collate([row.prompt], encoder.tokenizer.pad_token_id)
        ids = torch.cat([batch["input_ids"], torch.tensor([completion])], dim=1)
        batch |= {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": torch.nn.functional.pad(
                batch["mm_token_type_ids"], (0, len(completion))
            ),
        }
        logits = policy.model(**batch).logits[0].float().index_fill(1, banned, -torch.inf)
        start = len(row.prompt.input_ids)
        predicted = logits.log_softmax(1)[start - 1 : -1]
        found.append(predicted.gather(1, torch.tensor(completion)[:, None])[:, 0])
    return torch.cat(found)


def test_shared_prompts_give_what_the_model_says_of_each_sequence(tiny, encoder):
    policy = make_policy(tiny, encoder)
    rows = make_rows(encoder)
    with torch.no_grad():
        expected = torch.cat([plain_logprobs(policy, encoder, row) for row in rows])
        shared = score(policy, encoder, rows)
        single = torch.cat(
            [score(policy, encoder, [one]).logprobs_T for row in rows for one in alone(row)]
        )
    torch.testing.assert_close(shared.logprobs_T, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared.plain_T, expected, rtol=1e-5, atol=1e-5)


def test_pictures_matter(tiny, encoder):
    policy = make_policy(tiny, encoder)
    row = make_rows(encoder)[0]
    changed = Message(role="user", parts=("x", Image(image_id=0, uri="green")))
    original = Message(role="user", parts=("x", Image(image_id=0, uri="red")))
    values = []
    for message in (changed, original):
        swapped = Row(
            prompt=encoder.encode((message,)),
            completions=row.completions,
            advantages=row.advantages,
            logprobs=row.logprobs,
        )
        with torch.no_grad():
            values.append(score(policy, encoder, [swapped]).logprobs_T)
    assert (values[0] - values[1]).abs().max() > 1e-6


def gradients(policy, encoder, batches):
    for parameter in policy.parameters:
        parameter.grad = None
    for rows in batches:
        scores = score(policy, encoder, rows)
        advantages = build_batch(rows, 0).advantages_T
        (scores.logprobs_T * advantages).sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters])


def test_gradients_do_not_depend_on_packing_or_padding(tiny, encoder):
    policy = make_policy(tiny, encoder)
    rows = make_rows(encoder)
    singles = [one for row in rows for one in alone(row)]
    expected = gradients(policy, encoder, [[one] for one in singles])
    for batches in ([rows], [[row] for row in rows], [singles]):
        torch.testing.assert_close(
            gradients(policy, encoder, batches), expected, rtol=1e-4, atol=1e-6
        )


def test_reference_is_frozen_and_masks_are_shared(tiny, encoder):
    policy = make_policy(tiny, encoder, top_p=0.85)
    rows = make_rows(encoder)
    inputs = policy.inputs([r.prompt for r in rows], build_batch(rows, 0))
    names = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    scores = policy.score(inputs)
    reference = policy.reference(inputs, scores.allowed_TV)
    assert names == {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert all(f".{POLICY}." in name for name in names)
    assert not any(f".{REFERENCE}." in name or "visual" in name for name in names)
    assert not reference.requires_grad
    assert (reference - scores.logprobs_T).abs().max() > 1e-4
    scores.logprobs_T.sum().backward()
    assert all(p.grad is not None for p in policy.parameters)
    # Over the nucleus a token is at least as likely as over everything.
    assert (scores.logprobs_T >= scores.plain_T - 1e-6).all()


def make_updater(policy, encoder, **options):
    course = OptimizerConfig(
        learning_rate=options.pop("rate", 1e-2), schedule=options.pop("schedule", "constant")
    )
    ranks = {name: options.pop(name) for name in ("rank", "world_size") if name in options}
    return Updater(
        policy=policy,
        optimizer=adamw(policy.parameters, course),
        config=PolicyConfig(**options),
        course=course,
        num_steps=10,
        pad_token_id=encoder.tokenizer.pad_token_id,
        **ranks,
    )


@pytest.mark.parametrize("top_p", [1.0, 0.85])
def test_ratio_is_one_on_policy_and_clips_with_two_minibatches(tiny, encoder, top_p):
    groups = [[row] for row in make_rows(encoder, num_groups=4)]
    once = make_updater(make_policy(tiny, encoder, top_p=top_p), encoder).step(groups, 0, 0.0)
    assert once["ratio"] == 1.0
    assert once["clipped"] == 0.0
    assert once["weight"] == pytest.approx(1.0)
    assert once["kl"] > 0
    policy = make_policy(tiny, encoder, top_p=top_p)
    twice = make_updater(policy, encoder, minibatches=2, rate=0.2).step(groups, 0, 0.0)
    assert twice["clipped"] > 0
    assert twice["ratio"] != 1.0


def test_a_loss_that_is_not_finite_reaches_no_weight(tiny, encoder):
    policy = make_policy(tiny, encoder)
    row = make_rows(encoder, num_groups=1)[0]
    broken = Row(
        prompt=row.prompt,
        completions=row.completions,
        advantages=(float("nan"), *row.advantages[1:]),
        logprobs=row.logprobs,
    )
    before = [p.detach().clone() for p in policy.parameters]
    with pytest.raises(FfrError, match=r"step 5 has the loss nan and the gradient norm nan; lower"):
        make_updater(policy, encoder).step([[broken]], 4, 0.0)
    assert all(torch.equal(p, b) for p, b in zip(policy.parameters, before, strict=True))


def test_a_step_raises_what_was_rewarded(tiny, encoder):
    policy = make_policy(tiny, encoder)
    rows = make_rows(encoder, num_groups=1)
    advantages = build_batch(rows, 0).advantages_T

    def gain():
        with torch.no_grad():
            return float((score(policy, encoder, rows).logprobs_T * advantages).sum())

    before = gain()
    updater = make_updater(policy, encoder, beta=0.0)
    for _ in range(3):
        updater.step([rows], 0, 0.0)
    assert gain() > before


def test_loss_does_not_depend_on_microbatches_or_on_sharing_prompts(tiny, encoder):
    groups = [[row] for row in make_rows(encoder)]
    split = [alone(row) for (row,) in groups]
    results = []
    for rows, tokens in ((groups, 10_000), (groups, 1), (split, 10_000), (split, 100)):
        policy = make_policy(tiny, encoder)
        updater = make_updater(policy, encoder, tokens_per_microbatch=tokens)
        numbers = updater.step(rows, 0, 0.0)
        results.append((numbers["loss"], numbers["gradient_norm"], numbers["entropy"]))
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-4)


def test_stale_samples_are_weighted(tiny, encoder):
    policy = make_policy(tiny, encoder)
    row = make_rows(encoder, num_groups=1)[0]
    told = tuple(tuple(-1e-9 for _ in tokens) for tokens in row.completions)
    stale = Row(
        prompt=row.prompt, completions=row.completions, advantages=row.advantages, logprobs=told
    )
    # The sampler was certain of tokens that the policy finds unlikely: their weight is small.
    numbers = make_updater(policy, encoder, rate=1e-9).step([[stale]], 0, 0.0)
    assert numbers["weight"] < 0.2
    off = make_updater(policy, encoder, importance_cap=None).step([[stale]], 0, 0.0)
    assert off["weight"] == 1.0


def test_shares_cover_all_groups_once(encoder):
    groups = [[row] for row in make_rows(encoder, num_groups=5)]
    shares = [share_rows(groups, rank, 2) for rank in range(2)]
    assert sorted(id(row) for share in shares for row in share) == sorted(
        id(row) for rows in groups for row in rows
    )
    packed = list(microbatches([row for (row,) in groups], 10**6))
    assert len(packed) == 1
    assert len(list(microbatches([row for (row,) in groups], 1))) == 5


def test_rollouts_without_tokens_carry_no_loss(encoder):
    from ffr_core.rewards import Reward
    from ffr_core.rollout import Group, Rollout

    def rollout(tokens, total):
        reward = Reward(total=total, f1=0, order=0, format=0)
        return Rollout(text="", token_ids=tokens, logprobs=(-1.0,) * len(tokens), reward=reward)

    group = Group(
        sample_id="a",
        stage="easy",
        policy_version=0,
        rollouts=(rollout((1, 2), 1.0), rollout((), 0.0), rollout((3,), 0.5)),
    )
    prompt = make_rows(encoder)[0].prompt
    (row,) = rows_of(group, prompt, share_prompt=True)
    assert row.completions == ((1, 2), (3,))
    advantages = group.advantages()
    assert row.advantages == (advantages[0], advantages[2])
    (row,) = rows_of(group, prompt, share_prompt=True, scale_rewards=False)
    advantages = group.advantages(scale=False)
    assert row.advantages == (advantages[0], advantages[2])
    assert len(rows_of(group, prompt, share_prompt=False)) == 2
