import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ffr_core.index.fusion import FusionWeights, best_first, fuse


def floats(*values):
    return np.array(values, dtype=np.float32)


def test_two_candidates_worked_by_hand():
    fused = fuse({"dense": floats(1, 3), "bm25": floats(0, 0)}, {"dense": 2.0, "bm25": 1.0})
    assert fused == pytest.approx([-2.0, 2.0])


def test_three_candidates_worked_by_hand():
    # dense: mean 2, std sqrt(2/3); bm25: mean 3, std sqrt(18)
    fused = fuse({"dense": floats(1, 2, 3), "bm25": floats(9, 0, 0)}, {"dense": 1.0, "bm25": 0.5})
    dense = 1 / np.sqrt(2 / 3)
    bm25 = 0.5 / np.sqrt(18)
    assert fused == pytest.approx([-dense + 6 * bm25, -3 * bm25, dense - 3 * bm25])


def test_a_missing_score_counts_as_the_lowest():
    with_gap = fuse({"dense": floats(1, np.nan, 3)}, {"dense": 1.0})
    assert with_gap == pytest.approx(fuse({"dense": floats(1, 1, 3)}, {"dense": 1.0}))
    assert fuse({"dense": floats(np.nan, np.nan)}, {"dense": 1.0}).tolist() == [0.0, 0.0]


def test_channels_without_weight_or_spread_say_nothing():
    channels = {"dense": floats(1, 3), "noise": floats(9, -9), "flat": floats(5, 5 + 1e-7)}
    assert fuse(channels, {"dense": 1.0, "flat": 1.0}) == pytest.approx([-1.0, 1.0])


def test_no_candidates_and_one_candidate():
    assert fuse({"dense": floats()}, {"dense": 1.0}).shape == (0,)
    assert fuse({"dense": floats(7)}, {"dense": 1.0}).tolist() == [0.0]


@given(
    arrays(np.float32, 6, elements=st.integers(-8, 8), unique=True),
    st.floats(0.5, 4, width=16),
    st.floats(-4, 4, width=16),
)
def test_scale_and_offset_of_a_channel_do_not_matter(scores, scale, offset):
    one = fuse({"dense": scores}, {"dense": 1.0})
    other = fuse({"dense": scores * scale + offset}, {"dense": 1.0})
    assert one == pytest.approx(other, abs=1e-3)
    assert best_first(one, range(6)) == np.argsort(-scores, kind="stable").tolist()


def test_ties_go_to_the_smaller_key():
    assert best_first(floats(1, 2, 2 + 1e-7, 0), ["d", "c", "b", "a"]) == [2, 1, 0, 3]


def test_dense_only_searches_one_channel():
    assert FusionWeights.dense_only().active() == {"dense_fragment": 1.0}
    assert set(FusionWeights().active()) == {"dense_passage", "bm25_passage", "bm25_fragment"}


def test_weights_without_a_channel_are_our_mistake():
    with pytest.raises(AssertionError):
        FusionWeights(dense_passage=0, bm25_passage=0, bm25_fragment=0)
