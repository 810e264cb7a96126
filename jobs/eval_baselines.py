"""Simple systems that every profile must beat; run on the same data by `ffrs eval --baseline`.

BM25: k1 1.2, b 0.75, lower-cased word tokens (jieba words for Chinese), a turn as
`speaker: text captions`. Dense: cosine of the profile's own encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ffr_core.index.bm25 import Bm25
from ffr_core.metrics.ranking import rank_of
from ffr_core.passages import passage_of, turn_text
from ffr_core.protocols import Encoder
from ffr_core.segmentation.baselines import even_cuts, reply_rule, text_tiling
from ffr_core.types import Dialogue, Fragment, Selection
from jobs.eval_sets import Asked, Gold, mean_gold_length

Clusters = list[tuple[int, ...]]


def segmentations(gold: Gold, encoder: Encoder) -> dict[str, list[Clusters]]:
    """Even cuts at the set's mean gold length (an oracle's hint), text-tiling, the reply rule."""
    length = mean_gold_length(gold)
    dialogues = [dialogue for dialogue, _ in gold]
    return {
        "even_cuts": [_clusters(even_cuts(d, length)) for d in dialogues],
        "text_tiling": [_clusters(text_tiling(turn_vectors(d, encoder))) for d in dialogues],
        "reply_rule": [_clusters(reply_rule(d)) for d in dialogues],
    }


def _clusters(fragments: Sequence[Fragment]) -> Clusters:
    return [fragment.turn_ids for fragment in fragments]


def recall_ranks(
    gold: Gold, asked: Sequence[Asked], encoder: Encoder
) -> dict[str, list[int | None]]:
    """Rank of the gold fragment by BM25 over fragments, and by the best passage's cosine."""
    fragments = [(dialogue, fragment) for dialogue, parts in gold for fragment in parts]
    keys = [(d.dialogue_id, f.fragment_id) for d, f in fragments]
    bm25 = Bm25([passage_of(d, f.turn_ids).text for d, f in fragments])
    vectors = {d.dialogue_id: turn_vectors(d, encoder) for d, _ in gold}
    starts, rows = [0], []
    for dialogue, fragment in fragments:
        rows.append(vectors[dialogue.dialogue_id][list(fragment.turn_ids)])
        starts.append(starts[-1] + len(fragment.turn_ids))
    turns_TD = np.concatenate(rows)
    queries_QD = encoder.encode_queries([query.query for _, query in asked])
    ranks: dict[str, list[int | None]] = {"bm25_fragments": [], "dense_passages": []}
    for (dialogue, query), query_D in zip(asked, queries_QD, strict=True):
        right = keys.index((dialogue.dialogue_id, query.fragment_id or 0))
        dense_N = np.maximum.reduceat(turns_TD @ query_D, starts[:-1])
        ranks["bm25_fragments"].append(rank_of(right, bm25.scores(query.query)))
        ranks["dense_passages"].append(rank_of(right, dense_N))
    return ranks


def selections(asked: Sequence[Asked], encoder: Encoder) -> dict[str, list[Selection]]:
    """The best turn of the dialogue by BM25, by cosine, and by the sum of their z-scores."""
    return {
        name: [
            Selection(utterance_ids=frozenset({int(np.argmax(scores_T))}))
            for scores_T in _turn_scores(asked, encoder, combine)
        ]
        for name, combine in _COMBINED.items()
    }


def corpus_pairs(
    dialogues: Sequence[Dialogue], asked: Sequence[Asked], encoder: Encoder
) -> dict[str, list[set[tuple[str, int]]]]:
    """The best turn of the whole corpus, by the same three scores."""
    pairs = [(d.dialogue_id, turn.turn_id) for d in dialogues for turn in d.turns]
    bm25 = Bm25([turn_text(turn) for d in dialogues for turn in d.turns])
    turns_TD = np.concatenate([turn_vectors(dialogue, encoder) for dialogue in dialogues])
    queries_QD = encoder.encode_queries([query.query for _, query in asked])
    found: dict[str, list[set[tuple[str, int]]]] = {name: [] for name in _COMBINED}
    for (_, query), query_D in zip(asked, queries_QD, strict=True):
        lexical_T, dense_T = bm25.scores(query.query), turns_TD @ query_D
        for name, combine in _COMBINED.items():
            found[name].append({pairs[int(np.argmax(combine(lexical_T, dense_T)))]})
    return found


def turn_vectors(dialogue: Dialogue, encoder: Encoder) -> NDArray[np.float32]:
    """[T, D], one vector a turn."""
    return encoder.encode_passages([passage_of(dialogue, (t.turn_id,)) for t in dialogue.turns])


def _turn_scores(
    asked: Sequence[Asked],
    encoder: Encoder,
    combine: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    known: dict[str, tuple[Bm25, NDArray[np.float32]]] = {}
    queries_QD = encoder.encode_queries([query.query for _, query in asked])
    scores = []
    for (dialogue, query), query_D in zip(asked, queries_QD, strict=True):
        if dialogue.dialogue_id not in known:
            texts = [turn_text(turn) for turn in dialogue.turns]
            known[dialogue.dialogue_id] = Bm25(texts), turn_vectors(dialogue, encoder)
        bm25, turns_TD = known[dialogue.dialogue_id]
        scores.append(combine(bm25.scores(query.query), turns_TD @ query_D))
    return scores


def _z(scores_T: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (scores_T - scores_T.mean()) / (scores_T.std() + 1e-9)
    return result


_COMBINED: dict[str, Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]] = {
    "bm25_turn": lambda lexical_T, dense_T: lexical_T,
    "dense_turn": lambda lexical_T, dense_T: dense_T,
    "bm25_dense_turn": lambda lexical_T, dense_T: _z(lexical_T) + _z(dense_T),
}
