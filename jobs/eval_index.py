"""An index of its own for a measurement: where it lies, how it is filled and asked for gold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffr_core.metrics.ranking import RECALL_CUTOFFS
from ffr_core.parts import build_builder, build_image_reader, build_index
from ffr_core.pipeline import System
from ffr_core.profile import Profile
from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Filters
from ffr_core.writing import write_dialogues
from jobs.eval_sets import Asked, Gold

TENANT = "evaluation"
BATCH = 16
"""Dialogues written together."""


def placed(profile: Profile, home: str, name: str = "own") -> Profile:
    """The profile with an index and a store of its own below `home`; `name` tells several apart."""
    index = profile.index.model_copy(update={"uri": f"{home}/{name}.db"})
    storage = profile.storage.model_copy(update={"uri": f"{home}/{name}"})
    return profile.model_copy(update={"index": index, "storage": storage})


def read_pictures(
    profile: Profile, dialogues: Sequence[Dialogue]
) -> tuple[Profile, list[Dialogue]]:
    """The dialogues with the text in their pictures, and the profile that reads none any more.

    Without `[ocr] enabled` both stay as they are.
    """
    if not profile.ocr.enabled:
        return profile, list(dialogues)
    from ffr_core.ocr import OcrReader

    reader = OcrReader(
        images=build_image_reader(profile), min_confidence=profile.ocr.min_confidence
    )
    off = profile.ocr.model_copy(update={"enabled": False})
    return profile.model_copy(update={"ocr": off}), reader.read_all(dialogues)


def cached(encoder: Encoder, cache: str | Path | None) -> Encoder:
    """The encoder behind a cache on disk, if there is a folder for it."""
    if cache is None:
        return encoder
    from ffr_core.embedding.cache import CachedEncoder

    return CachedEncoder(encoder, cache)


def fill(system: System, dialogues: Sequence[Dialogue]) -> None:
    """Build dialogues and write them, some at a time."""
    for start in range(0, len(dialogues), BATCH):
        items = system.builder.build(dialogues[start : start + BATCH])
        write_dialogues(system.index, system.payloads, TENANT, items)


def rank_gold(
    profile: Profile, encoder: Encoder, gold: Gold, asked: Sequence[Asked]
) -> tuple[list[int | None], list[float]]:
    """Where recall puts the gold fragment of each query among all gold fragments of a set.

    Args:
        profile: `placed` where nothing is kept.
        encoder: The profile's, perhaps with a cache.
        gold: All gold fragments; they are indexed in the place of predicted ones.
        asked: Queries that name one of them.

    Returns:
        0-based ranks, None behind the last cut-off, and the cosines of query and gold fragment.
    """
    index = build_index(profile, encoder.fingerprint, encoder.dim)
    try:
        items = build_builder(profile, encoder).embed(list(gold))
        for start in range(0, len(items), BATCH):
            index.upsert_many(TENANT, [(item, "") for item in items[start : start + BATCH]])
        vectors = {
            (item.dialogue.dialogue_id, part.fragment.fragment_id): part.vector_D
            for item in items
            for part in item.fragments
        }
        ranks: list[int | None] = []
        cosines = []
        queries_QD = encoder.encode_queries([query.query for _, query in asked])
        for (dialogue, query), query_D in zip(asked, queries_QD, strict=True):
            right = (dialogue.dialogue_id, query.fragment_id or 0)
            found = index.search(TENANT, query_D, query.query, Filters(), max(RECALL_CUTOFFS))
            keys = [(c.dialogue_id, c.fragment.fragment_id) for c in found]
            ranks.append(keys.index(right) if right in keys else None)
            cosines.append(float(vectors[right] @ query_D))
    finally:
        index.close()
    return ranks, cosines
