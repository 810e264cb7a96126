"""Systems that only compare vectors: a text encoder, CLIP, a Qwen2-VL encoder (GME zero-shot, FEM).

A text encoder selects the best turns. CLIP and FEM also see pictures and select the elements of
each modality whose cosine stands out in their dialogue. Recall ranks fragments by their own vector
(FEM), or by the mean of their elements.

Shapes: T turns, M images, N fragments, Q queries, D embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ffr_core.metrics.ranking import rank_of
from ffr_core.passages import image_words, passage_of, turn_text
from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Fragment, Passage, Selection
from jobs.eval_index import cached
from jobs.eval_sets import Asked, Gold
from jobs.report.config import ReportConfig, SystemConfig
from jobs.report.sets import EvalData
from jobs.report.simple import best, group_places
from jobs.report.systems import Clusters, EvalSystem, Found, NotRun, Ranked

if TYPE_CHECKING:
    import PIL.Image

    from ffr_core.embedding.clip import ClipEmbedder

Vectors = NDArray[np.float32]
CLOSE = 1e-6
"""Cosines that differ by less are equal: float32 rounds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DialogueVectors:
    """Elements of one dialogue; elements without content are left out."""

    turns: dict[int, Vectors]
    """Turn id -> [D]."""
    images: dict[int, Vectors]
    """Image id -> [D]."""


class Elements(Protocol):
    """What turns texts and pictures into vectors of one space."""

    def queries(self, texts: Sequence[str], *, timed: bool = False) -> Vectors:
        """[Q, D], unit norm; `timed` asks for the work to be done anew."""

    def dialogue(self, dialogue: Dialogue) -> DialogueVectors:
        """All elements, unit norm."""

    def fragments(self, dialogue: Dialogue, parts: Sequence[Fragment]) -> Vectors:
        """[N, D], unit norm."""


def embedding_system(config: SystemConfig, report: ReportConfig, data: EvalData) -> EvalSystem:
    """Load the model of a table and build its functions.

    Raises:
        NotRun: `clip` or `fem` without a model.
    """
    if config.kind in ("text_embedding", "text_tiling"):
        from ffr_core.parts import build_encoder

        plain = build_encoder(config.encoder)
        elements: Elements = EncoderElements(encoder=cached(plain, report.cache), timed=plain)
        if config.kind == "text_tiling":
            return EvalSystem(segment=partial(_tile, elements))
        return vector_system(elements, best_turns=config.best_turns)
    if config.model is None:
        raise NotRun(f"system {config.name!r} has no `model`; give a folder or hub id")
    if config.kind == "clip":
        from ffr_core.embedding.clip import ClipEmbedder

        clip = ClipElements(embedder=ClipEmbedder.open(config.model, image_opener(data)))
        return vector_system(clip, strictness=config.strictness)
    from ffr_core.embedding.fem import FemEncoder

    fem = FemEncoder(config.model, image_opener(data), adapter=config.adapter)
    elements = EncoderElements(encoder=cached(fem, report.cache), timed=fem, pictures=True)
    return vector_system(elements, strictness=config.strictness)


def vector_system(
    elements: Elements, *, best_turns: int | None = None, strictness: float = 1.0
) -> EvalSystem:
    """Functions over vectors; `best_turns` None selects what stands out, images too."""

    def select(asked: Sequence[Asked]) -> list[Selection]:
        known: dict[str, DialogueVectors] = {}
        queries_QD = elements.queries([query.query for _, query in asked])
        chosen = []
        for (dialogue, _), query_D in zip(asked, queries_QD, strict=True):
            if dialogue.dialogue_id not in known:
                known[dialogue.dialogue_id] = elements.dialogue(dialogue)
            held = known[dialogue.dialogue_id]
            if best_turns is None:
                turns = stand_out(held.turns, query_D, strictness)
                images = stand_out(held.images, query_D, strictness)
            else:
                ids, scores = _scores(held.turns, query_D)
                turns, images = {ids[row] for row in best(scores + 2, best_turns)}, set()
            chosen.append(Selection(utterance_ids=frozenset(turns), image_ids=frozenset(images)))
        return chosen

    def rank(gold: Gold, asked: Sequence[Asked]) -> Ranked:
        keys = [(d.dialogue_id, f.fragment_id) for d, parts in gold for f in parts]
        fragments_ND = np.concatenate([elements.fragments(d, parts) for d, parts in gold])
        queries_QD = elements.queries([query.query for _, query in asked])
        ranks: list[int | None] = []
        cosines = []
        for (dialogue, query), query_D in zip(asked, queries_QD, strict=True):
            right = keys.index((dialogue.dialogue_id, query.fragment_id or 0))
            scores_N = fragments_ND @ query_D
            ranks.append(rank_of(right, scores_N))
            cosines.append(float(scores_N[right]))
        return Ranked(ranks=ranks, cosines=cosines)

    def search(dialogues: Sequence[Dialogue], queries: Sequence[str]) -> list[Found]:
        places, rows = [], []
        for dialogue in dialogues:
            held = elements.dialogue(dialogue)
            for turn_id, vector_D in held.turns.items():
                places.append((dialogue.dialogue_id, turn_id))
                rows.append(vector_D)
        turns_TD = np.stack(rows)
        found = []
        for query in queries:
            started = time.perf_counter()
            scores_T = turns_TD @ elements.queries([query], timed=True)[0]
            top = best(scores_T + 2, best_turns or 1)
            answers = group_places([places[row] for row in top])
            found.append(Found(answers=answers, seconds=time.perf_counter() - started))
        return found

    return EvalSystem(select=select, rank=rank, search=search)


