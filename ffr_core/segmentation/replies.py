"""Who answers whom in a crowd: link each turn to an earlier one, or open a fragment with it.

In a channel where many people talk at once, turns are grouped by replies, not by place. A small
network scores every turn of a window as the antecedent of a turn, against opening a fragment; each
turn follows its best antecedent. The idea of linking is from Kummerfeld et al. 2019 (ACL), the
features are ours.

Shapes: T turns, K candidates (column 0 opens a fragment, column k is the turn k places before),
F features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.segmentation.addressing import Addressing
from ffr_core.segmentation.cues import MARKERS, TurnCues, lexical_vectors
from ffr_core.segmentation.similarity import centered, cumulated, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Grid = NDArray[np.float64]
    """[T, K - 1], one cell for each turn and earlier turn."""

WINDOW = 60
"""How many turns back an antecedent is looked for."""
_MARKER = {name: i for i, name in enumerate(MARKERS)}


def link_features(
    cues: TurnCues, addressing: Addressing, vectors_TD: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features [T, K, F] and which candidates exist [T, K]."""
    scene = _Scene.of(cues, addressing, vectors_TD)
    links, opens = _link_columns(scene), _open_columns(scene)
    num_turns, window = scene.earlier.shape
    features = np.zeros((num_turns, window + 1, len(opens) + len(links)), np.float32)
    for f, column_T in enumerate(opens):
        features[:, 0, f] = column_T
    for f, column in enumerate(links, start=len(opens)):
        features[:, 1:, f] = np.where(scene.exists, column, 0.0)
    exists = np.concatenate([np.ones((num_turns, 1), bool), scene.exists], axis=1)
    return features, exists


def follow(
    probabilities_TK: NDArray[np.float64], reply_to: tuple[int | None, ...]
) -> NDArray[np.int64]:
    """Cluster number of each turn [T]: that of its antecedent, the source's own `reply_to` first.

    Args:
        probabilities_TK: Of the candidates of each turn.
        reply_to: The turn that each turn answers as the source says; only earlier ones count.
    """
    cluster_T = np.zeros(len(probabilities_TK), int)
    count = 0
    for turn_id, (row, answered) in enumerate(zip(probabilities_TK, reply_to, strict=True)):
        back = int(row.argmax())
        if answered is not None and answered < turn_id:
            back = turn_id - answered
        cluster_T[turn_id] = cluster_T[turn_id - back] if back else count
        count += back == 0
    return cluster_T


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    """What the columns are made of: matrices over turns, and the grid of candidates."""

    cues: TurnCues
    addressed_TS: NDArray[np.bool_]
    """Which speaker a turn addresses."""
    mentioned_TS: NDArray[np.bool_]
    """Whom it names without addressing."""
    cosine_TT: NDArray[np.float64]
    blocks_TT: NDArray[np.float64]
    """Three turns from the row's on with three turns up to the column's."""
    ahead_TT: NDArray[np.float64]
    """The row's turn with the column's and the next."""
    overlap_TT: NDArray[np.float64]
    earlier: NDArray[np.int64]
    """[T, K - 1] turn ids of the candidates, 0 where there is none."""
    exists: NDArray[np.bool_]

    @classmethod
    def of(cls, cues: TurnCues, addressing: Addressing, vectors_TD: NDArray[np.float32]) -> _Scene:
        num_turns = len(vectors_TD)
        topic = centered(vectors_TD, cues.content_T)
        names = [{name.lower() for name in m} for m in addressing.mentions]
        spoken = [
            tuple(w for w in words if w not in named)
            for words, named in zip(cues.tokens, names, strict=True)
        ]
        words_TV = np.sqrt(lexical_vectors(spoken, most=1.0, counts=False))
        weighted = topic * cues.content_T[:, None]
        turn_ids = np.arange(num_turns)
        earlier = turn_ids[:, None] - np.arange(1, min(WINDOW, max(1, num_turns - 1)) + 1)[None, :]
        addressed, mentioned = addressing.matrices
        return cls(
            cues=cues,
            addressed_TS=addressed,
            mentioned_TS=mentioned & ~addressed,
            cosine_TT=topic @ topic.T,
            blocks_TT=_run(weighted, 0, 3) @ _run(weighted, -2, 1).T,
            ahead_TT=topic @ _run(topic, 0, 2).T,
            overlap_TT=words_TV @ words_TV.T,
            earlier=np.maximum(earlier, 0),
            exists=earlier >= 0,
        )


