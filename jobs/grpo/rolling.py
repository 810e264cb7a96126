"""Roll out and score groups: every worker does its share of the prompts, all learn the result."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ffr_core.generation import Completion, Sampling
from ffr_core.prompts import Prompts
from ffr_core.rewards import RewardSettings, read_answer, score
from ffr_core.rollout import Group, Rollout
from jobs.grpo.config import RolloutConfig
from jobs.grpo.data import Sample, make_request
from jobs.grpo.engines import Sampler
from jobs.training.distributed import gather_objects

if TYPE_CHECKING:
    from ffr_core.embedding.clip import ClipEmbedder


class Roller:
    """Samples groups with the policy that the sampler holds."""

    def __init__(
        self,
        sampler: Sampler,
        samples: Mapping[str, Sample],
        prompts: Prompts,
        config: RolloutConfig,
        rewards: RewardSettings,
        clip: ClipEmbedder | None,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Keep what does not change during a run.

        Args:
            sampler: Engines with the current policy.
            samples: By sample id.
            prompts: Templates.
            config: Group size and sampling.
            rewards: What is paid for.
            clip: Embeds elements for the order reward; None where that is off.
            seed: Of the run; a rollout's seed follows from it, the step, the sample and its number.
            rank: This worker.
            world_size: All workers.
        """
        self.failures: Counter[str] = Counter()
        """Reasons why an engine gave no answer, all workers together."""
        self.sampler, self._samples, self._prompts = sampler, samples, prompts
        self._config, self._rewards, self.clip = config, rewards, clip
        self._seed, self._rank, self._world = seed, rank, world_size

    def roll(self, sample_ids: Sequence[str], stage: str, version: int) -> list[Group]:
        """Sample and score one group for each prompt, in one generate call of each worker.

        A group with a failed request keeps no rollouts, so it is dropped; `failures` says why.
        """
        mine = sample_ids[self._rank :: self._world]
        completions = self._generate(mine, version)
        size = self._config.group_size
        groups = [
            self._group(self._samples[sample_id], completions[i * size : (i + 1) * size])
            for i, sample_id in enumerate(mine)
        ]
        gathered = gather_objects(groups)
        found = {sample_id: item for part in gathered for sample_id, item in part}
        made = []
        for sample_id in sample_ids:
            rollouts, error = found[sample_id]
            if error is not None:
                self.failures[error] += 1
            made.append(
                Group(sample_id=sample_id, stage=stage, policy_version=version, rollouts=rollouts)
            )
        return made

    def _generate(self, sample_ids: Sequence[str], version: int) -> list[Completion]:
        requests = []
        for sample_id in sample_ids:
            for number in range(self._config.group_size):
                sampling = Sampling(
                    sampling_temperature=self._config.sampling_temperature,
                    top_p=self._config.top_p,
                    max_new_tokens=self._config.max_new_tokens,
                    seed=rollout_seed(self._seed, version, sample_id, number),
                )
                requests.append(
                    make_request(
                        self._samples[sample_id],
                        self._prompts,
                        sampling,
                        number,
                        self.sampler.adapter,
                    )
                )
        return self.sampler.generate(requests) if requests else []

    def _group(
        self, sample: Sample, completions: Sequence[Completion]
    ) -> tuple[str, tuple[tuple[Rollout, ...], str | None]]:
        """Score the completions of one sample."""
        errors = [c.error or "no reason given" for c in completions if c.finish_reason == "error"]
        if errors:
            return sample.sample_id, ((), errors[0])
        answers = [read_answer(completion.text) for completion in completions]
        named = [answer for answer in answers if answer is not None]
        vectors = None if self.clip is None else self.clip.elements(sample.dialogue, named)
        rollouts = tuple(
            Rollout(
                text=completion.text,
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                reward=score(
                    completion.text,
                    sample.query.relevance,
                    self._rewards,
                    utterances=vectors.utterances if vectors else {},
                    images=vectors.images if vectors else {},
                    turn_of_image=sample.dialogue.turn_of_image,
                ),
            )
            for completion in completions
        )
        return sample.sample_id, (rollouts, None)


def rollout_seed(seed: int, version: int, sample_id: str, number: int) -> int:
    """Seed of one rollout, 0 to 2^31 - 1; the same in any batch and on any number of workers."""
    digest = hashlib.sha256(f"{seed}|{version}|{sample_id}|{number}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
