import numpy as np
import pytest

from ffr_core.curriculum import (
    SCRIPT_CURRICULUM,
    TEXT_CURRICULUM,
    CurriculumSampler,
    CurriculumSettings,
    Difficulty,
    ScoredSample,
    Stage,
    label,
    label_script,
    label_text,
    plan,
)
from ffr_core.errors import ConfigError, InputError

EASY, MEDIUM, CONFUSING, HARD = Difficulty


def sample(name, f1, entropy, gold_empty=False):
    return ScoredSample(sample_id=name, f1=f1, entropy=entropy, gold_empty=gold_empty)


def test_script_labels_by_hand():
    # Quartiles of both rows: 0.25, 0.5, 0.75.
    f1 = [1.0, 0.75, 0.5, 0.25, 0.0]
    assert label_script(f1, [0.0, 0.25, 0.5, 0.75, 1.0]) == [EASY, EASY, MEDIUM, CONFUSING, HARD]
    # Correct but uncertain is hard in this rule, as is incorrect and confident.
    assert label_script(f1, [1.0, 0.75, 0.5, 0.25, 0.0]) == [
        HARD,
        CONFUSING,
        MEDIUM,
        CONFUSING,
        HARD,
    ]


def test_text_labels_by_hand():
    # Medians 0.5 and 0.2.
    assert label_text([1.0, 1.0, 0.1, 0.0], [0.1, 0.3, 0.3, 0.1]) == [EASY, MEDIUM, CONFUSING, HARD]


def test_script_labels_equal_a_numpy_version():
    rng = np.random.default_rng(0)
    f1, entropy = rng.random(200).round(2), rng.random(200).round(2)
    f25, f50, f75 = np.quantile(f1, [0.25, 0.5, 0.75])
    h25, h50, h75 = np.quantile(entropy, [0.25, 0.5, 0.75])
    expected = np.select(
        [
            (f1 >= f75) & (entropy <= h25),
            (f1 >= f50) & (entropy <= h50),
            (f1 >= f25) & (entropy <= h75),
        ],
        ["easy", "medium", "confusing"],
        "hard",
    )
    assert label_script(f1.tolist(), entropy.tolist()) == expected.tolist()


def test_bad_scores_are_refused_by_name():
    with pytest.raises(InputError, match=r"'b'.*nan"):
        label([sample("a", 1, 0), sample("b", 1, float("nan"))], "script")


def four_classes(size):
    """`size` samples of each class of the text rule; a0 is the best of its class."""
    rows = [("a", 0.9, 0.1), ("b", 0.9, 0.8), ("c", 0.1, 0.8), ("d", 0.1, 0.1)]
    return [
        sample(f"{name}{i}", f1 - i / 1000, h + i / 1000, gold_empty=i == 1)
        for name, f1, h in rows
        for i in range(size)
    ]


def test_plan_keeps_the_best_share_and_counts_the_rest():
    made = plan(
        four_classes(10),
        CurriculumSettings(labels="text", fractions={EASY: 0.2, MEDIUM: 0.0, CONFUSING: 0.5}),
    )
    assert [stage.name for stage in made.stages] == ["easy", "confusing", "hard"]
    assert made.stages[0].sample_ids == ("a0", "a1")
    assert made.stages[1].sample_ids == tuple(f"c{i}" for i in range(5))
    assert len(made.stages[2].sample_ids) == 10
    assert made.left_out == {"easy_fraction": 8, "medium_fraction": 10, "confusing_fraction": 5}


def test_plan_drops_easy_and_medium_with_empty_gold():
    made = plan(four_classes(4), CurriculumSettings(labels="text", drop_empty_gold=True))
    assert made.left_out == {"easy_empty_gold": 1, "medium_empty_gold": 1}
    assert sum(len(stage.sample_ids) for stage in made.stages) == 14


def test_presets_ship_with_the_papers_and_the_scripts_fractions():
    assert [TEXT_CURRICULUM.fractions.get(d, 1.0) for d in Difficulty] == [0.1, 0.1, 1.0, 1.0]
    assert [SCRIPT_CURRICULUM.fractions.get(d, 1.0) for d in Difficulty] == [1.0, 0.1, 0.5, 1.0]
    assert SCRIPT_CURRICULUM.drop_empty_gold
    with pytest.raises(ConfigError, match=r"1\.5"):
        CurriculumSettings(fractions={EASY: 1.5})


STAGES = [
    Stage(name="easy", sample_ids=("a", "b", "c")),
    Stage(name="medium", sample_ids=("d",)),
    Stage(name="hard", sample_ids=("e", "f")),
]


def test_sampler_finishes_a_stage_before_the_next_and_never_mixes():
    sampler = CurriculumSampler(STAGES, seed=1)
    first, second = sampler.draw(2), sampler.draw(2)
    assert (len(first), len(second)) == (2, 1)
    assert set(first + second) == {"a", "b", "c"}
    assert sampler.stage == "medium"
    assert sampler.draw(5) == ["d"]
    assert set(sampler.draw(5)) == {"e", "f"}
    assert sampler.stage is None
    assert sampler.draw(5) == []


def test_sampler_resumes_from_its_cursor():
    whole = CurriculumSampler(STAGES, seed=3, epochs=2)
    drawn = [whole.draw(1) for _ in range(12)]
    again = CurriculumSampler(STAGES, seed=3, epochs=2)
    again.cursor = 7
    assert [again.draw(1) for _ in range(5)] == drawn[7:]
    assert len(whole) == 12


def test_sampler_depends_on_seed_and_epoch():
    ids = [str(i) for i in range(50)]
    first = CurriculumSampler.without_curriculum(ids, seed=0, epochs=2)
    epoch_one, epoch_two = first.draw(50), first.draw(50)
    assert sorted(epoch_one) == sorted(ids) == sorted(epoch_two)
    assert epoch_one != epoch_two
    assert CurriculumSampler.without_curriculum(ids, seed=1).draw(50) != epoch_one
    assert CurriculumSampler.without_curriculum(ids, seed=0).draw(50) == epoch_one


def test_an_empty_curriculum_is_refused():
    with pytest.raises(InputError, match="no samples"):
        CurriculumSampler([], seed=0)
