"""A system: a name, and functions that select, segment, recall and search.

`build_system` is the only place that turns a `[[systems]]` table into functions. What a system
cannot do is None; what its configuration lacks (a model folder, an engine) raises `NotRun`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ffr_core.errors import ConfigError
from ffr_core.types import Dialogue, Selection
from jobs.eval_sets import Asked, Gold
from jobs.report.config import ReportConfig, SystemConfig
from jobs.report.sets import EvalData

Clusters = list[tuple[int, ...]]


class NotRun(ConfigError):
    """A system cannot run with what its table gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen(Selection):
    """A selection that was read from an answer, and how many ids the answer made up."""

    unknown_utterances: int = 0
    """Utterance ids that the dialogue does not have: false positives."""
    unknown_images: int = 0
    """The same of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Where recall put the gold fragments of Q queries."""

    ranks: list[int | None]
    """0-based; None when not found."""
    cosines: list[float] | None = None
    """Query and gold fragment, where the system has vectors of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search over the corpus returned for one query."""

    answers: tuple[tuple[str, Selection], ...]
    """(dialogue_id, selection), best first."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EvalSystem:
    """What is measured; a part that a system lacks is None."""

    select: Callable[[Sequence[Asked]], Sequence[Selection]] | None = None
    """Picks turns and images of the whole dialogue of each query."""
    segment: Callable[[Sequence[Dialogue]], list[Clusters]] | None = None
    """Predicts fragments; gold ones are never read."""
    rank: Callable[[Gold, Sequence[Asked]], Ranked] | None = None
    """Finds the gold fragment of each query among all gold fragments of the set."""
    search: Callable[[Sequence[Dialogue], Sequence[str]], list[Found]] | None = None
    """Searches the whole corpus, on its own fragments."""
    counts: Counter[str] = field(default_factory=Counter)
    """What went wrong while it ran, by reason."""
    shown: EvalData | None = None
    """The set as the system sees it where that differs: with the text in its pictures."""


def build_system(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """Turn a table into functions.

    Args:
        config: The system.
        report: For the embedding cache.
        data: The set; its folder is where pictures may be opened.

    Raises:
        NotRun: The table lacks a model or an engine.
    """
    if config.kind in ("even_cuts", "reply_rule", "bm25"):
        from jobs.report.simple import bm25, even_lengths, replies

        if config.kind == "even_cuts":
            return even_lengths(data.gold)
        return replies() if config.kind == "reply_rule" else bm25(config.best_turns)
    if config.kind in ("text_embedding", "text_tiling", "clip", "fem"):
        from jobs.report.embedding_systems import embedding_system

        return embedding_system(config, report, data)
    from jobs.report.reading import brute_force, profile_system, vlm_system

    if config.kind == "vlm":
        return vlm_system(config, data)
    return (brute_force if config.kind == "brute_force" else profile_system)(config, report, data)