def stand_out(vectors: dict[int, Vectors], query_D: Vectors, strictness: float) -> set[int]:
    """Ids whose cosine reaches mean + strictness x standard deviation; a lone one stands out.

    Of equal ones none does. `CLOSE` decides, not rounding: of two elements the higher one lies
    exactly one deviation above the mean.

    Example:
        Cosines 0.1, 0.1, 0.1, 0.9: mean 0.3, deviation 0.35; above 0.65 is the last one only. Of
        0.1 and 0.9 the second stands out: mean 0.5, deviation 0.4.
    """
    ids, scores = _scores(vectors, query_D)
    if len(ids) == 1:
        return set(ids)
    if not ids or np.ptp(scores) <= CLOSE:
        return set()
    exact = scores.astype(np.float64)
    limit = exact.mean() + strictness * exact.std() - CLOSE
    return {name for name, score in zip(ids, exact, strict=True) if score >= limit}


def _scores(vectors: dict[int, Vectors], query_D: Vectors) -> tuple[list[int], Vectors]:
    ids = list(vectors)
    scores = np.stack([vectors[i] for i in ids]) @ query_D if ids else np.zeros(0, np.float32)
    return ids, scores


def _tile(elements: Elements, dialogues: Sequence[Dialogue]) -> list[Clusters]:
    from ffr_core.segmentation.baselines import text_tiling

    vectors = [np.stack(list(elements.dialogue(d).turns.values())) for d in dialogues]
    return [[f.turn_ids for f in text_tiling(vectors_TD)] for vectors_TD in vectors]


@dataclass(frozen=True, kw_only=True)
class EncoderElements:
    """An `Encoder`: a turn is `speaker: text captions`; with `pictures`, pictures are elements."""

    encoder: Encoder
    timed: Encoder | None = None
    """Without the cache, so that the seconds of a search are true."""
    pictures: bool = False
    held: dict[str, DialogueVectors] = field(default_factory=dict)
    """By dialogue id; one set has each id once."""

    def queries(self, texts: Sequence[str], *, timed: bool = False) -> Vectors:
        """[Q, D]."""
        return ((self.timed if timed else None) or self.encoder).encode_queries(texts)

    def dialogue(self, dialogue: Dialogue) -> DialogueVectors:
        """Turns with their captions, or turns and pictures apart."""
        if dialogue.dialogue_id not in self.held:
            self.held[dialogue.dialogue_id] = self._encode(dialogue)
        return self.held[dialogue.dialogue_id]

    def fragments(self, dialogue: Dialogue, parts: Sequence[Fragment]) -> Vectors:
        """FEM reads the whole fragment; text encoders have the mean of its turns."""
        if self.pictures:
            return self.encoder.encode_passages([passage_of(dialogue, f.turn_ids) for f in parts])
        turns = self.dialogue(dialogue).turns
        return unit(np.stack([np.mean([turns[i] for i in f.turn_ids], axis=0) for f in parts]))

    def _encode(self, dialogue: Dialogue) -> DialogueVectors:
        if not self.pictures:
            passages = [passage_of(dialogue, (turn.turn_id,)) for turn in dialogue.turns]
            return DialogueVectors(
                turns=dict(enumerate(self.encoder.encode_passages(passages))), images={}
            )
        texts = [
            Passage(text=f"{turn.speaker}: {turn.text}", turn_ids=(turn.turn_id,))
            for turn in dialogue.turns
            if turn.text
        ]
        shown = [i for i in dialogue.images if i.uri]
        looks = [Passage(text=image_words(image), images=(image,)) for image in shown]
        rows = self.encoder.encode_passages([*texts, *looks])
        return DialogueVectors(
            turns={p.turn_ids[0]: row for p, row in zip(texts, rows, strict=False)},
            images={i.image_id: row for i, row in zip(shown, rows[len(texts) :], strict=True)},
        )


@dataclass(frozen=True, kw_only=True)
class ClipElements:
    """CLIP: texts and pictures in one space; a fragment is the mean of its elements."""

    embedder: ClipEmbedder

    def queries(self, texts: Sequence[str], *, timed: bool = False) -> Vectors:
        """[Q, D]."""
        return self.embedder.embed_texts(texts)

    def dialogue(self, dialogue: Dialogue) -> DialogueVectors:
        """Turns with text, and pictures that can be read."""
        everything = Selection(
            utterance_ids=frozenset(range(len(dialogue.turns))),
            image_ids=frozenset(range(len(dialogue.images))),
        )
        found = self.embedder.elements(dialogue, [everything])
        return DialogueVectors(turns=dict(found.utterances), images=dict(found.images))

    def fragments(self, dialogue: Dialogue, parts: Sequence[Fragment]) -> Vectors:
        """Means of the elements; a fragment without any has the vector of its text."""
        held = self.dialogue(dialogue)
        rows = []
        for fragment in parts:
            inside = set(fragment.turn_ids)
            vectors = [v for i, v in held.turns.items() if i in inside]
            vectors += [v for i, v in held.images.items() if dialogue.turn_of_image[i] in inside]
            if not vectors:
                text = " ".join(turn_text(dialogue.turns[i]) for i in fragment.turn_ids)
                vectors = [self.queries([text])[0]]
            rows.append(np.mean(vectors, axis=0))
        return unit(np.stack(rows))


def unit(rows_ND: NDArray[np.float32]) -> Vectors:
    """Scale rows to unit norm."""
    norms_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    result: Vectors = (rows_ND / np.maximum(norms_N1, 1e-12)).astype(np.float32)
    return result


def image_opener(data: EvalData) -> Callable[[str], PIL.Image.Image]:
    """Opens pictures below the folder of the set."""
    from ffr_core.images import ImageLimits, ImageReader

    return ImageReader(limits=ImageLimits(roots=(data.folder,))).open
