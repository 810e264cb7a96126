import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ffr_core.metrics import segmentation, selection
from ffr_core.metrics.bootstrap import f1_of_shares, paired_difference
from ffr_core.metrics.ranking import recall_at_k

IDS = st.sets(st.integers(0, 19))


def test_hand_worked_selection():
    counts = selection.count({0, 1}, {1, 2}, 5)
    assert counts == selection.Counts(tp=1, fp=1, fn=1, tn=2)
    scores = selection.scores(counts)
    assert (scores.precision, scores.recall, scores.f1) == (0.5, 0.5, 0.5)
    assert scores.mcc == pytest.approx((1 * 2 - 1) / math.sqrt(2 * 2 * 3 * 3))


@given(IDS, IDS)
@pytest.mark.filterwarnings("ignore:A single label")
def test_selection_agrees_with_scikit_learn(predicted, gold):
    y_true, y_pred = ([int(i in ids) for i in range(20)] for ids in (gold, predicted))
    scores = selection.scores(selection.count(predicted, gold, 20))
    assert scores.precision == pytest.approx(sk.precision_score(y_true, y_pred, zero_division=0))
    assert scores.recall == pytest.approx(sk.recall_score(y_true, y_pred, zero_division=0))
    assert scores.f1 == pytest.approx(sk.f1_score(y_true, y_pred, zero_division=0))
    assert scores.mcc == pytest.approx(sk.matthews_corrcoef(y_true, y_pred), abs=1e-9)


def test_joint_is_harmonic_for_p_and_r_and_arithmetic_for_f1_and_mcc():
    a = selection.SelectionScores(precision=0.8, recall=0.5, f1=0.6, mcc=-0.2)
    b = selection.SelectionScores(precision=0.4, recall=0.5, f1=0.4, mcc=0.4)
    joint = selection.joint(a, b)
    assert joint.precision == pytest.approx(2 * 0.8 * 0.4 / 1.2)
    assert joint.recall == pytest.approx(0.5)
    assert joint.f1 == pytest.approx(0.5)
    assert joint.mcc == pytest.approx(0.1)


def test_f1_of_two_empty_sets_is_one():
    assert selection.f1_of_sets([], []) == 1
    assert selection.f1_of_sets([1], []) == 0
    assert selection.f1_of_sets([1, 2], [2, 3]) == 0.5


def test_hand_worked_segmentation():
    result = segmentation.pairwise([[0, 1, 2], [3]], [[0, 1], [2, 3]])
    assert (result.precision, result.recall) == (pytest.approx(1 / 3), 0.5)
    assert result.f1 == pytest.approx(0.4)
    cubed = segmentation.b_cubed([[0, 1, 2], [3]], [[0, 1], [2, 3]])
    assert cubed.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert cubed.recall == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)


def test_singletons_only_have_no_pairs_to_get_wrong():
    assert segmentation.pairwise([[0], [1]], [[0], [1]]).f1 == 1


def test_turns_without_a_gold_fragment_are_not_scored():
    assert segmentation.pairwise([[0, 1, 2]], [[0, 1]]).f1 == 1
    assert segmentation.b_cubed([[0, 1, 2]], [[0, 1]]).f1 == 1


def test_a_turn_in_two_gold_fragments_belongs_to_both():
    assert segmentation.pairwise([[0, 1], [2]], [[0, 1], [1, 2]]).recall == 0.5


@given(st.lists(st.integers(0, 4), min_size=2, max_size=25), st.data())
def test_segmentation_agrees_with_scikit_learn(gold, data):
    predicted = data.draw(st.lists(st.integers(0, 4), min_size=len(gold), max_size=len(gold)))

    def clusters(ls):
        return [[i for i, label in enumerate(ls) if label == k] for k in sorted(set(ls))]

    (_, wrong), (missed, right) = sk.cluster.pair_confusion_matrix(gold, predicted)
    result = segmentation.pairwise(clusters(predicted), clusters(gold))
    assert result.precision == pytest.approx(right / (right + wrong) if right + wrong else 1)
    assert result.recall == pytest.approx(right / (right + missed) if right + missed else 1)


@given(st.permutations(range(12)))
def test_a_perfect_segmentation_scores_one_in_any_order(order):
    gold = [order[:3], order[3:4], order[4:]]
    for metric in (segmentation.pairwise, segmentation.b_cubed):
        assert metric(gold[::-1], gold).f1 == pytest.approx(1)


def test_mean_averages_each_component():
    one = segmentation.PRF(precision=1, recall=0, f1=0)
    two = segmentation.PRF(precision=0.5, recall=1, f1=0.6)
    assert segmentation.mean([one, two]) == segmentation.PRF(precision=0.75, recall=0.5, f1=0.3)
    with pytest.raises(ValueError, match="no dialogue"):
        segmentation.mean([])


def test_recall_at_k():
    assert recall_at_k([0, 3, None, 4], 1) == 0.25
    assert recall_at_k([0, 3, None, 4], 5) == 0.75
    with pytest.raises(ValueError, match="at least 1"):
        recall_at_k([0], 0)


def test_paired_difference_of_equal_systems_is_zero():
    hits = np.array([[1.0], [0.0], [1.0]])
    same = paired_difference(hits, hits, lambda s: float(s[0]))
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_paired_difference_finds_a_real_one():
    rng = np.random.default_rng(0)
    b = (rng.random((400, 1)) < 0.3).astype(float)
    a = np.maximum(b, (rng.random((400, 1)) < 0.3).astype(float))
    found = paired_difference(a, b, lambda s: float(s[0]))
    assert found.mean == pytest.approx(float((a - b).mean()))
    assert 0 < found.low < found.mean < found.high


def test_f1_of_shares_needs_no_absolute_counts():
    shares = np.array([0.2, 0.1, 0.1])
    assert f1_of_shares(10 * shares) == pytest.approx(f1_of_shares(shares))
    assert f1_of_shares(np.zeros(3)) == 0
