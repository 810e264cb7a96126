import pytest

from ffr_core.curriculum import CurriculumSampler, Stage
from ffr_core.rewards import Reward
from ffr_core.rollout import Group, Rollout, fill_batch


def group(sample_id, totals, stage="easy"):
    return Group(
        sample_id=sample_id,
        stage=stage,
        policy_version=0,
        rollouts=tuple(
            Rollout(
                text="",
                token_ids=(1,),
                logprobs=(0.0,),
                reward=Reward(total=total, f1=0, order=0, format=0),
            )
            for total in totals
        ),
    )


def names(groups):
    return [g.sample_id for g in groups]


class Prompts:
    """A sampler and a roll-out whose flat prompts are known; records what was asked."""

    def __init__(self, stages, flat=()):
        self.sampler = CurriculumSampler(
            [Stage(name=name, sample_ids=ids) for name, ids in stages], seed=0
        )
        self.flat = set(flat)
        self.stage_of = {i: name for name, ids in stages for i in ids}
        self.calls = []

    def roll(self, prompts):
        self.calls.append(list(prompts))
        return [
            group(p, (1.0, 1.0) if p in self.flat else (0.0, 1.0), self.stage_of[p])
            for p in prompts
        ]

    def fill(self, **options):
        return fill_batch(self.sampler.draw, self.roll, **options)


def test_group_spread_and_advantages():
    assert group("a", [0.2, 1.0]).spread == pytest.approx(0.8)
    assert group("a", [0.0, 1.0]).advantages() == pytest.approx([-1, 1], abs=1e-3)
    assert group("a", [0.0, 1.0, 0.5]).advantages(scale=False) == pytest.approx([-0.5, 0.5, 0.0])
    assert group("a", []).spread == 0


def test_a_zero_variance_group_is_refilled_from_the_same_stage():
    easy = tuple("abcdefgh")
    prompts = Prompts([("easy", easy), ("hard", ("x", "y"))], flat="abcd")
    filled = prompts.fill(num_groups=3, max_rounds=9)
    assert len(filled.batch) == 3
    assert {g.stage for g in filled.batch} == {"easy"}
    assert not {"a", "b", "c", "d"} & set(names(filled.batch))
    assert filled.rolled == len(filled.dropped) + len(filled.batch) + len(filled.carried)
    assert filled.counts["groups_dropped"] == len(filled.dropped)
    assert filled.counts["zero_variance_share"] == len(filled.dropped) / filled.rolled
    # Each round asks for what is still missing, in one go.
    assert len(prompts.calls[0]) == 3
    assert filled.rounds == len(prompts.calls)


def test_surplus_is_carried_and_comes_first():
    prompts = Prompts([("easy", tuple("abcdefgh"))])
    first = prompts.fill(num_groups=2, oversample=2.0)
    assert (len(first.batch), len(first.carried), first.rounds) == (2, 2, 1)
    second = prompts.fill(num_groups=2, carried=first.carried, oversample=2.0)
    assert second.batch == first.carried
    assert (second.rounds, second.rolled, second.carried) == (0, 0, ())
    third = prompts.fill(num_groups=3, carried=first.carried)
    assert third.batch[:2] == first.carried
    assert third.rolled == 1


def test_rounds_are_bounded_and_a_short_batch_stays_short():
    prompts = Prompts([("easy", tuple("abcdefgh"))], flat="abcdefgh")
    filled = prompts.fill(num_groups=2, max_rounds=3)
    assert filled.batch == ()
    assert (filled.rounds, filled.rolled, len(filled.dropped)) == (3, 6, 6)
    assert not filled.exhausted


def test_the_end_of_the_data_is_reported():
    prompts = Prompts([("easy", ("a", "b"))], flat="a")
    filled = prompts.fill(num_groups=4, max_rounds=5)
    assert names(filled.batch) == ["b"]
    assert filled.exhausted


def test_a_stage_that_ends_is_followed_by_the_next():
    prompts = Prompts([("easy", ("a", "b")), ("hard", ("x", "y"))], flat="a")
    filled = prompts.fill(num_groups=2)
    assert [{prompts.stage_of[p] for p in call} for call in prompts.calls] == [{"easy"}, {"hard"}]
    assert {g.stage for g in filled.batch} == {"easy", "hard"}


def test_the_threshold_is_on_the_spread_of_totals():
    def fill(totals, **options):
        return fill_batch(
            lambda n: ["a"][:n],
            lambda p: [group("a", totals)],
            num_groups=1,
            max_rounds=1,
            **options,
        )

    assert not fill([0.5, 0.50009]).batch
    assert fill([0.5, 0.5002]).batch
    assert fill([0.5, 0.5], min_spread=0).batch
