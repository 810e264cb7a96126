"""Evaluation during training: the real metric, through the Engine seam, a share on each worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from ffr_core.errors import InputError
from ffr_core.generation import Completion, GenerationRequest, Sampling
from ffr_core.metrics.segmentation import b_cubed, pairwise
from ffr_core.metrics.selection import Counts, count, joint, scores
from ffr_core.parsing import parse_clusters, parse_selection
from ffr_core.prompts import Prompts
from ffr_core.protocols import Engine
from jobs.training.distributed import gather_objects
from jobs.training.examples import Example, Task

METRIC = {"localize": "eval/joint_f1", "segment": "eval/pairwise_f1"}
"""The metric that chooses the best checkpoint."""


def evaluate(
    engine: Engine,
    examples: Sequence[Example],
    prompts: Prompts,
    task: Task,
    *,
    max_new_tokens: int,
    say: Callable[[str], None] = lambda line: None,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """Answer all examples greedily and score them; every worker gets the scores of all.

    Returns:
        `localize`: micro precision, recall, F1 and MCC of utterances, images and both (joint).
        `segment`: pairwise and B-cubed P, R, F1, averaged over dialogues. Both: the shares of
        well-formed answers and of requests that the engine could not answer (scored as empty, and
        told to `say`).

    Raises:
        InputError: The engine could answer nothing; the score would be that of empty answers.
    """
    mine = examples[rank::world_size]
    completions = engine.generate(
        [
            GenerationRequest(
                request_id=example.example_id,
                messages=example.messages(prompts),
                sampling=Sampling(max_new_tokens=max_new_tokens),
            )
            for example in mine
        ]
    )
    pairs = list(zip(mine, completions, strict=True))
    rows = [score_one(example, completion, task) for example, completion in pairs]
    every = [row for part in gather_objects(rows) for row in part]
    errors = [row["error"] for row in every if row["error"]]
    if errors and len(errors) == len(every):
        raise InputError(
            f"none of {len(every)} evaluation examples can be answered, such as: {errors[0]};"
            " correct the evaluation files or the limits of the run"
        )
    if errors:
        say(f"{len(errors)} of {len(every)} evaluation examples not answered: {errors[0]}")
    return summarize(every, task)


def score_one(example: Example, completion: Completion, task: Task) -> dict[str, object]:
    """Counts (localize) or scores (segment) of one answer."""
    turns, images = len(example.dialogue.turns), len(example.dialogue.images)
    error = (completion.error or "no reason given") * (completion.finish_reason == "error")
    if task == "segment":
        parsed = parse_clusters(completion.text, turns)
        return {
            "well_formed": parsed.well_formed,
            "error": error,
            "pairwise": pairwise(parsed.clusters, example.clusters),
            "b_cubed": b_cubed(parsed.clusters, example.clusters),
        }
    answer = parse_selection(completion.text, turns, images)
    gold, mine = example.selection, answer.selection
    return {
        "well_formed": answer.well_formed,
        "error": error,
        "utterance": count(
            mine.utterance_ids, gold.utterance_ids, turns, answer.unknown_utterances
        ),
        "image": count(mine.image_ids, gold.image_ids, images, answer.unknown_images),
    }


def summarize(rows: Sequence[dict[str, object]], task: Task) -> dict[str, float]:
    """Scores of all answers, named `eval/...`."""
    total = max(1, len(rows))
    result = {
        "eval/well_formed": sum(bool(row["well_formed"]) for row in rows) / total,
        "eval/errors": sum(bool(row["error"]) for row in rows) / total,
    }
    if task == "segment":
        for name in ("pairwise", "b_cubed"):
            for part in ("precision", "recall", "f1"):
                values = [getattr(row[name], part) for row in rows]
                result[f"eval/{name}_{part}"] = sum(values) / total
        return result
    utterance, image = (
        scores(sum((row[name] for row in rows), Counts())) for name in ("utterance", "image")
    )
    both = joint(utterance, image)
    for name, found in (("utterance", utterance), ("image", image), ("joint", both)):
        result |= {f"eval/{name}_{part}": value for part, value in asdict(found).items()}
    return result
