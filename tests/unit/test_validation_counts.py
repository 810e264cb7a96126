"""Validation of SFT and GRPO: ids that do not exist count as wrong ones."""

import pytest

from ffr_core.errors import InputError
from ffr_core.generation import Completion
from ffr_core.markup import render_selection
from ffr_core.prompts import Prompts
from ffr_core.types import Dialogue, Query, Selection, Turn
from jobs.grpo.data import Sample
from jobs.grpo.evaluation import count_answers, summarize
from jobs.training.examples import Example
from jobs.training.sft_eval import evaluate, score_one

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


class Failing:
    """Answers none of the first `failing` requests."""

    def __init__(self, failing):
        self._failing = failing

    def generate(self, requests):
        return [
            Completion(request_id=r.request_id, text="", finish_reason="error", error="no room")
            if number < self._failing
            else ANSWER
            for number, r in enumerate(requests)
        ]


def test_sft_validation_says_what_is_not_answered():
    prompts = Prompts.load("compact")
    examples = [
        Example(example_id=str(i), view_id="v", dialogue=TALK, query="q", selection=GOLD)
        for i in range(4)
    ]
    said = []

    def run(failing):
        return evaluate(
            Failing(failing), examples, prompts, "localize", max_new_tokens=1, say=said.append
        )

    assert run(0)["eval/errors"] == 0 and not said
    assert run(1)["eval/errors"] == 0.25
    assert said == ["1 of 4 evaluation examples not answered: no room"]
    with pytest.raises(InputError, match=r"none of 4 evaluation examples can be answered.*no room"):
        run(4)


def test_sft_validation_counts_made_up_ids():
    example = Example(example_id="e", view_id="v", dialogue=TALK, query="q", selection=GOLD)
    row = score_one(example, ANSWER, "localize")
    assert (row["utterance"].fp, row["image"].fp) == (3, 1)
