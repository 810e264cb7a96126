"""Topics that return: clusters of turns, not only contiguous pieces, for chats with time stamps.

In a chat people come back to a topic hours later, or talk about two things at once. Starting from
the linear model's P(same fragment), a logistic model of every two turns adds what they say: the
vectors of the turns, of their neighbors and of their likely fragments, shared words, distance,
time. The clustering with the best expected pairwise F1 is then looked for by moving single turns
and merging clusters; see `linear.py` for the formula.

Shapes: T turns, D embedding, P = T (T - 1) / 2 pairs i < j in the order of `numpy.triu_indices`,
K clusters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.segmentation.cues import TurnCues, lexical_vectors
from ffr_core.segmentation.similarity import centered, cumulated, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 4
_SWEEPS = 3


def pair_features(
    cues: TurnCues, vectors_TD: NDArray[np.float32], same_TT: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of the features and their values [P, F].

    Args:
        cues: Of the dialogue.
        vectors_TD: One vector a turn.
        same_TT: The linear model's P(same fragment).
    """
    num_turns = len(vectors_TD)
    i, j = np.triu_indices(num_turns, 1)
    topic_TD = centered(vectors_TD, cues.content_T)
    weighted_TD = topic_TD * cues.content_T[:, None]
    words_TV = lexical_vectors(cues.tokens, most=0.3, counts=False)
    closeness_TT = same_TT**2
    turn_cosine = (topic_TD @ topic_TD.T)[i, j]
    fragment_cosine = _cosines(closeness_TT @ weighted_TD)[i, j]
    distance = np.log(j - i)
    linear = np.clip(same_TT[i, j], 1e-4, 1 - 1e-4)
    minutes_T = np.zeros(num_turns) if cues.minutes_T is None else cues.minutes_T
    columns = {
        "linear": np.log(linear) - np.log1p(-linear),
        "distance": distance,
        "distance_part": (j - i) / num_turns,
        "turn_cosine": turn_cosine,
        "near_cosine": _cosines(_around(weighted_TD, 1))[i, j],
        "wide_cosine": _cosines(_around(weighted_TD, 3))[i, j],
        "fragment_cosine": fragment_cosine,
        "fragment_words": _cosines(closeness_TT @ words_TV)[i, j],
        "time": np.log1p(np.maximum(0.0, minutes_T[j] - minutes_T[i])),
        "same_speaker": cues.speakers_T[i] == cues.speakers_T[j],
        "dialogue_turns": np.full(len(i), math.log(num_turns)),
        "distance_turn_cosine": distance * turn_cosine,
        "shorter": np.sqrt(np.minimum(cues.words_T[i], cues.words_T[j])),
        "distance_fragment_cosine": distance * fragment_cosine,
    }
    return tuple(columns), np.stack([c.astype(np.float32) for c in columns.values()], axis=1)


def pair_matrix(same_P: NDArray[np.float64], num_turns: int) -> NDArray[np.float64]:
    """[T, T], symmetric, ones on the diagonal."""
    same_TT = np.eye(num_turns)
    i, j = np.triu_indices(num_turns, 1)
    same_TT[i, j] = same_TT[j, i] = same_P
    return same_TT


def best_clusters(same_TT: NDArray[np.float64], start_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cluster number of each turn [T] with a (locally) best expected pairwise F1.

    Args:
        same_TT: P(same fragment), symmetric.
        start_T: Cluster numbers to start from.
    """
    same_TT = same_TT.copy()
    np.fill_diagonal(same_TT, 0.0)
    total = same_TT.sum() / 2
    cluster_T = _renumbered(start_T)
    for _ in range(_ROUNDS):
        gains_TT = same_TT - _expected_f1(same_TT, cluster_T, total) / 2
        np.fill_diagonal(gains_TT, 0.0)
        before = cluster_T
        for _ in range(_SWEEPS):
            moved_T = _merged(gains_TT, _moved(gains_TT, cluster_T))
            done = np.array_equal(moved_T, cluster_T)
            cluster_T = moved_T
            if done:
                break
        if np.array_equal(before, cluster_T):
            break
    return cluster_T


def _expected_f1(same_TT: NDArray[np.float64], cluster_T: NDArray[np.int64], total: float) -> float:
    member_TK = np.eye(cluster_T.max() + 1)[cluster_T]
    sizes = member_TK.sum(axis=0)
    inside = ((same_TT @ member_TK) * member_TK).sum() / 2
    return float(2 * inside / max((sizes * (sizes - 1) / 2).sum() + total, 1e-9))


def _moved(gains_TT: NDArray[np.float64], cluster_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move each turn once to the cluster where it gains most, or to one of its own."""
    cluster_T = cluster_T.copy()
    num_turns = len(cluster_T)
    # One column more than turns can fill, so that an empty cluster is always at hand.
    gain_TK = gains_TT @ np.eye(num_turns + 1)[cluster_T][:, : num_turns + 1]
    sizes = np.bincount(cluster_T, minlength=num_turns + 1)
    for turn_id in range(num_turns):
        mine = int(cluster_T[turn_id])
        best = int(gain_TK[turn_id].argmax())
        if gain_TK[turn_id, best] <= gain_TK[turn_id, mine] + 1e-9:
            continue
        if sizes[best] == 0 and sizes[mine] == 1:
            continue
        gain_TK[:, mine] -= gains_TT[:, turn_id]
        gain_TK[:, best] += gains_TT[:, turn_id]
        sizes[mine] -= 1
        sizes[best] += 1
        cluster_T[turn_id] = best
    return _renumbered(cluster_T)


def _merged(gains_TT: NDArray[np.float64], cluster_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge the two clusters that gain most by it, until none gains."""
    while True:
        member_TK = np.eye(cluster_T.max() + 1)[cluster_T]
        between_KK = member_TK.T @ gains_TT @ member_TK
        np.fill_diagonal(between_KK, -1.0)
        one, other = np.unravel_index(int(between_KK.argmax()), between_KK.shape)
        if between_KK[one, other] <= 1e-9:
            return cluster_T
        cluster_T = _renumbered(np.where(cluster_T == one, other, cluster_T))


def _renumbered(cluster_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers 0.. in order of first appearance."""
    _, first, inverse = np.unique(cluster_T, return_index=True, return_inverse=True)
    order = np.empty(len(first), int)
    order[np.argsort(first)] = np.arange(len(first))
    renumbered: NDArray[np.int64] = order[inverse]
    return renumbered


def _around(rows_TD: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Sums of the rows within `reach` turns."""
    sums, positions = cumulated(rows_TD), np.arange(len(rows_TD))
    near: NDArray[np.float64] = (
        sums[np.minimum(positions + reach + 1, len(rows_TD))]
        - sums[np.maximum(positions - reach, 0)]
    )
    return near


def _cosines(rows_TD: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_TD = unit_rows(rows_TD)
    return unit_TD @ unit_TD.T
