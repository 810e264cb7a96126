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
from ffr_core.metrics.ranking import RECALL_CUTOFFS
from ffr_core.parts import (
    build_builder,
    build_encoder,
    build_index,
    build_localizer,
    build_system,
    part_engine,
)
from ffr_core.pipeline import write_dialogues
from ffr_core.profile import Profile, load_profile
from ffr_core.protocols import Encoder, Localizer
from ffr_core.types import Dialogue, Filters, Selection
from jobs.evaluate import BATCH, TENANT
from jobs.report.answers import Asker
from jobs.report.config import ReportConfig, SystemConfig
from jobs.report.embedding_systems import cached, unit
from jobs.report.sets import EvalData
from jobs.report.systems import Asked, Chosen, Clusters, EvalSystem, Found, Gold, NotRun, Ranked

WHOLE_DIALOGUE = 1_000_000
"""Turns of a window that holds every dialogue."""


def profile_system(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """All parts of a profile: its segmenter, encoder, index, localizer and the whole search.

    The index and the store stand in a temporary folder. A search is timed: it has no cache of
    vectors.
    """
    profile = load_profile(config.profile).with_image_root(Path(data.folder))
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
    )


def brute_force(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """A profile's localizer reads every dialogue for every query; no recall. Source: Sec 6.2.3.

    A search is timed: it has no cache of vectors.
    """
    profile = load_profile(config.profile).with_image_root(Path(data.folder))
    plain = build_encoder(profile.encoder)
    counts: Counter[str] = Counter()
    least = profile.search.min_relevance
    return EvalSystem(
        select=partial(read_all, _localizer(profile, cached(plain, report.cache)), counts),
        search=partial(read_corpus, _localizer(profile, plain), counts, least),
        counts=counts,
    )


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
    builder = build_builder(profile, encoder)
    with tempfile.TemporaryDirectory(prefix="ffrs-report-") as home:
        index = build_index(at(profile, home), encoder.fingerprint, encoder.dim)
        try:
            items = builder.embed(list(gold))
            for start in range(0, len(items), BATCH):
                index.upsert_many(TENANT, [(item, "") for item in items[start : start + BATCH]])
            vectors = {
                (item.dialogue.dialogue_id, part.fragment.fragment_id): part.vector_D
                for item in items
                for part in item.fragments
            }
            queries_QD = encoder.encode_queries([query.query for _, query in asked])
            ranks: list[int | None] = []
            cosines = []
            for (dialogue, query), vector_D in zip(asked, queries_QD, strict=True):
                right = (dialogue.dialogue_id, query.fragment_id or 0)
                hits = index.search(TENANT, vector_D, query.query, Filters(), max(RECALL_CUTOFFS))
                keys = [(hit.dialogue_id, hit.fragment.fragment_id) for hit in hits]
                ranks.append(keys.index(right) if right in keys else None)
                cosines.append(float(unit(vectors[right][None])[0] @ vector_D))
        finally:
            index.close()
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
        build_system(at(profile, home), encoder, _localizer(profile, plain)) as system,
    ):
        for start in range(0, len(dialogues), BATCH):
            items = system.builder.build(dialogues[start : start + BATCH])
            write_dialogues(system.index, system.payloads, TENANT, items)
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


def at(profile: Profile, home: str) -> Profile:
    """The profile with an index and a store of its own below `home`."""
    index = profile.index.model_copy(update={"uri": f"{home}/i.db"})
    storage = profile.storage.model_copy(update={"uri": f"{home}/store"})
    return profile.model_copy(update={"index": index, "storage": storage})