def _link_columns(scene: _Scene) -> list[Grid]:
    cues, i = scene.cues, scene.earlier
    j = np.broadcast_to(np.arange(len(i))[:, None], i.shape)
    speakers = cues.speakers_T
    distance, near = np.log(np.maximum(j - i, 1)), (j - i == 1).astype(float)
    same = np.equal(speakers[i], speakers[j])
    last = _next_same(speakers)[i] >= j
    to, to_me = scene.addressed_TS[j, speakers[i]], scene.addressed_TS[i, speakers[j]]
    naming, named = scene.mentioned_TS[j, speakers[i]], scene.mentioned_TS[i, speakers[j]]
    addresses_T: NDArray[np.bool_] = np.any(scene.addressed_TS, axis=1)
    shared = _shared(scene.addressed_TS)[j, i]
    share, crowd = float(addresses_T.mean()), math.log(int(speakers.max()) + 1)
    lengths = np.log1p(cues.words_T)
    cosine, overlap = scene.cosine_TT[j, i], scene.overlap_TT[j, i]
    question, mark = cues.question_T, cues.markers_TC
    timed = float(cues.minutes_T is not None)
    minutes = np.zeros(len(i)) if cues.minutes_T is None else cues.minutes_T
    run_start = speakers[i] == speakers[np.maximum(i - 1, 0)]
    other = (~same).astype(float)
    columns = [
        *(np.ones(i.shape), distance, distance**2, near, same * near, other * near),
        *(same, same * last, last, distance * same, distance * other),
        *(to, to * last, to_me, to_me * (i == _last_addressing(scene)[:, None])),
        *(naming, naming * last, named, shared, shared * same),
        *(addresses_T[j] & ~to & ~same & ~shared, addresses_T[i] & ~to_me & ~same & ~shared),
        *(same & addresses_T[j] & ~shared & addresses_T[i], addresses_T[i]),
        *(cosine, scene.blocks_TT[j, i], scene.ahead_TT[j, i]),
        *(overlap / (lengths[j] + 0.5), overlap / (lengths[i] + lengths[j] + 1)),
        *(question[i], question[i] * (1 - question[j]) * other, lengths[i], lengths[j]),
        *(mark[j, _MARKER["backward"]], mark[i, _MARKER["backward"]]),
        *(mark[j, _MARKER["closing"]], mark[i, _MARKER["greeting"]]),
        *(run_start, cues.images_T[i], crowd * distance, share * distance, share * same),
        *(share * other * ~addresses_T[j], same * ~addresses_T[j], cosine * share),
        *(timed * np.log1p(np.maximum(0, minutes[j] - minutes[i])), timed * distance),
        *(timed * near, timed * same, cues.gaps_T[j] * near),
    ]
    return [np.asarray(column, float) for column in columns]


def _open_columns(scene: _Scene) -> list[NDArray[np.float64]]:
    cues, num_turns = scene.cues, len(scene.earlier)
    turn_ids, speakers = np.arange(num_turns), cues.speakers_T
    previous = _previous_same(speakers)
    addresses_T: NDArray[np.bool_] = np.any(scene.addressed_TS, axis=1)
    mentions_T = scene.mentioned_TS.any(axis=1) | addresses_T
    spoken_TS = np.cumsum(np.eye(scene.addressed_TS.shape[1])[speakers], axis=0) > 0
    absent = addresses_T & ~(scene.addressed_TS & spoken_TS).any(axis=1)
    share = float(addresses_T.mean())
    lengths = np.log1p(cues.words_T)
    grid = (turn_ids[:, None], scene.earlier)
    closest = np.where(scene.exists, scene.cosine_TT[grid], -1.0).max(axis=1)
    overlap = np.where(scene.exists, scene.overlap_TT[grid], 0.0).max(axis=1) / (lengths + 0.5)
    first = previous < 0
    mark = cues.markers_TC
    columns = [
        *(np.ones(num_turns), cues.question_T, cues.question_T * first, first),
        *(mark[:, _MARKER[name]] for name in ("greeting", "closing", "backward")),
        *(np.where(first, 0.0, np.log1p(turn_ids - previous)), lengths, turn_ids == 0),
        *(addresses_T, mentions_T, absent, _last_addressing(scene) >= turn_ids - 20),
        *(closest * (turn_ids > 0), overlap, np.full(num_turns, share), share * addresses_T),
        *(np.full(num_turns, math.log(int(speakers.max()) + 1)), cues.images_T),
        *(np.full(num_turns, float(cues.minutes_T is not None)), cues.gaps_T),
        cues.gaps_T * ~mentions_T,
    ]
    return [np.asarray(column, float) for column in columns]


def _run(rows_TD: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    """Unit sums of the rows from `start` to before `stop`, relative to each turn."""
    sums, positions, last = cumulated(rows_TD), np.arange(len(rows_TD)), len(rows_TD)
    return unit_rows(
        sums[np.clip(positions + stop, 0, last)] - sums[np.clip(positions + start, 0, last)]
    )


def _shared(addressed_TS: NDArray[np.bool_]) -> NDArray[np.bool_]:
    counts = addressed_TS.astype(np.float32)
    shared: NDArray[np.bool_] = counts @ counts.T > 0
    return shared


def _next_same(speakers_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn id of the speaker's next turn; T where there is none."""
    following: dict[int, int] = {}
    result = np.full(len(speakers_T), len(speakers_T))
    for turn_id in range(len(speakers_T) - 1, -1, -1):
        speaker = int(speakers_T[turn_id])
        result[turn_id] = following.get(speaker, len(speakers_T))
        following[speaker] = turn_id
    return result


def _previous_same(speakers_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn id of the speaker's turn before; -1 where there is none."""
    return len(speakers_T) - 1 - _next_same(speakers_T[::-1])[::-1]


def _last_addressing(scene: _Scene) -> NDArray[np.int64]:
    """The last turn before each one that addresses its speaker; a large negative id if none."""
    last = np.full(scene.addressed_TS.shape[1], -1000)
    result = np.zeros(len(scene.earlier), int)
    for turn_id, speaker in enumerate(scene.cues.speakers_T.tolist()):
        result[turn_id] = last[speaker]
        last[scene.addressed_TS[turn_id]] = turn_id
    return result
