import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.errors import ConfigError
from ffr_core.markup import render_selection
from ffr_core.rewards import (
    PAPER_REWARDS,
    RewardSettings,
    exact_reward,
    f1_reward,
    format_reward,
    num_elements,
    order_consistency,
    order_elements,
    order_reward,
    read_answer,
    score,
)
from ffr_core.types import Selection

PAPER = "<|utt_ids_start|>[0, 3, 4]<|utt_ids_end|>;<|img_ids_start|>[1]<|img_ids_end|>"


def select(utterances=(), images=()):
    return Selection(utterance_ids=frozenset(utterances), image_ids=frozenset(images))


def vector(*values):
    return np.array(values, dtype=np.float32)


def test_the_papers_string_has_the_form():
    assert format_reward(PAPER) == 1.0
    assert format_reward(render_selection(select())) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[0, 3, 4];[1]",
        PAPER + " ",
        " " + PAPER,
        PAPER + "\n",
        PAPER + "done",
        PAPER + PAPER,
        PAPER.replace(";", ""),
        PAPER.replace("[1]", "[1, 1]"),
        PAPER.replace("[0, 3, 4]", "[0, 3, 0]"),
        PAPER.replace("[1]", "[a]"),
        PAPER.replace("[1]", "[-1]"),
        PAPER.replace("[1]", "1"),
        "<think>x</think>" + PAPER,
        PAPER.replace("utt_ids", "img_ids"),
        PAPER.replace("<|", "<\\|"),
    ],
)
def test_any_other_form_or_a_duplicate_earns_nothing(text):
    assert format_reward(text) == 0.0


def test_answers_are_read_with_unknown_ids_and_duplicates():
    assert read_answer(PAPER) == select({0, 3, 4}, {1})
    assert read_answer(PAPER.replace("[1]", "[99]")) == select({0, 3, 4}, {99})
    assert read_answer(PAPER.replace("[1]", "[1, 1]")) == select({0, 3, 4}, {1})
    assert read_answer(render_selection(select())) == select()
    assert read_answer("no") is None


def test_f1_reward_by_hand():
    gold = select({1, 2}, {0})
    # Utterances: 2 of 3 right, F1 0.8, one too many. Images: F1 0, none too many.
    found = select({1, 2, 3}, {5})
    assert f1_reward(found, gold) == pytest.approx(0.4)
    assert f1_reward(found, gold, gamma=0.95) == pytest.approx(0.5 * 0.8 * 0.95)
    assert f1_reward(found, gold, utterance_weight=0.7, gamma=0.5) == pytest.approx(0.28)
    assert f1_reward(None, gold) == 0.0
    assert f1_reward(gold, gold, gamma=0.95) == 1.0


def test_length_penalty_falls_with_the_difference_in_both_directions():
    gold = select({0, 1, 2})
    short, long = select({0}), select({0, 1, 2, 3, 4})
    assert f1_reward(short, gold, gamma=0.9, renormalize_absent=True) == pytest.approx(0.5 * 0.81)
    assert f1_reward(long, gold, gamma=0.9, renormalize_absent=True) == pytest.approx(0.75 * 0.81)


def test_absent_modality_pays_half_unless_renormalized():
    gold = select({1})
    assert f1_reward(select({7}), gold) == 0.5
    assert f1_reward(select({7}), gold, renormalize_absent=True) == 0.0
    assert f1_reward(select({1}), gold, renormalize_absent=True) == 1.0
    # A wrong image makes the modality present.
    assert f1_reward(select({1}, {0}), gold, renormalize_absent=True) == pytest.approx(0.5)
    assert f1_reward(select(), select(), renormalize_absent=True) == 1.0
    assert f1_reward(select({1}), select(), renormalize_absent=True) == 0.0


def test_unknown_ids_cost():
    text = render_selection(select({1, 50}))
    reward = score(text, select({1}), RewardSettings(order_weight=0, gamma=1))
    assert reward.f1 == pytest.approx(2 / 3)


@given(
    st.frozensets(st.integers(0, 9)),
    st.frozensets(st.integers(0, 3)),
    st.frozensets(st.integers(0, 9)),
    st.frozensets(st.integers(0, 3)),
    st.booleans(),
)
def test_f1_reward_is_in_range_and_one_only_for_the_gold(p_utt, p_img, g_utt, g_img, renormalize):
    predicted, gold = select(p_utt, p_img), select(g_utt, g_img)
    reward = f1_reward(predicted, gold, gamma=0.95, renormalize_absent=renormalize)
    assert 0 <= reward <= 1
    assert (reward == pytest.approx(1.0)) == (predicted == gold)


def test_exact_reward():
    assert exact_reward(select({1}, {0}), select({1}, {0})) == 1.0
    assert exact_reward(select({1}), select({1}, {0})) == 0.0
    assert exact_reward(None, select()) == 0.0


