"""Systems that read: our profiles, a vision-language model over whole dialogues, brute force."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ffr_core.localization.f2rvlm import F2rvlmLocalizer, F2rvlmReader
from ffr_core.parts import (
    build_builder,
    build_encoder,
    build_localizer,
    build_system,
    part_engine,
)
from ffr_core.profile import Profile, load_profile
from ffr_core.protocols import Encoder, Localizer
from ffr_core.types import Dialogue, Selection
from jobs.eval_index import TENANT, cached, fill, placed, rank_gold, read_pictures
from jobs.eval_sets import Asked, Gold
from jobs.report.answers import Asker
from jobs.report.config import ReportConfig, SystemConfig
from jobs.report.sets import EvalData
from jobs.report.systems import Chosen, Clusters, EvalSystem, Found, NotRun, Ranked

WHOLE_DIALOGUE = 1_000_000
"""Turns of a window that holds every dialogue."""


def profile_system(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """All parts of a profile: its segmenter, encoder, index, localizer and the whole search.

    The index and the store stand in a temporary folder. A search is timed: it has no cache of
    vectors.
    """
    profile, shown = _seen(config, data)
    plain = build_encoder(profile.encoder)
    encoder = cached(plain, report.cache)
    counts: Counter[str] = Counter()

    def segment(dialogues: Sequence[Dialogue]) -> list[Clusters]:
        parts = build_builder(profile, encoder).segmenter.segment(dialogues)
        return [[fragment.turn_ids for fragment in found] for found in parts]

    return EvalSystem(
        select=partial(read_all, _localizer(profile, encoder), counts),
        segment=segment,
        rank=partial(_rank, profile, encoder),
        search=partial(_search, profile, encoder, plain),
        counts=counts,
        shown=shown,
    )


def brute_force(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """A profile's localizer reads every dialogue for every query; no recall. Source: Sec 6.2.3.

    A search is timed: it has no cache of vectors.
    """
    profile, shown = _seen(config, data)
    plain = build_encoder(profile.encoder)
    counts: Counter[str] = Counter()
    least = profile.search.min_relevance
    return EvalSystem(
        select=partial(read_all, _localizer(profile, cached(plain, report.cache)), counts),
        search=partial(read_corpus, _localizer(profile, plain), counts, least),
        counts=counts,
        shown=shown,
    )


def _seen(config: SystemConfig, data: EvalData) -> tuple[Profile, EvalData | None]:
    """The profile, and the set with the text in its pictures where the profile reads that.

    The pictures are read once, here, for all parts; the profile that is returned reads none.
    """
    profile = load_profile(config.profile).with_image_root(Path(data.folder))
    if not profile.ocr.enabled:
        return profile, None
    blind, dialogues = read_pictures(profile, data.dialogues)
    return blind, data.showing(dialogues)


def vlm_system(config: SystemConfig, data: EvalData) -> EvalSystem:
    """A model behind an engine reads each whole dialogue, or windows of it, with the query.

    Raises:
        NotRun: No engine.
    """
    if config.engine is None:
        raise NotRun(f"system {config.name!r} has no [systems.engine]; add one, such as openai")
    from ffr_core.engine.build import shared_engine
    from ffr_core.images import ImageLimits, ImageReader
    from ffr_core.prompts import Prompts
    from ffr_core.windows import WINDOW_OVERLAP, WINDOW_TURNS

    engine = shared_engine(config.engine, ImageReader(limits=ImageLimits(roots=(data.folder,))))
    reader = F2rvlmReader(
        prompts=Prompts.load(config.prompts),
        adapter=config.adapter,
        grammar=config.grammar,
        window_turns=WINDOW_TURNS if config.windows else WHOLE_DIALOGUE,
        window_overlap=WINDOW_OVERLAP if config.windows else 0,
    )
    localizer = F2rvlmLocalizer(engine, reader)
    return EvalSystem(
        select=partial(read_all, localizer, reader.counts),
        search=partial(read_corpus, localizer, reader.counts, 0.0),
        counts=reader.counts,
    )


def read_all(localizer: Localizer, counts: Counter[str], asked: Sequence[Asked]) -> list[Chosen]:
    """Localize in the whole dialogue; what cannot be read selects nothing and is counted.

    Raises:
        FfrError: The engine stays away, or nothing was answered.
    """
    asker = Asker(localizer, counts)
    found = [asker.ask(query.query, dialogue) for dialogue, query in asked]
    asker.finish()
    return [Chosen() if one is None else one.chosen for one in found]


def read_corpus(
    localizer: Localizer,
    counts: Counter[str],
    min_relevance: float,
    dialogues: Sequence[Dialogue],
    queries: Sequence[str],
) -> list[Found]:
    """Every dialogue for every query, the most relevant first.

    Raises:
        FfrError: The engine stays away, or nothing was answered.
    """
    asker = Asker(localizer, counts)
    found = []
    for query in queries:
        started = time.perf_counter()
        answers: list[tuple[float, str, Selection]] = []
        for dialogue in dialogues:
            one = asker.ask(query, dialogue)
            if one and one.chosen and one.localization.relevance >= min_relevance:
                answers.append((-one.localization.relevance, dialogue.dialogue_id, one.chosen))
        answers.sort(key=lambda item: item[:2])
        found.append(
            Found(
                answers=tuple((name, selection) for _, name, selection in answers),
                seconds=time.perf_counter() - started,
            )
        )
    asker.finish()
    return found


def _localizer(profile: Profile, encoder: Encoder) -> Localizer:
    return build_localizer(
        profile.localizer, encoder, engine=part_engine(profile, profile.localizer)
    )


def _rank(profile: Profile, encoder: Encoder, gold: Gold, asked: Sequence[Asked]) -> Ranked:
    with tempfile.TemporaryDirectory(prefix="ffrs-report-") as home:
        ranks, cosines = rank_gold(placed(profile, home), encoder, gold, asked)
    return Ranked(ranks=ranks, cosines=cosines)


def _search(
    profile: Profile,
    encoder: Encoder,
    plain: Encoder,
    dialogues: Sequence[Dialogue],
    queries: Sequence[str],
) -> list[Found]:
    """The two-stage search; recall and localizer read without the cache: seconds are true."""
    with (
        tempfile.TemporaryDirectory(prefix="ffrs-report-") as home,
        build_system(placed(profile, home), encoder, _localizer(profile, plain)) as system,
    ):
        fill(system, dialogues)
        searching = replace(system, builder=replace(system.builder, encoder=plain))
        found = []
        for query in queries:
            started = time.perf_counter()
            answers = searching.search(query, tenant=TENANT)
            seconds = time.perf_counter() - started
            found.append(Found(answers=tuple(map(_answer, answers)), seconds=seconds))
    return found


def _answer(answer: Any) -> tuple[str, Selection]:
    return answer.dialogue_id, answer.localization.selection
