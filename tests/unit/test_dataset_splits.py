from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from dataset_parts import short, tagged
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.dataset.near_duplicates import (
    bands_for,
    jaccard,
    near_duplicate_pairs,
    shingles,
)
from ffr_core.dataset.queries import (
    QueryRules,
    draw_queries,
    fragment_of,
    is_negative,
    tagged_elements,
)
from ffr_core.dataset.splits import (
    SplitRules,
    assign_pools,
    cluster_sample,
    divide,
    find_leaks,
    groups_of,
    image_links,
    pool_shares,
    proportional,
)
from ffr_core.errors import ConfigError
from ffr_core.types import QueryKind, Selection

BOATS = tagged(
    short("boats", ["red boat", "sail it", "the lake", "calm water"], {0: ["boat"], 3: ["x", "y"]}),
    {0: ("sailing", "buying a boat"), 1: ("sailing", "lakes"), 2: ("sailing", "lakes")}
    | {3: ("sailing", "buying a boat")},
    {0: ("sailing", "buying a boat"), 1: ("sailing", "water"), 2: ("sailing", "water")},
    fragments=((0, 1), (2, 3)),
)
BREAD = tagged(
    short("bread", ["bake bread", "flour?", "salt"], {}),
    {0: ("baking", "ovens"), 1: ("baking", "ovens"), 2: ("baking", "ovens")},
    fragments=((0, 1, 2),),
)


def test_tags_and_their_kinds():
    found = {t.tag: t for t in tagged_elements(BOATS)}
    assert found["sailing"].selection == Selection(
        utterance_ids=frozenset(range(4)), image_ids=frozenset(range(3))
    )
    assert {tag: t.kind for tag, t in found.items()} == {
        "sailing": QueryKind.MULTI_MODAL,
        "buying a boat": QueryKind.MULTI_MODAL,
        "lakes": QueryKind.UTTERANCE_ONLY,
        "water": QueryKind.IMAGE_ONLY,
    }


def test_the_gold_fragment_holds_four_fifths_of_the_turns():
    dialogue = BOATS.dialogue
    assert fragment_of(dialogue, Selection(utterance_ids=frozenset({0, 1}))) == 0
    assert fragment_of(dialogue, Selection(utterance_ids=frozenset({0, 2}))) is None
    assert fragment_of(dialogue, Selection(image_ids=frozenset({1, 2}))) == 1
    assert fragment_of(dialogue, Selection()) is None


def test_four_kinds_with_the_gold_of_their_tags():
    rules = QueryRules(negative=1.0)
    drawn = draw_queries([BOATS, BREAD], rules)
    kinds = {q.kind: q for q in drawn.items[0].dialogue.queries}
    assert set(kinds) == set(QueryKind)
    gold = {t.tag: t.selection for t in tagged_elements(BOATS)}
    for kind, query in kinds.items():
        if kind is QueryKind.NEGATIVE:
            assert query.query in {"baking", "ovens"} and not query.relevance
        else:
            assert query.relevance == gold[query.query]
            assert query.source_kind in ("coarse", "fine")
    # BREAD has no images: what was wanted and is missing is counted.
    assert drawn.short == {"image-only": 1, "multi-modal": 1}
    assert sum(drawn.by_kind.values()) + sum(drawn.short.values()) == 8
    assert drawn == draw_queries([BOATS, BREAD], rules)


def test_derived_queries_ask_for_one_modality():
    item = replace(BOATS, image_tags={i: BOATS.image_tags[0] for i in range(3)})
    rules = QueryRules(image_only=3, multi_modal=0, utterance_only=0, negative=0)
    drawn = draw_queries([item], replace_rules(rules, derive_one_modality=True))
    texts = {q.query: q.relevance for q in drawn.items[0].dialogue.queries}
    assert texts["pictures: buying a boat"] == Selection(image_ids=frozenset({0, 1, 2}))
    assert draw_queries([item], rules).short == {"image-only": 3}


