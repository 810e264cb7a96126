import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from ffr_core.dataset.clustering import k_means, unit
from ffr_core.dataset.nearest import blocked_neighbors, exact_neighbors
from ffr_core.dataset.triplets import Features, MatchingRules, match_triplets, multi_modal_score
from jobs.dataset_steps import matching_counts


def vectors(num, dim=16, seed=0, groups=0):
    rng = np.random.default_rng(seed)
    if not groups:
        return unit(rng.standard_normal((num, dim)).astype(np.float32))
    centers = rng.standard_normal((groups, dim)) * 2
    labels = rng.integers(groups, size=num)
    return unit((centers[labels] + 0.4 * rng.standard_normal((num, dim))).astype(np.float32))


def triplets_of(matches):
    return [tuple(row) for row in matches.triplets_T3.tolist()]


def test_exact_neighbors_against_a_full_sort():
    rows = vectors(60)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.argsort(-cosines, axis=1, kind="stable")[:, :7]
    found = exact_neighbors(rows, 7, block=13)
    assert np.array_equal(found.rows_NK, expected)
    assert np.allclose(found.scores_NK, np.take_along_axis(cosines, expected, axis=1), atol=1e-6)


def test_fewer_rows_than_neighbors_ends_with_minus_one():
    found = exact_neighbors(vectors(3), 5)
    assert (found.rows_NK >= 0).sum(axis=1).tolist() == [2, 2, 2]
    assert np.isneginf(found.scores_NK[:, 2:]).all()


def test_blocked_neighbors_find_nearly_all_exact_ones():
    rows = vectors(6000, dim=32, seed=1, groups=150)
    exact = exact_neighbors(rows, 10).rows_NK
    blocked = blocked_neighbors(rows.astype(np.float16), 10, seed=0, cell_size=256, num_probes=6)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact, blocked.rows_NK, strict=True)]
    assert np.mean(shared) > 0.95
    assert not any(row in found for row, found in enumerate(blocked.rows_NK.tolist()))


def test_k_means_agrees_with_scikit_learn_on_clear_clusters():
    rows = vectors(600, dim=8, seed=3, groups=5)
    _, ours = k_means(rows, 5, seed=0)
    theirs = KMeans(5, n_init=10, random_state=0).fit_predict(rows)
    assert adjusted_rand_score(ours, theirs) > 0.99
    assert np.array_equal(ours, k_means(rows, 5, seed=0)[1])


def test_k_means_with_fewer_distinct_rows_than_clusters():
    centers, labels = k_means(np.tile(np.eye(2, dtype=np.float32), (4, 1)), 6, seed=0)
    assert centers.shape == (6, 2)
    assert len({labels[0], labels[1]}) == 2


def features(rows, keys=None, clip=None):
    return Features(
        text_ND=rows,
        clip_text_ND=clip[0] if clip else None,
        clip_image_ND=clip[1] if clip else None,
        image_keys=keys or [frozenset({f"k{i}"}) for i in range(len(rows))],
    )


def angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_triplets_by_hand():
    # On a circle, neighbors are the nearest angles. From 0 (0 degrees): the best two are 1, 2.
    # From 1: without 0, 2 then 3. From 2: without 0: 1 would repeat {0, 1, 2}, so 3, then 4.
    found = match_triplets(features(angles(0, 1, 3, 7, 15)), MatchingRules())
    assert [t for t in triplets_of(found) if t[0] == 0] == [
        (0, 1, 2),
        (0, 1, 3),
        (0, 2, 3),
        (0, 2, 4),
    ]


def test_a_shared_image_is_passed_over():
    keys = [frozenset({k}) for k in ("x", "x", "a", "b", "c")]
    found = match_triplets(features(angles(0, 1, 3, 7, 15), keys), MatchingRules())
    assert not any({0, 1} <= set(t) for t in triplets_of(found))
    # From 0: 2 and 3. From 2 without 0 and its image (so without 1): 3, then 4.
    assert [t for t in triplets_of(found) if t[0] == 0] == [(0, 2, 3), (0, 2, 4), (0, 3, 4)]
    assert found.missing["no_partner"] >= 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(3, 40), num_keys=st.integers(2, 60))
def test_triplets_are_disjoint_unique_and_counted(seed, num, num_keys):
    rng = np.random.default_rng(seed)
    keys = [frozenset(map(str, rng.integers(num_keys, size=2))) for _ in range(num)]
    found = match_triplets(features(vectors(num, seed=seed), keys), MatchingRules())
    for triplet in triplets_of(found):
        assert len(set(triplet)) == 3
        assert not any(keys[a] & keys[b] for a in triplet for b in triplet if a < b)
    assert len({frozenset(t) for t in triplets_of(found)}) == len(found.triplets_T3)
    assert len(found.triplets_T3) + sum(found.missing.values()) == 4 * num


@pytest.mark.parametrize("num_matches", [1, 2, 3])
def test_possible_triplets_are_those_kept_and_those_with_a_reason(num_matches):
    rules = MatchingRules(num_matches=num_matches)
    matches = [match_triplets(features(vectors(num)), rules) for num in (4, 30)]
    pools = [
        {"anchors": m.anchors, "triplets": triplets_of(m), "missing": m.missing} for m in matches
    ]
    counts = matching_counts(pools, num_matches, 10)
    assert counts["possible"] == num_matches**2 * 34
    assert counts["possible"] == counts["kept"] + sum(counts["reasons"].values())


def test_the_image_similarity_decides_between_equal_texts():
    text = np.tile(angles(0), (4, 1))
    images = angles(0, 50, 40, 90)
    rules = MatchingRules(num_matches=1)
    found = match_triplets(features(text, clip=(text, images)), rules)
    assert triplets_of(found)[0][:2] == (0, 2)
    score = multi_modal_score(
        features(text, clip=(text, images)), np.array([0]), np.array([[1, 2]]), rules
    )
    expected = [0.7 + 0.3 * np.cos(np.radians(d)) for d in (50, 40)]
    assert score[0] == pytest.approx(expected, abs=1e-6)
