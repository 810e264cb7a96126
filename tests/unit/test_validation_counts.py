"""Validation of SFT and GRPO: ids that do not exist count as wrong ones."""

from ffr_core.generation import Completion
from ffr_core.markup import render_selection
from ffr_core.types import Dialogue, Query, Selection, Turn
from jobs.grpo.data import Sample
from jobs.grpo.evaluation import count_answers, summarize
from jobs.training.examples import Example
from jobs.training.sft_eval import score_one

TALK = Dialogue(
    dialogue_id="d", turns=tuple(Turn(turn_id=i, speaker="A", text=f"t{i}") for i in range(10))
)
GOLD = Selection(utterance_ids=frozenset({0}), image_ids=frozenset())
MADE_UP = Selection(utterance_ids=frozenset({0, 50, 51, 52}), image_ids=frozenset({7}))
ANSWER = Completion(request_id="r", text=render_selection(MADE_UP))


def test_grpo_validation_counts_made_up_ids():
    sample = Sample(sample_id="d#0", dialogue=TALK, query=Query(query="q", relevance=GOLD))
    utterances, images, _ = count_answers([sample], [ANSWER])
    assert (utterances.tp, utterances.fp, utterances.fn, utterances.tn) == (1, 3, 0, 9)
    assert images.fp == 1
    assert summarize(utterances, images, 1.0)["utterance_f1"] == 2 * 0.25 / 1.25


def test_sft_validation_counts_made_up_ids():
    example = Example(example_id="e", view_id="v", dialogue=TALK, query="q", selection=GOLD)
    row = score_one(example, ANSWER, "localize")
    assert (row["utterance"].fp, row["image"].fp) == (3, 1)
