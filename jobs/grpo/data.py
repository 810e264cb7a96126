"""Training samples: one query of one dialogue, named so that runs and files agree on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffr_core.curriculum import CurriculumSampler, ScoredSample, Stage, plan
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.generation import GenerationRequest, Sampling
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.prompts import Prompts
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, Query
from jobs.grpo.config import CurriculumConfig, ModelConfig
from jobs.training.checkpoints import record_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One query with its dialogue."""

    sample_id: str
    """`dialogue_id#position of the query`."""
    dialogue: Dialogue
    query: Query


def load_samples(
    files: Iterable[str], sft_share: float = 0.0, limit: int | None = None
) -> dict[str, Sample]:
    """Read the queries of corpus files, in their order.

    Args:
        files: JSONL in our form; a dialogue_id occurs once over all files.
        sft_share: Dialogues of the SFT share are left out, see `in_sft_share`.
        limit: Stop after so many queries.

    Raises:
        RecordError: A record is broken.
        InputError: A dialogue occurs twice, or nothing is left.
    """
    samples: dict[str, Sample] = {}
    seen: set[str] = set()
    for file in files:
        if not Path(file).is_file():
            raise NotFoundError(f"there is no corpus file {file!r}; check [data] in the TOML file")
        for dialogue in read_jsonl(file):
            if dialogue.dialogue_id in seen:
                raise InputError(
                    f"dialogue {dialogue.dialogue_id!r} occurs twice; give every file once"
                )
            seen.add(dialogue.dialogue_id)
            if in_sft_share(dialogue.dialogue_id, sft_share):
                continue
            for position, query in enumerate(dialogue.queries or ()):
                sample_id = f"{dialogue.dialogue_id}#{position}"
                samples[sample_id] = Sample(sample_id=sample_id, dialogue=dialogue, query=query)
                if len(samples) == limit:
                    return samples
    if not samples:
        raise InputError(f"{len(seen)} dialogues hold no query to use; check files and sft_share")
    return samples


def in_sft_share(dialogue_id: str, share: float) -> bool:
    """Whether a dialogue belongs to the SFT stage; the larger share holds the smaller one."""
    digest = hashlib.sha256(f"sft|{dialogue_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def data_records(samples: Mapping[str, Sample]) -> Iterator[str]:
    """The text of all samples' dialogues with their queries, wherever their files lie."""
    dialogues = {sample.dialogue.dialogue_id: sample.dialogue for sample in samples.values()}
    yield from map(record_text, dialogues.values())


def image_reader(model: ModelConfig, files: Sequence[str]) -> ImageReader:
    """Opens images below the corpus files' folders and `model.image_roots`."""
    roots = [*model.image_roots, *(str(Path(file).resolve().parent) for file in files)]
    return ImageReader(limits=ImageLimits(roots=tuple(dict.fromkeys(roots))))


def make_request(
    sample: Sample, prompts: Prompts, sampling: Sampling, number: int, adapter: str | None
) -> GenerationRequest:
    """Ask for one answer to a sample."""
    return GenerationRequest(
        request_id=f"{sample.sample_id}/{number}",
        messages=prompts.localize(sample.dialogue, sample.query.query),
        sampling=sampling,
        adapter=adapter,
    )


def read_difficulty(path: str | Path) -> tuple[dict[str, ScoredSample], dict[str, int]]:
    """Scores by sample id, and reasons of samples without one, as jobs.score_difficulty writes.

    Raises:
        NotFoundError: No such file.
        ConfigError: A line is cut off or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"there is no difficulty file {path}; run jobs.score_difficulty first")
    scored: dict[str, ScoredSample] = {}
    failed: Counter[str] = Counter()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if "error" in record:
                failed[record["error"]] += 1
                continue
            scored[record["sample_id"]] = ScoredSample(
                **{name: record[name] for name in ("sample_id", "f1", "entropy", "gold_empty")}
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path} line {number} is no score of a sample ({error!r}); run"
                " jobs.score_difficulty again, it goes on where it was"
            ) from error
    return scored, dict(failed)


def make_sampler(
    samples: Iterable[str], config: CurriculumConfig, seed: int, epochs: int
) -> tuple[CurriculumSampler, dict[str, int]]:
    """The order of the samples, and why some are left out.

    Raises:
        NotFoundError: No difficulty file.
        InputError: Samples that were not scored.
    """
    ids = list(samples)
    if not config.difficulty:
        return CurriculumSampler.without_curriculum(ids, seed, epochs), {}
    scored, failed = read_difficulty(config.difficulty)
    missing = [sample_id for sample_id in ids if sample_id not in scored]
    if len(missing) > sum(failed.values()):
        raise InputError(
            f"{len(missing)} samples such as {missing[0]!r} have no score in"
            f" {config.difficulty}; score the same files"
        )
    made = plan([scored[sample_id] for sample_id in ids if sample_id in scored], config.settings())
    stages = made.stages
    if not config.ordered:
        every = tuple(sample_id for stage in stages for sample_id in stage.sample_ids)
        stages = (Stage(name="all", sample_ids=every),)
    left_out = {**made.left_out, **({"no_score": len(missing)} if missing else {})}
    return CurriculumSampler(stages, seed, epochs), left_out