def replace_rules(rules, **changes):
    return replace(rules, **changes)


@pytest.mark.parametrize(
    ("tag", "negative"),
    [
        ("baking", True),
        ("sailing", False),
        ("LAKES", False),
        ("boats and trains", True),  # words are compared as they stand
        ("repairing a boat", False),
        ("lake", False),
        ("ake", False),
    ],
)
def test_what_is_really_negative(tag, negative):
    assert is_negative(tag, BOATS) is negative


def test_dialogues_that_share_a_member_lend_no_negatives():
    rules = QueryRules(multi_modal=0, utterance_only=0, image_only=0, negative=1)
    relative = replace(BREAD, members=("boats", "bread"))
    assert draw_queries([BOATS, BREAD], rules).by_kind == {"negative": 2}
    assert draw_queries([BOATS, relative], rules).short == {"negative": 2}


def test_embeddings_veto_a_negative_that_means_the_same():
    """With an embedding that puts everything at one place, no tag is far enough."""
    rules = QueryRules(multi_modal=0, utterance_only=0, image_only=0, negative=1)
    same = draw_queries([BOATS, BREAD], rules, embed=lambda t: np.ones((len(t), 1), np.float32))
    assert same.short == {"negative": 2}

    def apart(texts):
        bread = {"bake bread", "flour?", "salt", "baking", "ovens"}
        return np.array([[0, 1] if t in bread else [1, 0] for t in texts], np.float32)

    assert draw_queries([BOATS, BREAD], rules, embed=apart).by_kind == {"negative": 2}


def test_a_dialogue_asks_the_same_words_once():
    """`travel` is a tag of both levels with other elements; four negatives are wanted of two."""
    shore = tagged(
        short("shore", ["a beach", "a beach", "shore", "waves"], {}),
        {0: ("travel", "travel"), 1: ("travel", "travel")}
        | {2: ("travel", "surfing"), 3: ("travel", "surfing")},
        {},
        fragments=((0, 1, 2, 3),),
    )
    rules = QueryRules(multi_modal=0, image_only=0, utterance_only=3, negative=4)
    drawn = draw_queries([shore, BREAD], rules)
    for item in drawn.items:
        texts = [query.query for query in item.dialogue.queries]
        assert len(texts) == len(set(texts))
    assert drawn.by_kind == {"utterance-only": 4, "negative": 4}
    assert drawn.short == {"utterance-only": 2, "negative": 4}


def test_shingles_and_jaccard_by_hand():
    a, b = shingles("the red boat sails"), shingles("The red boat sinks!")
    assert len(a) == len(b) == 2  # "the red boat" and one more each
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert len(shingles("去湖边坐船")) == 3
    assert jaccard(shingles(""), shingles("")) == 0.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_min_hash_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(400)]
    base = [list(rng.choice(words, size=30)) for _ in range(20)]
    texts = [" ".join(t) for t in base]
    for t in base[:10]:
        copy = list(t)
        for _ in range(int(rng.integers(0, 3))):
            copy[int(rng.integers(len(copy)))] = "changed"
        texts.append(" ".join(copy))
    sets = [shingles(t) for t in texts]
    brute = [
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if jaccard(sets[i], sets[j]) >= 0.6
    ]
    assert near_duplicate_pairs(sets, 0.6) == brute


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.6, 0.7, 0.9])
def test_no_pair_just_above_the_threshold_is_overlooked(threshold):
    rng = np.random.default_rng(1)
    length = 62
    changed = int((length - 1) * (1 - threshold) / (1 + threshold)) - 1
    texts = []
    for _ in range(400):
        words = [f"w{i}" for i in rng.integers(5000, size=length)]
        other = [f"x{i}" for i in rng.integers(5000, size=changed)]
        texts += [" ".join(words), " ".join(words[: length - changed] + other)]
    sets = [shingles(text) for text in texts]
    near = {(i, i + 1) for i in range(0, 800, 2) if jaccard(sets[i], sets[i + 1]) >= threshold}
    assert len(near) > 300
    assert set(near_duplicate_pairs(sets, threshold)) == near


