"""Difficulty of training samples, and the order in which GRPO sees them.

Source: Sec 5.1.3, Eq 7. Departures (our reading): the `text` preset splits at the medians, since
the paper gives its classes in words only; a stage is finished before the next begins.

Legend: N samples.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from ffr_core.errors import ConfigError, InputError

LabelPreset = Literal["script", "text"]


class Difficulty(StrEnum):
    """From the cold-start adapter, in the order of training."""

    EASY = "easy"
    MEDIUM = "medium"
    CONFUSING = "confusing"
    HARD = "hard"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSample:
    """How the cold-start adapter does on one training sample."""

    sample_id: str
    f1: float
    """Mean F1 of the two modalities, greedy answer, no length penalty, [0, 1]."""
    entropy: float
    """Mean per-token entropy of the generated answer, nats."""
    gold_empty: bool = False
    """The gold selects nothing (a negative query)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurriculumSettings:
    """Which labels, and how much of each class is used."""

    labels: LabelPreset = "script"
    fractions: Mapping[Difficulty, float] = field(
        default_factory=lambda: dict.fromkeys(Difficulty, 1.0)
    )
    """Best share of each class (highest F1, then lowest entropy); what is missing is all of it."""
    drop_empty_gold: bool = False
    """Leave out easy and medium samples whose gold is empty."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, share in self.fractions.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"the fraction of {name} is {share}; expected 0 to 1")


SCRIPT_CURRICULUM = CurriculumSettings(
    labels="script",
    fractions={Difficulty.EASY: 1.0, Difficulty.MEDIUM: 0.1, Difficulty.CONFUSING: 0.5},
    drop_empty_gold=True,
)
"""Source: authors' setting (their released script)."""