def test_elements_stand_in_dialogue_order_with_images_of_a_turn_averaged():
    utterances = {0: vector(1, 0, 0), 2: vector(0, 1, 0), 3: vector(0, 0, 1)}
    images = {0: vector(1, 0, 0), 1: vector(0, 0, 4), 2: vector(0, 2, 0)}
    turn_of_image = (0, 2, 2)
    # Turn 0: its image only. Turn 2: utterance, then the mean of images 1 and 2. Turn 3: utterance.
    elements = order_elements(select({2, 3}, {0, 1, 2}), utterances, images, turn_of_image)
    expected = [vector(1, 0, 0), vector(0, 1, 0), vector(0, 1, 2), vector(0, 0, 1)]
    np.testing.assert_allclose(np.stack(elements), np.stack(expected))
    assert num_elements(select({2, 3}, {0, 1, 2}), turn_of_image) == 4
    # Cosines: 0, 1/sqrt 5, 2/sqrt 5.
    assert order_consistency(elements) == pytest.approx(1 / 5**0.5)


def test_elements_without_an_embedding_are_left_out():
    elements = order_elements(select({0, 9}, {0, 4}), {0: vector(1, 0)}, {}, (0,))
    assert len(elements) == 1
    assert order_consistency(elements) is None


def test_consistency_does_not_depend_on_length_of_vectors():
    assert order_consistency([vector(5, 0), vector(0.1, 0), vector(0, 3)]) == pytest.approx(0.5)


def order(predicted, gold, consistency, preset, f1=1.0):
    return order_reward(
        predicted,
        gold,
        consistency,
        preset=preset,
        f1=f1,
        num_gold_elements=num_elements(gold, (0, 1)),
    )


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        # both empty, gold empty, prediction empty, one element, two elements
        ("stated", (0.5, 0.9, 0.5, 0.5, 0.9)),
        ("authors", (1.0, 0.0, 0.0, 0.5, 0.9)),
        ("gated", (0.5, 0.5, 0.5, 0.5, 0.9)),
    ],
)
def test_order_fallbacks_of_each_preset(preset, expected):
    full = select({0, 1})
    assert (
        order(select(), select(), None, preset),
        order(full, select(), 0.9, preset),
        order(select(), full, None, preset),
        order(select({0}), full, None, preset),
        order(full, full, 0.9, preset),
    ) == expected
    assert order(None, full, None, preset) == 0.0
    assert order(None, select(), None, preset) == 0.0


def test_gated_order_pays_neither_wrong_answers_nor_extra_neighbors():
    assert order(select({0, 1}), select({4, 5}), 0.99, "gated", f1=0.0) == 0.0
    assert order(select({0, 1}), select({4, 5}), 0.99, "authors", f1=0.0) == 0.99
    # One gold utterance: a near-duplicate neighbor raises the authors' total, not the gated one.
    near = {0: vector(1, 0), 1: vector(0.95, 0.312)}
    alone, extra = render_selection(select({0})), render_selection(select({0, 1}))

    def total(text, settings):
        return score(text, select({0}), settings, utterances=near).total

    assert total(extra, PAPER_REWARDS) > total(alone, PAPER_REWARDS)
    assert total(extra, RewardSettings()) < total(alone, RewardSettings())


def test_total_is_the_weighted_sum_by_hand():
    utterances = {0: vector(1, 0), 3: vector(0.6, 0.8), 4: vector(0, 1)}
    images = {0: vector(1, 0), 1: vector(0, 1)}
    gold = select({0, 3}, {1})
    reward = score(
        PAPER, gold, PAPER_REWARDS, utterances=utterances, images=images, turn_of_image=(1, 4)
    )
    # Utterances {0, 3, 4} against {0, 3}: F1 0.8 x 0.95; image right.
    assert reward.f1 == pytest.approx(0.5 * 0.76 + 0.5)
    # Neighbors: 0-3 cosine 0.6, 3-4 cosine 0.8, 4-image 1 cosine 1.
    assert reward.order == pytest.approx(0.8)
    assert reward.format == 1.0
    assert reward.total == pytest.approx(0.88 + 0.8 + 0.3)
    assert reward.breakdown == pytest.approx(
        {"total": 1.98, "f1": 0.88, "order": 0.8, "format": 1.0}
    )


def test_unreadable_completion_earns_zero_and_order_can_be_off():
    assert score("hello", select({0}), PAPER_REWARDS).total == 0.0
    assert score("hello", select(), PAPER_REWARDS).total == 0.0
    reward = score(PAPER, select({0, 3, 4}, {1}), RewardSettings(order_weight=0))
    assert reward.total == pytest.approx(1.3)
    assert reward.order == 0.0


def test_a_malformed_answer_with_duplicates_keeps_its_ids():
    reward = score(
        PAPER.replace("[1]", "[1, 1]"), select({0, 3, 4}, {1}), PAPER_REWARDS, turn_of_image=(1, 4)
    )
    assert (reward.format, reward.f1) == (0.0, 1.0)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="gamma 0"):
        RewardSettings(gamma=0)
    with pytest.raises(ConfigError, match="negative"):
        RewardSettings(order_weight=-1)