def test_a_threshold_that_finds_everything_is_refused():
    assert bands_for(0.7) == (50, 3) and bands_for(0.4) == (119, 2)
    with pytest.raises(ConfigError, match="is too low"):
        bands_for(0.3)
    with pytest.raises(ConfigError, match="duplicate_threshold"):
        SplitRules(duplicate_threshold=0.3)


def test_groups_and_image_links():
    assert groups_of(5, [(3, 1), (1, 4)]) == [[0], [1, 3, 4], [2]]
    assert groups_of(3, image_links([{"x"}, {"y", "x"}, {"z"}])) == [[0, 1], [2]]


def test_pool_shares_by_hand():
    shares = pool_shares(100_000, SplitRules())
    assert shares["validation"] == pytest.approx(1 / 200)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["sft"] / (shares["sft"] + shares["rft"]) == pytest.approx(0.25)
    assert pool_shares(90, SplitRules())["validation"] == 0.10
    assert pool_shares(100, SplitRules(num_validation=3))["validation"] == 0.05


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=100, max_size=160), seed=st.integers(0, 99))
def test_pools_get_their_shares_and_groups_stay_whole(sizes, seed):
    ends = np.cumsum(sizes)
    groups = [list(range(e - s, e)) for s, e in zip(sizes, ends, strict=True)]
    shares = {"sft": 0.2, "rft": 0.6, "validation": 0.1, "boundary_test": 0.1}
    pools = assign_pools(groups, shares, seed)
    assert all(len({pools[i] for i in group}) == 1 for group in groups)
    counts = Counter(pools.values())
    for pool, share in shares.items():
        assert abs(counts[pool] - share * ends[-1]) <= 4


def test_near_duplicates_and_shared_images_stay_in_one_pool():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"w{i}" for i in range(500)], size=25)) for _ in range(80)]
    texts[40] = texts[3] + " again"
    keys = [{f"k{i}"} for i in range(80)]
    keys[50] = {"k7", "other"}
    pools = divide(texts, keys, SplitRules())
    assert pools[40] == pools[3] and pools[50] == pools[7]
    assert set(pools) == {"sft", "rft", "validation", "boundary_test"}
    assert pools == divide(texts, keys, SplitRules())


def test_leaks_are_found():
    texts = {"boats": "one two three four five six", "bread": "a b c d e f", "b2": "a b c d e f g"}
    copy = replace(BREAD, members=("b2",), image_keys=("boats-1",))
    pools = {"sft": [BOATS], "rft": [BREAD], "validation": [copy]}
    assert find_leaks({"sft": [BOATS], "rft": [BREAD]}, texts, 0.7) == []
    assert find_leaks(pools, texts, 0.7) == [
        "image boats-1 is in sft and validation",
        "b2 in validation is a near-duplicate of bread in rft",
    ]
    assert find_leaks({"sft": [BOATS], "rft": [BOATS]}, texts, 0.7)[0] == (
        "dialogue boats is in sft and rft"
    )


def test_proportional_by_hand():
    assert proportional([5, 3, 2], 5) == [3, 1, 1]
    assert proportional([1, 1], 1) == [1, 0]


def test_the_cluster_sample_is_proportional():
    rng = np.random.default_rng(0)
    centers = np.eye(4, 8) * 5
    labels = np.repeat([0, 1, 2, 3], [400, 300, 200, 100])
    rows = (centers[labels] + 0.1 * rng.standard_normal((1000, 8))).astype(np.float32)
    chosen = cluster_sample(rows, 50, 4, seed=0)
    assert len(set(chosen)) == 50 and chosen == sorted(chosen)
    assert Counter(labels[chosen].tolist()) == {0: 20, 1: 15, 2: 10, 3: 5}
    assert cluster_sample(rows[:7], 50, 4, seed=0) == list(range(7))