TEXT_CURRICULUM = CurriculumSettings(
    labels="text", fractions={Difficulty.EASY: 0.1, Difficulty.MEDIUM: 0.1}
)
"""10 % of easy and medium, all of the rest. Source: Sec 6.1.1, as stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Samples that are trained on together."""

    name: str
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Stages in order, and what was left out of them."""

    stages: tuple[Stage, ...]
    """Stages without samples are left out."""
    left_out: Mapping[str, int]
    """Reason -> number of samples, e.g. `medium_fraction`, `easy_empty_gold`."""


def label(samples: Sequence[ScoredSample], preset: LabelPreset) -> list[Difficulty]:
    """Classes of N samples by a preset."""
    for sample in samples:
        if not 0 <= sample.f1 <= 1 or not 0 <= sample.entropy < float("inf"):
            raise InputError(
                f"sample {sample.sample_id!r} has F1 {sample.f1} and entropy {sample.entropy};"
                " expected [0, 1] and a number >= 0; score it again"
            )
    rule = {"script": label_script, "text": label_text}[preset]
    return rule([s.f1 for s in samples], [s.entropy for s in samples]) if samples else []


def label_script(f1_N: Sequence[float], entropy_N: Sequence[float]) -> list[Difficulty]:
    """Quartile rule over the set.

    Easy F1 >= q75 and H <= q25; else medium F1 >= q50 and H <= q50; else confusing F1 >= q25 and
    H <= q75; else hard. Source: Eq 7, authors' setting.
    """
    f25, f50, f75 = _quantiles(f1_N)
    h25, h50, h75 = _quantiles(entropy_N)
    labels = []
    for f1, entropy in zip(f1_N, entropy_N, strict=True):
        if f1 >= f75 and entropy <= h25:
            labels.append(Difficulty.EASY)
        elif f1 >= f50 and entropy <= h50:
            labels.append(Difficulty.MEDIUM)
        elif f1 >= f25 and entropy <= h75:
            labels.append(Difficulty.CONFUSING)
        else:
            labels.append(Difficulty.HARD)
    return labels


def label_text(f1_N: Sequence[float], entropy_N: Sequence[float]) -> list[Difficulty]:
    """The paper's words, split at the medians.

    Easy is confident and correct, confusing uncertain and incorrect, hard incorrect yet confident,
    medium the rest (correct, uncertain). Correct: F1 at or above the median; confident: H at or
    below the median. Source: Sec 5.1.3, as stated; medians: our reading.
    """
    _, f50, _ = _quantiles(f1_N)
    _, h50, _ = _quantiles(entropy_N)
    names = {
        (True, True): Difficulty.EASY,
        (True, False): Difficulty.MEDIUM,
        (False, False): Difficulty.CONFUSING,
        (False, True): Difficulty.HARD,
    }
    return [names[f1 >= f50, h <= h50] for f1, h in zip(f1_N, entropy_N, strict=True)]


def plan(samples: Sequence[ScoredSample], settings: CurriculumSettings) -> Plan:
    """Group samples by difficulty, keep the best share of each class, count what is left out."""
    members: dict[Difficulty, list[ScoredSample]] = {name: [] for name in Difficulty}
    left_out: Counter[str] = Counter()
    for sample, name in zip(samples, label(samples, settings.labels), strict=True):
        easy = name in (Difficulty.EASY, Difficulty.MEDIUM)
        if settings.drop_empty_gold and easy and sample.gold_empty:
            left_out[f"{name}_empty_gold"] += 1
        else:
            members[name].append(sample)
    stages = []
    for name, group in members.items():
        best = sorted(group, key=lambda s: (-s.f1, s.entropy, s.sample_id))
        kept = best[: _share(len(best), settings.fractions.get(name, 1.0))]
        if len(kept) < len(best):
            left_out[f"{name}_fraction"] += len(best) - len(kept)
        if kept:
            stages.append(Stage(name=str(name), sample_ids=tuple(s.sample_id for s in kept)))
    return Plan(stages=tuple(stages), left_out=dict(left_out))


class CurriculumSampler:
    """Deals out sample ids stage by stage, shuffled inside a stage; its state is one number.

    The *current* stage is the first that still has samples; a draw never mixes two stages.
    """

    def __init__(self, stages: Sequence[Stage], seed: int, epochs: int = 1) -> None:
        if not any(stage.sample_ids for stage in stages):
            raise InputError(
                "the curriculum has no samples; check the difficulty file and the fractions"
            )
        self._order = [
            (stage.name, sample_id)
            for epoch in range(epochs)
            for stage in stages
            for sample_id in _shuffled(stage.sample_ids, f"{seed}:{epoch}:{stage.name}")
        ]
        self.cursor = 0

    @classmethod
    def without_curriculum(
        cls, sample_ids: Iterable[str], seed: int, epochs: int = 1
    ) -> CurriculumSampler:
        """One stage with everything."""
        return cls([Stage(name="all", sample_ids=tuple(sample_ids))], seed, epochs)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def stage(self) -> str | None:
        """Name of the current stage; None at the end."""
        return self._order[self.cursor][0] if self.cursor < len(self._order) else None

    def draw(self, count: int) -> list[str]:
        """The next `count` sample ids of the current stage; fewer at its end, none at the end."""
        drawn: list[str] = []
        stage = self.stage
        while len(drawn) < count and self.cursor < len(self._order):
            name, sample_id = self._order[self.cursor]
            if name != stage:
                break
            drawn.append(sample_id)
            self.cursor += 1
        return drawn


def _shuffled(ids: Sequence[str], seed: str) -> list[str]:
    shuffled = list(ids)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _quantiles(values_N: Sequence[float]) -> tuple[float, float, float]:
    """Quartiles with linear interpolation."""
    ordered = sorted(values_N)

    def at(share: float) -> float:
        position = share * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (position - low) * (ordered[high] - ordered[low])

    return at(0.25), at(0.5), at(0.75)


def _share(count: int, fraction: float) -> int:
    """At least one of a class that is not switched off."""
    return min(count, max(1, round(count * fraction))) if fraction > 0 else 0
