"""Scores of a report against values worked by hand."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.metrics.bootstrap import f1_of_shares, interval
from ffr_core.metrics.coherence import (
    coherence,
    elements_in_order,
    mean_neighbor_cosine,
    mean_query_cosine,
)
from ffr_core.rewards import order_consistency, order_elements
from ffr_core.types import Dialogue, Image, Query, Selection, Turn
from jobs.report.config import SetConfig
from jobs.report.scoring import (
    compare,
    count_table,
    per_dialogue,
    summarize,
    summarize_recall,
    summarize_search,
)
from jobs.report.sets import (
    groups,
    load_data,
    normalized_span,
    query_rows,
    span_bucket,
    turn_bucket,
)

SAMPLE = Path(str(resources.files("ffr_core"))) / "data" / "sample"


def query(dialogue, utt, img=(), kind="multi-modal", turns=10, images=4):
    return {
        "id": f"{dialogue}/0",
        "dialogue_id": dialogue,
        "query": "q",
        "utt_ids": list(utt),
        "img_ids": list(img),
        "num_turns": turns,
        "num_images": images,
        "groups": {"kind": kind, "language": "en", "turns": "up to 35", "span": "1 (contiguous)"},
    }


def chosen(utt, img=(), **more):
    return {"utt_ids": list(utt), "img_ids": list(img), "seconds": 0.5, **more}


def cell(queries, selection, **more):
    return {
        "system": "s",
        "set": "t",
        "not_run": None,
        "counts": {},
        "queries": queries,
        "selection": selection,
        **more,
    }


ONE = cell(
    [query("a", [0, 1], [0]), query("a", [2]), query("b", [5, 6, 7], [1, 2])],
    [chosen([1, 2], [0]), chosen([]), chosen([5, 6, 7, 8], [2, 3])],
)


def test_counts_of_every_query_are_those_worked_by_hand():
    assert count_table(ONE).tolist() == [
        [1, 1, 1, 7, 1, 0, 0, 3],
        [0, 0, 1, 9, 0, 0, 0, 4],
        [3, 1, 0, 6, 1, 1, 1, 1],
    ]


def test_ids_that_an_answer_makes_up_are_false_positives():
    """`[0, 50, 51, 52]` of 10 turns with gold {0}: one of four is right, and nothing is empty."""
    gold = [query("a", [0]), query("b", [], kind="negative")]
    named = [
        chosen([0], unknown_utt=3, unknown_img=0),
        chosen([], unknown_utt=0, unknown_img=1),
    ]
    made_up = cell(gold, named)
    assert count_table(made_up).tolist() == [[1, 3, 0, 9, 0, 0, 0, 4], [0, 0, 0, 10, 0, 1, 0, 4]]
    found = summarize(made_up, 20)["selection"]
    assert found["micro"]["utterance"]["precision"] == 1 / 4
    assert found["groups"]["kind"]["negative"]["left_empty"] == 0
    assert per_dialogue(made_up, count_table(made_up))["joint"]["precision"] == (1 / 4 + 0) / 2
    rows = [{"tp": 1, "fp": 3, "fn": 0, "unknown": 3, "seconds": 1.0}]
    # 9 of 10 turns are true negatives: what is made up is no turn.
    assert summarize_search(rows, 10, 20)["mcc"] == pytest.approx(9 / np.sqrt(4 * 1 * 12 * 9))


def test_micro_scores_sum_counts_before_dividing():
    micro = summarize(ONE, 20)["selection"]["micro"]
    assert micro["utterance"]["f1"] == pytest.approx(2 * 4 / (2 * 4 + 2 + 2))
    assert micro["image"]["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert micro["joint"]["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert micro["joint"]["precision"] == pytest.approx(2 / 3)


def test_the_mean_over_dialogues_counts_each_dialogue_once():
    utterance = per_dialogue(ONE, count_table(ONE))["utterance"]
    first, second = 2 * 1 / (2 * 1 + 1 + 2), 2 * 3 / (2 * 3 + 1)
    assert utterance["f1"] == pytest.approx((first + second) / 2)


KINDS = cell(
    [
        query("a", [0, 1], [0]),
        query("b", [], [1, 2], kind="image-only"),
        query("c", [3], kind="utterance-only"),
        query("c", [5], kind="utterance-only"),
        query("d", [4], kind="one-turn"),
        query("e", [], kind="negative"),
    ],
    [
        chosen([1], [0]),
        chosen([], [2, 3]),
        chosen([3]),
        chosen([6]),
        chosen([4], [1]),
        chosen([]),
    ],
)


def test_groups_partition_the_queries_and_average_the_modalities_they_name():
    kinds = summarize(KINDS, 20)["selection"]["groups"]["kind"]
    assert {name: (group["queries"], group["f1"]) for name, group in kinds.items()} == {
        "multi-modal": (1, pytest.approx((2 / 3 + 1) / 2)),
        "image-only": (1, pytest.approx(1 / 2)),
        "utterance-only": (2, pytest.approx(1 / 2)),
        "one-turn": (1, 1.0),  # its wrong image does not halve it
        "negative": (1, 1),
    }
    assert kinds["image-only"]["f1_interval"] == pytest.approx([1 / 2, 1 / 2])
    assert (kinds["negative"]["left_empty"], kinds["negative"]["tp_fn"]) == (1, 0)
    assert kinds["multi-modal"]["left_empty"] == 0


def test_the_mean_over_dialogues_averages_the_modalities_that_each_names():
    found = per_dialogue(KINDS, count_table(KINDS))
    assert found["utterance"]["f1"] == pytest.approx((2 / 3 + 1 + 1 / 2 + 1 + 1) / 5)
    assert found["image"]["f1"] == pytest.approx((1 + 1 / 2 + 1 + 0 + 1) / 5)
    assert found["joint"]["f1"] == pytest.approx((5 / 6 + 1 / 2 + 1 / 2 + 1 + 1) / 5)


def test_a_perfect_system_has_all_scores_1_in_every_dialogue_and_group():
    rows = query_rows(load_data(SetConfig(name="sample", path=str(SAMPLE))))
    right = cell(rows, [chosen(row["utt_ids"], row["img_ids"]) for row in rows])
    found = summarize(right, 20)["selection"]
    groups_of_sample = [group for names in found["groups"].values() for group in names.values()]
    assert len(groups_of_sample) > 10
    for scores in (found["micro"]["joint"], found["per_dialogue"]["joint"], *groups_of_sample):
        assert [scores[name] for name in ("precision", "recall", "f1", "mcc")] == [1] * 4


def test_a_set_with_one_modality_keeps_the_papers_joint_score():
    only_images = cell([query("a", [], [0])], [chosen([], [0])])
    assert summarize(only_images, 20)["selection"]["micro"]["joint"]["f1"] == 0.5


def test_without_gold_images_the_headline_is_about_utterances():
    plain = cell([query("a", [0])], [chosen([0])])
    found = summarize(plain, 20)["selection"]
    assert found["headline"] == "utterance"
    assert found["intervals"]["f1"] == pytest.approx((1.0, 1.0))


def test_a_missing_part_is_absent_and_a_reason_is_kept():
    empty = {"not_run": "no model", "counts": {}, "queries": []}
    assert summarize(empty) == {"not_run": "no model", "counts": {}}


def test_coherence_is_averaged_over_the_selections_that_have_it():
    rows = [
        chosen([0], consistency=None, similarity=0.2),
        chosen([1], consistency=0.5, similarity=0.4),
    ]
    found = summarize(cell([query("a", [0]), query("a", [1])], rows), 20)["selection"]
    assert found["consistency"] == {"mean": 0.5, "queries": 1}
    assert found["similarity"]["mean"] == pytest.approx(0.3)


def test_a_difference_is_significant_only_when_its_interval_leaves_out_zero():
    queries = [query("a", [i % 10]) for i in range(40)]
    right = cell(queries, [chosen([i % 10]) for i in range(40)])
    wrong = cell(queries, [chosen([(i + 1) % 10]) for i in range(40)])
    same = compare(right, right, 50)["selection_f1"]
    assert same == {"mean": 0, "low": 0, "high": 0, "significant": False}
    better = compare(right, wrong, 50)["selection_f1"]
    assert better["mean"] == 1 and better["significant"]
    assert compare(wrong, right, 50)["selection_f1"]["mean"] == -1


def test_recall_and_search_summaries():
    recall = summarize_recall({"ranks": [0, 4, None, 12], "cosines": [0.5, 0.3, 0.1, 0.1]}, 20)
    assert (recall["recall@1"], recall["recall@5"], recall["recall@15"]) == (0.25, 0.5, 0.75)
    assert recall["cosine"] == pytest.approx(0.25)
    rows = [
        {"tp": 1, "fp": 1, "fn": 0, "seconds": 1.0},
        {"tp": 0, "fp": 0, "fn": 2, "seconds": 3.0},
    ]
    search = summarize_search(rows, 10, 20)
    assert search["f1"] == pytest.approx(2 / (2 + 1 + 2))
    assert search["seconds"] == 2
    tp, fp, fn, tn = 1, 1, 2, 16
    expected = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert search["mcc"] == pytest.approx(expected)


def test_the_interval_of_equal_queries_is_a_point_and_of_others_holds_the_score():
    equal = interval(np.tile([1.0, 1.0, 0.0], (7, 1)), f1_of_shares, 50)
    assert equal == pytest.approx((2 / 3, 2 / 3))
    mixed = np.array([[1, 0, 0], [0, 1, 1]] * 20, dtype=float)
    low, high = interval(mixed, f1_of_shares, 400)
    assert 0.3 < low < 0.5 < high < 0.7
    with pytest.raises(ValueError, match="no query"):
        interval(np.zeros((0, 3)), f1_of_shares)


def turns(*images_of_turn):
    made, count = [], 0
    for i, number in enumerate(images_of_turn):
        pictures = tuple(Image(image_id=count + k, uri=f"{count + k}.png") for k in range(number))
        count += number
        made.append(Turn(turn_id=i, speaker="A", text=f"text {i}", images=pictures))
    return Dialogue(dialogue_id="d", turns=tuple(made), language="en")


def test_normalized_span_counts_the_turns_of_gold_images():
    dialogue = turns(0, 0, 0, 2, 0, 0, 0, 0)
    gold = Selection(utterance_ids=frozenset({2, 7}), image_ids=frozenset({0, 1}))
    assert normalized_span(dialogue, gold) == 2
    assert normalized_span(dialogue, Selection()) is None
    assert [span_bucket(x) for x in (1.0, 1.5, 2.0, 2.1)] == [
        "1 (contiguous)",
        "up to 2",
        "up to 2",
        "over 2",
    ]
    assert [turn_bucket(n) for n in (35, 36, 65, 66)] == [
        "up to 35",
        "36 to 65",
        "36 to 65",
        "over 65",
    ]
    found = groups(dialogue, Query(query="q", relevance=Selection(), source_kind="qa"))
    assert found == {"kind": "qa", "language": "en", "turns": "up to 35", "span": "no gold"}


class FlatClip:
    """Turn i points along axis i modulo 2, every picture along axis 0, the query along axis 0."""

    def elements(self, dialogue, selections):
        from ffr_core.embedding.clip import ElementVectors

        axis = np.eye(2, dtype=np.float32)
        chosen_turns = {i for s in selections for i in s.utterance_ids}
        chosen_images = {i for s in selections for i in s.image_ids}
        return ElementVectors(
            utterances={i: axis[i % 2] for i in chosen_turns},
            images={i: axis[0] for i in chosen_images},
        )

    def embed_texts(self, texts):
        return np.array([[1.0, 0.0]] * len(texts), dtype=np.float32)


def test_coherence_worked_by_hand():
    dialogue = turns(0, 0, 1, 0)
    picked = Selection(utterance_ids=frozenset({0, 1, 2}), image_ids=frozenset({0}))
    # Elements: [1,0], [0,1], [1,0], picture [1,0]. Neighbors 0, 0, 1; query 1, 0, 1, 1.
    found = coherence("q", dialogue, picked, FlatClip())
    assert found.consistency == pytest.approx(1 / 3)
    assert found.similarity == pytest.approx(3 / 4)
    alone = coherence("q", dialogue, Selection(utterance_ids=frozenset({1})), FlatClip())
    assert (alone.consistency, alone.similarity) == (None, 0)
    nothing = coherence("q", dialogue, Selection(), FlatClip())
    assert (nothing.consistency, nothing.similarity) == (None, None)
    assert mean_query_cosine(np.array([1, 0], np.float32), []) is None


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 8)),
    st.integers(0, 99),
)
def test_order_consistency_is_that_of_the_reward(images_of_turn, utterances, images, seed):
    dialogue = turns(*images_of_turn)
    rng = np.random.default_rng(seed)
    vectors = [
        {i: rng.normal(size=3).astype(np.float32) for i in range(n)}
        for n in (len(dialogue.turns), len(dialogue.images))
    ]
    picked = Selection(
        utterance_ids=frozenset(i for i in utterances if i < len(dialogue.turns)),
        image_ids=frozenset(i for i in images if i < len(dialogue.images)),
    )
    mine = mean_neighbor_cosine(elements_in_order(picked, *vectors, dialogue.turn_of_image))
    reward = order_consistency(order_elements(picked, *vectors, dialogue.turn_of_image))
    assert mine == (None if reward is None else pytest.approx(reward))
