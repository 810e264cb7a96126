"""Does a new fragment begin here? Features of the gap before each turn but the first.

Similarities are z-scores within the dialogue, so any encoder will do. The features whose names
start with `dialogue_` are equal for all gaps; they set how often fragments change in this kind of
talk (chit-chat, a meeting, a panel).

Shapes: T turns, G = T - 1 gaps (gap g lies before turn g + 1), F features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.segmentation.cues import MARKERS, TurnCues, lexical_vectors
from ffr_core.segmentation.similarity import (
    block_cosines,
    centered,
    cumulated,
    depths,
    unit_rows,
    z_scores,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALES = (1, 2, 4, 8, 16, 32, 64)
"""Block sizes in turns."""
SHARES = (6, 12, 24)
"""Block sizes as parts of the dialogue: a sixth, a twelfth, ..."""
_LONG_AGO = 200
_MOST_SPEAKERS = 256
"""Those who speak most often have a column each; the others share the last one."""
_SHORT, _LONG = 10, 1000
"""Lengths in turns between which the features' weights change with the length."""
_PAUSE_MINUTES = 120.0

Columns = dict[str, "NDArray[np.float64]"]


def gap_features(
    cues: TurnCues, vectors_TD: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the features and their values [G, F]; at least two turns are needed."""
    columns = {
        **_similarities(cues, vectors_TD),
        **_pauses(cues),
        **_turn_columns(cues),
    }
    # What marks a boundary differs between a chat of 15 turns and a meeting of 600.
    length = (math.log(min(max(len(vectors_TD), _SHORT), _LONG)) - 4.5) / 1.3
    scaled = {f"{name}_by_turns": column * length for name, column in columns.items()}
    columns = {**columns, **scaled, **_dialogue_columns(cues)}
    return tuple(columns), np.stack(list(columns.values()), axis=1)


def _similarities(cues: TurnCues, vectors_TD: NDArray[np.float32]) -> Columns:
    content_T1 = cues.content_T[:, None]
    topic = cumulated(centered(vectors_TD, cues.content_T) * content_T1)
    words = cumulated(lexical_vectors(cues.tokens, most=0.25))
    people = cumulated(_speaker_rows(cues.speakers_T))
    columns: Columns = {}
    for size in SCALES:
        cosines = block_cosines(topic, size)
        columns[f"topic_{size}"] = z_scores(cosines)
        columns[f"topic_depth_{size}"] = z_scores(depths(cosines))
        if size > 1:
            columns[f"words_{size}"] = z_scores(block_cosines(words, size))
        if size > 2:
            columns[f"people_{size}"] = z_scores(block_cosines(people, size))
    rows = unit_rows(np.diff(topic, axis=0))
    for name, one, other in (("skip", 0, 2), ("ahead", 1, 2), ("behind", -1, 0), ("second", -1, 1)):
        columns[f"topic_{name}"] = z_scores(_pair_cosines(rows, one, other))
    for share in SHARES:
        size = max(1, round(len(vectors_TD) / share))
        for name, sums in (("topic", topic), ("words", words), ("people", people)):
            columns[f"{name}_part_{share}"] = z_scores(block_cosines(sums, size))
    return columns


def _speaker_rows(speakers_T: NDArray[np.int64]) -> NDArray[np.float64]:
    """[T, S] with a 1 in the column of the turn's speaker, S at most `_MOST_SPEAKERS`."""
    by_turns_S = np.argsort(-np.bincount(speakers_T), kind="stable")
    column_S = np.empty_like(by_turns_S)
    column_S[by_turns_S] = np.minimum(np.arange(len(by_turns_S)), _MOST_SPEAKERS - 1)
    rows_TS: NDArray[np.float64] = np.eye(column_S.max() + 1)[column_S[speakers_T]]
    return rows_TS


def _pair_cosines(rows_TD: NDArray[np.float64], one: int, other: int) -> NDArray[np.float64]:
    """Cosines of the turns at offsets `one` and `other` from the turn before each gap, [G]."""
    gaps = np.arange(len(rows_TD) - 1)
    last = len(rows_TD) - 1
    inside = (gaps + one >= 0) & (gaps + other <= last)
    left, right = rows_TD[np.maximum(gaps + one, 0)], rows_TD[np.minimum(gaps + other, last)]
    cosines: NDArray[np.float64] = (left * right).sum(axis=1) * inside
    return cosines


def _pauses(cues: TurnCues) -> Columns:
    gaps = cues.gaps_T[1:]
    return {
        "pause": gaps,
        "pause_z": z_scores(gaps),
        "pause_long": (gaps > math.log1p(_PAUSE_MINUTES)).astype(float),
    }


def _turn_columns(cues: TurnCues) -> Columns:
    lengths = np.log1p(cues.words_T)
    mean = lengths.mean()
    speakers = cues.speakers_T
    columns: Columns = {
        "question_before": cues.question_T[:-1],
        "question": cues.question_T[1:],
        "image": cues.images_T[1:],
        "same_speaker": (speakers[1:] == speakers[:-1]).astype(float),
        "speaker_absent": _absences(speakers)[1:],
        "length_before": lengths[:-1] - mean,
        "length": lengths[1:] - mean,
        "length_after": np.append(lengths[2:], mean) - mean,
    }
    for name, marked_T in zip(MARKERS, cues.markers_TC.T, strict=True):
        columns[name] = marked_T[1:]
        columns[f"{name}_before"] = marked_T[:-1]
        running = np.concatenate([[0.0], np.cumsum(marked_T)])
        gaps = np.arange(1, len(marked_T))
        if name == "greeting":
            columns["greetings_ahead"] = (
                running[np.minimum(gaps + 4, len(marked_T))] - running[gaps]
            )
        if name == "closing":
            columns["closings_behind"] = running[gaps] - running[np.maximum(gaps - 4, 0)]
    return columns


def _dialogue_columns(cues: TurnCues) -> Columns:
    lengths = np.log1p(cues.words_T)
    speakers = cues.speakers_T
    values = {
        "turns": math.log(min(max(len(lengths), _SHORT), _LONG)),
        "length": float(lengths.mean()),
        "length_spread": float(lengths.std()),
        "short_turns": float((cues.words_T < 4).mean()),
        "speakers": math.log(int(speakers.max()) + 1),
        "same_speaker": float((speakers[1:] == speakers[:-1]).mean()),
        "images": float(cues.images_T.mean()),
        "timed": float(cues.minutes_T is not None),
    }
    return {f"dialogue_{n}": np.full(len(lengths) - 1, value) for n, value in values.items()}


def _absences(speakers_T: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(1 + turns since the speaker's last turn), as long ago for a first appearance."""
    last: dict[int, int] = {}
    absences = np.zeros(len(speakers_T))
    for turn_id, speaker in enumerate(speakers_T.tolist()):
        since = turn_id - last.get(speaker, turn_id - _LONG_AGO)
        absences[turn_id] = math.log1p(min(_LONG_AGO, since))
        last[speaker] = turn_id
    return absences
