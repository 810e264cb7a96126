"""Validation: greedy answers, micro scores of utterances, images and both. Source: Sec 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ffr_core.errors import FfrError
from ffr_core.generation import Completion, Sampling
from ffr_core.metrics.selection import Counts, count, joint, scores
from ffr_core.parsing import parse_selection
from ffr_core.prompts import Prompts
from jobs.grpo.data import Sample, make_request
from jobs.grpo.engines import Sampler
from jobs.training.distributed import gather_objects


def evaluate(
    sampler: Sampler,
    samples: Mapping[str, Sample],
    prompts: Prompts,
    max_new_tokens: int,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """Answer every sample greedily, divided over the workers, and score all answers.

    Returns:
        `f1`, `mcc`, `precision`, `recall` (joint), F1 and MCC of each modality (`utterance_f1`,
        ...), and `well_formed`, the share of answers with the output form.

    Raises:
        FfrError: The engine could not answer a sample.
    """
    mine = list(samples.values())[rank::world_size]
    sampling = Sampling(max_new_tokens=max_new_tokens)
    requests = [make_request(s, prompts, sampling, 0, sampler.adapter) for s in mine]
    completions = sampler.generate(requests) if requests else []
    parts = gather_objects(count_answers(mine, completions))
    return summarize(
        sum((part[0] for part in parts), Counts()),
        sum((part[1] for part in parts), Counts()),
        sum(part[2] for part in parts) / max(1, len(samples)),
    )


def count_answers(
    samples: Sequence[Sample], completions: Sequence[Completion]
) -> tuple[Counts, Counts, int]:
    """Confusion tables of utterances and images, and the number of well-formed answers."""
    utterances, images, well_formed = Counts(), Counts(), 0
    for sample, completion in zip(samples, completions, strict=True):
        if completion.finish_reason == "error":
            raise FfrError(
                f"sample {sample.sample_id!r} cannot be answered: {completion.error};"
                " correct the corpus or the limits of [model]"
            )
        num_turns, num_images = len(sample.dialogue.turns), len(sample.dialogue.images)
        parsed = parse_selection(completion.text, num_turns, num_images)
        found, gold = parsed.selection, sample.query.relevance
        utterances += count(
            found.utterance_ids, gold.utterance_ids, num_turns, parsed.unknown_utterances
        )
        images += count(found.image_ids, gold.image_ids, num_images, parsed.unknown_images)
        well_formed += parsed.well_formed
    return utterances, images, well_formed


def summarize(utterances: Counts, images: Counts, well_formed: float) -> dict[str, float]:
    """Scores of confusion tables by name."""
    utterance, image = scores(utterances), scores(images)
    both = joint(utterance, image)
    return {
        "f1": both.f1,
        "mcc": both.mcc,
        "precision": both.precision,
        "recall": both.recall,
        "utterance_f1": utterance.f1,
        "utterance_mcc": utterance.mcc,
        "image_f1": image.f1,
        "image_mcc": image.mcc,
        "well_formed": well_formed,
    }
