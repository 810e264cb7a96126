"""Known answers for the parts of the laptop segmenter and for the baselines."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.segmentation import even_cuts, reply_rule, text_tiling
from ffr_core.segmentation.addressing import Addressing
from ffr_core.segmentation.cues import MARKERS, TurnCues, lexical_vectors
from ffr_core.segmentation.gaps import _speaker_rows, gap_features
from ffr_core.segmentation.linear import (
    best_cuts,
    expected_fragments,
    same_fragment,
    temper_rate,
)
from ffr_core.segmentation.replies import follow, link_features
from ffr_core.segmentation.similarity import block_cosines, centered, cumulated, depths, z_scores
from ffr_core.segmentation.threads import best_clusters, pair_features, pair_matrix
from ffr_core.segmentation.training import (
    Example,
    _link_gradient,
    first_dialogues,
    fit_links,
    fit_logistic,
)
from ffr_core.segmentation.weights import LinkScorer
from ffr_core.types import Dialogue, Turn


def dialogue(*lines):
    turns = tuple(
        Turn(turn_id=i, speaker=speaker, text=text) for i, (speaker, text) in enumerate(lines)
    )
    return Dialogue(dialogue_id="d", turns=turns)


def ids(fragments):
    return [fragment.turn_ids for fragment in fragments]


def test_even_cuts_round_the_length_and_keep_the_rest():
    one = dialogue(*[("A", "x")] * 7)
    assert ids(even_cuts(one, 2.6)) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert ids(even_cuts(one, 0.1)) == [(i,) for i in range(7)]


def test_text_tiling_cuts_where_the_direction_turns():
    vectors = np.repeat(np.eye(3, dtype=np.float32), [4, 5, 3], axis=0)
    assert ids(text_tiling(vectors)) == [(0, 1, 2, 3), (4, 5, 6, 7, 8), (9, 10, 11)]
    assert ids(text_tiling(np.ones((6, 2), np.float32) / math.sqrt(2))) == [tuple(range(6))]
    assert ids(text_tiling(np.ones((1, 1), np.float32))) == [(0,)]


def test_reply_rule_follows_the_addressee_then_the_speaker():
    one = dialogue(
        ("ann", "my screen is black"),
        ("cid", "any good pizza here?"),
        ("bob", "ann: which driver?"),
        ("dora", "@cid try the corner"),
        ("ann", "no idea"),
        ("bob", "look it up"),
    )
    assert ids(reply_rule(one)) == [(0, 2, 4, 5), (1, 3)]


def test_addressing_reads_colon_comma_at_and_first_names():
    one = dialogue(
        ("Ann Lee", "hi"),
        ("Bo", "ann, are you there"),
        ("小王", "@Bo 在吗"),
        ("Bo", "小王：在"),
        ("Ann Lee", "ask bo about it"),
        ("Bo", "Bo: talking to myself"),
        ("Bo", "note: nobody of that name"),
    )
    addressing = Addressing.of(one)
    assert addressing.addressees == ((), ("Ann Lee",), ("Bo",), ("小王",), (), (), ())
    assert addressing.mentions[4] == {"Bo"}
    assert addressing.share([None] * 7) == 3 / 7
    assert addressing.share([None] * 6 + [0]) == 4 / 7


def test_cues_of_two_languages():
    cues = TurnCues.of(dialogue(("A", "By the way, do you like tea?"), ("B", "我喜欢喝茶，你呢")))
    assert cues.words_T.tolist() == [7.0, 1 + 7 / 1.6]
    assert cues.question_T.tolist() == [1, 1]
    marked = [{m for m, on in zip(MARKERS, row, strict=True) if on} for row in cues.markers_TC]
    assert marked == [{"shift", "asks_you"}, {"asks_you", "about_me"}]
    assert cues.tokens[1] == ("我喜", "喜欢", "欢喝", "喝茶", "茶你", "你呢")
    assert cues.minutes_T is None


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Hm. How are you?", True),
        ("WHAT? do as you like, right?", True),
        ("where\nis yours\n?", True),
        ("you, how?", False),
        ("what a day. You?", False),
        ("would you! ok?", False),
        ("how young?", False),
        ("anyhow you?", False),
        ("您好。在吗", False),
        ("好。你在家吗", True),
        ("你！在呢", False),
    ],
)
def test_a_question_to_the_other_stands_in_one_sentence(text, asks):
    [row] = TurnCues.of(dialogue(("A", text))).markers_TC
    assert row[list(MARKERS).index("asks_you")] == asks


@pytest.mark.parametrize(
    "part",
    [
        *("do you ", "how ", "you ", "so what would you say which any ", "你", "吗 ", "你吗", "'"),
        *("! ", " ", "\n", "@ab", "ab: ", "a", "a'", "next ", "3", "，"),
    ],
)
def test_a_long_turn_without_punctuation_is_read_in_linear_time(part):
    text = (part * 100_000)[:100_000]
    start = time.process_time()
    one = dialogue(("ab", text), ("B", text + "x"))
    TurnCues.of(one), Addressing.of(one)
    assert time.process_time() - start < 2  # two turns


def test_speakers_beyond_the_most_frequent_share_a_column():
    rng = np.random.default_rng(0)
    few = np.concatenate([np.arange(256), rng.integers(0, 256, 600)])
    for size in (4, 64):
        expected = block_cosines(cumulated(np.eye(256)[few]), size)
        assert np.array_equal(block_cosines(cumulated(_speaker_rows(few)), size), expected)
    many = np.concatenate([np.arange(3000), np.repeat(np.arange(2000, 2255), 2)])
    rows_TS = _speaker_rows(many)
    assert rows_TS.shape == (3510, 256)
    columns = rows_TS.argmax(axis=1)
    assert set(columns[2000:2255]) == set(range(255))
    assert set(columns[:2000]) == {255}


def test_lexical_vectors_keep_words_of_several_turns_only():
    rows = lexical_vectors([["a", "b"], ["a", "c"], ["d"], ["d", "d"], ["e"]], most=1.0)
    assert rows.shape == (5, 2)
    assert rows[0] @ rows[2] == 0
    assert rows[0] @ rows[1] == pytest.approx((math.log(2) * math.log(5 / 2)) ** 2)
    assert not rows[4].any()


def test_similarity_by_hand():
    rows = np.array([[1, 0], [1, 0], [0, 1]], float)
    assert block_cosines(cumulated(rows), 1) == pytest.approx([1, 0], abs=1e-5)
    assert block_cosines(cumulated(rows), 2) == pytest.approx([1 / math.sqrt(2), 0], abs=1e-5)
    assert depths(np.array([0.9, 0.2, 0.5, 0.1, 0.8])).tolist() == pytest.approx([0, 1, 0, 1.1, 0])
    assert not centered(np.ones((4, 3)), np.ones(4)).any()
    assert z_scores(np.array([1.0, 3.0])).tolist() == [-1, 1]
    assert z_scores(np.full(5, 0.3)).tolist() == [0] * 5


def test_expected_fragments_and_the_pull_towards_it():
    assert expected_fragments(16) == 4
    assert expected_fragments(6000) == pytest.approx(10 * expected_fragments(600))
    boundary = np.full(15, 0.8)
    kept, pulled = temper_rate(boundary, 0.0), temper_rate(boundary, 1.0)
    assert kept.sum() == pytest.approx(min(13 * math.exp(0.15) - 1, 12), abs=1e-3)
    assert pulled.sum() == pytest.approx(3, abs=1e-3)


def test_same_fragment_multiplies_the_gaps_that_hold():
    same = same_fragment(np.array([0.5, 0.2]))
    assert same == pytest.approx(np.array([[1, 0.5, 0.4], [0.5, 1, 0.8], [0.4, 0.8, 1]]))


def test_sure_boundaries_are_cut_and_nothing_else():
    boundary = np.full(19, 1e-6)
    boundary[[4, 11]] = 1 - 1e-6
    assert best_cuts(same_fragment(boundary)) == [5, 12]
    assert best_cuts(same_fragment(np.full(19, 1e-6))) == []


def expected_f1(same, cuts):
    edges = [0, *cuts, len(same)]
    inside = [
        p for a, b in itertools.pairwise(edges) for p in itertools.combinations(range(a, b), 2)
    ]
    total = np.triu(same, 1).sum()
    return 2 * sum(same[pair] for pair in inside) / max(len(inside) + total, 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=7))
def test_best_cuts_beat_every_other_segmentation(boundary):
    same = same_fragment(np.array(boundary))
    gaps = range(1, len(same))
    every = [c for n in range(len(same)) for c in itertools.combinations(gaps, n)]
    best = max(expected_f1(same, cuts) for cuts in every)
    assert expected_f1(same, best_cuts(same)) == pytest.approx(best, abs=1e-3)


def test_best_clusters_join_what_belongs_together_wherever_it_is():
    gold = np.array([0, 0, 1, 0, 1, 2, 0, 2])
    same = np.where(gold[:, None] == gold[None, :], 0.9, 0.05)
    for start in (np.zeros(8, int), np.arange(8), gold):
        assert best_clusters(same, start).tolist() == gold.tolist()


def test_pair_matrix_is_symmetric():
    assert pair_matrix(np.array([0.1, 0.2, 0.3]), 3).tolist() == [
        [1, 0.1, 0.2],
        [0.1, 1, 0.3],
        [0.2, 0.3, 1],
    ]


def test_follow_takes_the_best_antecedent_and_the_marked_one_first():
    probabilities = np.array([[1, 0, 0], [0.2, 0.8, 0], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])
    assert follow(probabilities, (None,) * 4).tolist() == [0, 0, 1, 0]
    assert follow(probabilities, (None, None, 0, 2)).tolist() == [0, 0, 0, 0]


def crowd(num_talks):
    """Pairs that talk at the same time, a turn of each in every round."""
    lines, gold = [], []
    for i in range(10):
        for talk in range(num_talks):
            mine, yours = f"p{talk}{'ab'[i % 2]}", f"p{talk}{'ba'[i % 2]}"
            lines.append((mine, f"{yours}: words" if i else "words?"))
            gold.append(talk)
    return dialogue(*lines), np.array(gold)


def test_features_have_stable_shapes_and_are_finite():
    one, _ = crowd(3)
    cues, vectors = TurnCues.of(one), np.eye(30, 8, dtype=np.float32)
    names, gaps = gap_features(cues, vectors)
    assert gaps.shape == (29, len(names)) and np.isfinite(gaps).all()
    names, pairs = pair_features(cues, vectors, same_fragment(np.full(29, 0.1)))
    assert pairs.shape == (30 * 29 // 2, len(names)) and np.isfinite(pairs).all()
    links, exists = link_features(cues, Addressing.of(one), vectors)
    assert links.shape[:2] == exists.shape == (30, 30) and np.isfinite(links).all()
    assert exists.sum(axis=1).tolist() == list(range(1, 31))


def test_fitted_links_find_the_talks_of_another_crowd():
    def example(num_talks):
        one, gold = crowd(num_talks)
        vectors = np.ones((len(gold), 4), np.float32) / 2
        return Example(dialogue=one, cues=TurnCues.of(one), vectors_TD=vectors, gold_T=gold)

    fitted = fit_links([example(3), example(5)], hidden=2, epochs=25)
    scorer = LinkScorer(**{name: np.array(v, np.float32) for name, v in fitted.items()})
    other = example(4)
    features, exists = link_features(other.cues, Addressing.of(other.dialogue), other.vectors_TD)
    probabilities = scorer.probabilities(features, exists)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(40))
    assert follow(probabilities, (None,) * 40).tolist() == other.gold_T.tolist()


def test_link_gradient_is_the_slope_of_the_loss():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4, 3)).astype(np.float32)
    exists = np.tri(5, 4, dtype=bool)
    right = np.zeros_like(exists)
    right[np.arange(5), [0, 1, 0, 2, 3]] = right[3, 0] = True
    shapes = {"linear_F": 3, "hidden_FH": (3, 2), "hidden_bias_H": 2, "output_H": 2}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}

    def scorer(**changed):
        return LinkScorer(mean_F=np.zeros(3), scale_F=np.ones(3), **{**weights, **changed})

    def loss(**changed):
        probabilities = scorer(**changed).probabilities(features, exists)
        return -np.log((probabilities * right).sum(axis=1)).mean()

    for name, slope in _link_gradient(scorer(), features, exists, right).items():
        for cell in np.ndindex(weights[name].shape):
            step = np.zeros_like(weights[name])
            step[cell] = 1e-4
            rise = loss(**{name: weights[name] + step}) - loss(**{name: weights[name] - step})
            assert slope[cell] == pytest.approx(rise / 2e-4, abs=1e-4)


def test_logistic_fit_recovers_its_weights():
    features = np.random.default_rng(0).normal([5, 0, 7], [1, 2, 0], size=(20_000, 3))
    odds = 1.5 * (features[:, 0] - 5) - 0.5 * features[:, 1] - 1
    targets = np.random.default_rng(1).random(20_000) < 1 / (1 + np.exp(-odds))
    model = fit_logistic(("a", "b", "constant"), features, targets, np.ones(20_000), 1.0)
    assert model.weights_F == pytest.approx([1.5, -0.5, 0], abs=0.06)
    assert model.probabilities(model.names, features) == pytest.approx(
        1 / (1 + np.exp(-odds)), abs=0.05
    )


def test_a_file_may_name_its_first_dialogues(tmp_path):
    path = tmp_path / "set.jsonl"
    turn = '{"turn_id": 0, "speaker": "Ana", "text": "hi"}'
    path.write_text("".join(f'{{"dialogue_id": "{i}", "turns": [{turn}]}}\n' for i in range(3)))
    assert [d.dialogue_id for d in first_dialogues(f"{path}:2")] == ["0", "1"]
    assert len(first_dialogues(str(path))) == 3
