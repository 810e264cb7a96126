"""Systems without a model: BM25, even cuts, the reply rule."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ffr_core.index.bm25 import Bm25
from ffr_core.metrics.ranking import rank_of
from ffr_core.passages import passage_of, turn_text
from ffr_core.segmentation.baselines import even_cuts, reply_rule
from ffr_core.types import Dialogue, Selection
from jobs.eval_sets import Asked, Gold, mean_gold_length
from jobs.report.systems import Clusters, EvalSystem, Found, Ranked


def bm25(best_turns: int) -> EvalSystem:
    """The best turns of a dialogue or of the corpus, and fragments, by BM25 (k1 1.2, b 0.75)."""

    def select(asked: Sequence[Asked]) -> list[Selection]:
        known: dict[str, Bm25] = {}
        chosen = []
        for dialogue, query in asked:
            if dialogue.dialogue_id not in known:
                known[dialogue.dialogue_id] = Bm25([turn_text(turn) for turn in dialogue.turns])
            scores_T = known[dialogue.dialogue_id].scores(query.query)
            chosen.append(Selection(utterance_ids=frozenset(best(scores_T, best_turns))))
        return chosen

    def rank(gold: Gold, asked: Sequence[Asked]) -> Ranked:
        keys = [(d.dialogue_id, f.fragment_id) for d, parts in gold for f in parts]
        index = Bm25([passage_of(d, f.turn_ids).text for d, parts in gold for f in parts])
        ranks: list[int | None] = []
        for dialogue, query in asked:
            right = keys.index((dialogue.dialogue_id, query.fragment_id or 0))
            ranks.append(rank_of(right, index.scores(query.query)))
        return Ranked(ranks=ranks)

    def search(dialogues: Sequence[Dialogue], queries: Sequence[str]) -> list[Found]:
        places = [(d.dialogue_id, turn.turn_id) for d in dialogues for turn in d.turns]
        index = Bm25([turn_text(turn) for d in dialogues for turn in d.turns])
        found = []
        for query in queries:
            started = time.perf_counter()
            rows = best(index.scores(query), best_turns)
            found.append(
                Found(
                    answers=group_places([places[row] for row in rows]),
                    seconds=time.perf_counter() - started,
                )
            )
        return found

    return EvalSystem(select=select, rank=rank, search=search)


def even_lengths(gold: Gold) -> EvalSystem:
    """Cuts at the set's mean gold length, which is an oracle's hint."""
    length = mean_gold_length(gold)

    def segment(dialogues: Sequence[Dialogue]) -> list[Clusters]:
        return [[f.turn_ids for f in even_cuts(dialogue, length)] for dialogue in dialogues]

    return EvalSystem(segment=segment if gold else None)


def replies() -> EvalSystem:
    """Each turn joins the last turn of whom it addresses, else its speaker's own."""

    def segment(dialogues: Sequence[Dialogue]) -> list[Clusters]:
        return [[f.turn_ids for f in reply_rule(dialogue)] for dialogue in dialogues]

    return EvalSystem(segment=segment)


def best(scores_N: np.ndarray, count: int) -> list[int]:
    """Rows of the highest scores above 0, best first; equal scores in order."""
    order = np.argsort(-scores_N, kind="stable")[:count]
    return [int(row) for row in order if scores_N[row] > 0]


def group_places(places: Sequence[tuple[str, int]]) -> tuple[tuple[str, Selection], ...]:
    """(dialogue_id, turn_id), best first, as one selection a dialogue."""
    turns: dict[str, set[int]] = {}
    for dialogue_id, turn_id in places:
        turns.setdefault(dialogue_id, set()).add(turn_id)
    return tuple((name, Selection(utterance_ids=frozenset(ids))) for name, ids in turns.items())
