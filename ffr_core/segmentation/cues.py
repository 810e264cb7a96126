"""What a turn shows before any vector: its length, words, questions, discourse markers, time.

Shapes: T turns, C markers, V words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.types import Dialogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKERS = {
    "opener": r"^\W*(so|now|okay|ok|alright|all right|well)\b|^\W*(好|那)",
    "shift": r"by the way|btw|anyway|speaking of|moving on|move on"
    r"|next (item|topic|thing|question|one|up)|let's (talk|move|go|start|look)"
    r"|another (thing|question|topic)|change the subject"
    r"|接下来|下面|下一|另外|对了|话说|第[一二三四五六七八九十]个|最后|有请|先请",
    "greeting": r"\b(hi|hello|hey|good (morning|evening|afternoon)|how are you|long time no"
    r"|nice to meet|what'?s up|welcome)\b|大家好|你好|早上好|下午好|晚上好|欢迎|各位",
    "closing": r"\b(bye|goodbye|see you|talk to you later|take care|thanks?|thank you"
    r"|you're welcome|ttyl|good night|have a (good|great|nice))\b"
    r"|谢谢|感谢|再见|拜拜|晚安",
    "backward": r"^\W*(yes|yeah|yep|no|nope|right|okay|ok|mm|uh-huh|sure|exactly|true|cool|wow"
    r"|great|that|it|he|she|they|me too|i agree|lol|haha)\b|^\W*(对|是|嗯|没错|行|好的|哈哈)",
    "asks_you": r"(?:^|[.!])"
    r"(?>[^.!]*?\b(do|did|are|have|can|would|were|what|where|how|any|which)\b)"
    r"(?>[^.!]*?\byou(r|rs)?\b)[^.!]*\?"
    r"|(?:^|[。！])(?>[^。！]*?[你您])[^。！]*[?？吗呢]",
    "about_me": r"^\W*(i|i'm|my|we|our)\b|^\W*(我|咱)",
}
"""Marker -> pattern. `backward`: the turn opens by taking up what was said before.

`asks_you` starts at the start of a sentence and takes the first of each word for good, so that a
long sentence is read once a word, not once for each pair of places.
"""

_MARKERS = tuple(re.compile(pattern, re.IGNORECASE) for pattern in MARKERS.values())
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:'[a-z]+)?")
_QUESTION = re.compile(r"[?？]|[吗呢]\s*$")
_HAN_PER_WORD = 1.6
_MOST_CELLS = 16_000_000
"""Lexical vectors are dense; very long dialogues keep their most frequent words only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnCues:
    """Cues of one dialogue, turn by turn."""

    words_T: NDArray[np.float64]
    """Length in words; 1.6 Chinese characters count as one."""
    question_T: NDArray[np.float64]
    """1 where the turn asks."""
    markers_TC: NDArray[np.float64]
    """1 where a marker of `MARKERS` occurs."""
    tokens: tuple[tuple[str, ...], ...]
    """Lower-cased words; pairs of neighboring characters for Chinese."""
    speakers_T: NDArray[np.int64]
    """Number of the speaker, by first appearance."""
    minutes_T: NDArray[np.float64] | None
    """Minutes since the first turn; None unless every turn has a time and times differ."""
    images_T: NDArray[np.float64]
    """1 where the turn shows an image."""

    @classmethod
    def of(cls, dialogue: Dialogue) -> TurnCues:
        """Read the cues of a dialogue; its gold labels are not looked at."""
        texts = [turn.text for turn in dialogue.turns]
        number = {speaker: i for i, speaker in enumerate(dialogue.participants)}
        return cls(
            words_T=np.array([_length(text) for text in texts]),
            question_T=np.array([bool(_QUESTION.search(text)) for text in texts], float),
            markers_TC=np.array([[bool(m.search(t)) for m in _MARKERS] for t in texts], float),
            tokens=tuple(tuple(_tokens(text)) for text in texts),
            speakers_T=np.array([number[turn.speaker] for turn in dialogue.turns]),
            minutes_T=_minutes(dialogue),
            images_T=np.array([bool(turn.images) for turn in dialogue.turns], float),
        )

    def part(self, start: int, end: int) -> TurnCues:
        """The cues of turns start..end-1 alone; speakers keep their order."""
        minutes_T = self.minutes_T
        return TurnCues(
            words_T=self.words_T[start:end],
            question_T=self.question_T[start:end],
            markers_TC=self.markers_TC[start:end],
            tokens=self.tokens[start:end],
            speakers_T=np.unique(self.speakers_T[start:end], return_inverse=True)[1],
            minutes_T=None if minutes_T is None else minutes_T[start:end],
            images_T=self.images_T[start:end],
        )

    @property
    def content_T(self) -> NDArray[np.float64]:
        """How much a turn tells about its topic: grows with the log of its length."""
        weights: NDArray[np.float64] = np.log1p(self.words_T) + 0.05
        return weights

    @property
    def gaps_T(self) -> NDArray[np.float64]:
        """log(1 + minutes since the turn before); 0 for the first turn or without times."""
        if self.minutes_T is None:
            return np.zeros(len(self.words_T))
        gaps: NDArray[np.float64] = np.log1p(
            np.maximum(0.0, np.diff(self.minutes_T, prepend=self.minutes_T[0]))
        )
        return gaps


def lexical_vectors(
    tokens: Sequence[Sequence[str]], most: float, counts: bool = True
) -> NDArray[np.float32]:
    """TF-IDF rows [T, V] over the words that occur in at least two turns.

    Args:
        tokens: Words of each turn.
        most: Words in more than this share of the turns are left out (three turns are allowed).
        counts: Use log(1 + count) as term frequency, else 1.
    """
    num_turns = len(tokens)
    frequency = Counter(word for turn in tokens for word in set(turn))
    limit = max(3.0, most * num_turns)
    kept = [(word, n) for word, n in frequency.most_common() if 2 <= n <= limit]
    column = {word: i for i, (word, _) in enumerate(kept[: _MOST_CELLS // max(1, num_turns)])}
    vectors_TV = np.zeros((num_turns, max(1, len(column))), np.float32)
    for row, turn in zip(vectors_TV, tokens, strict=True):
        for word, count in Counter(turn).items():
            if word in column:
                weight = math.log(num_turns / frequency[word]) if num_turns > 1 else 0.0
                row[column[word]] = weight * (math.log1p(count) if counts else 1.0)
    return vectors_TV


def _length(text: str) -> float:
    return len(text.split()) + len(_HAN.findall(text)) / _HAN_PER_WORD


def _tokens(text: str) -> list[str]:
    tokens, before = [], ""
    for match in _TOKEN.finditer(text.lower()):
        word = match.group()
        if not _HAN.match(word):
            tokens.append(word)
            before = ""
            continue
        if before:
            tokens.append(before + word)
        before = word
    return tokens


def _minutes(dialogue: Dialogue) -> NDArray[np.float64] | None:
    stamps = [turn.timestamp for turn in dialogue.turns]
    seconds = [stamp.timestamp() for stamp in stamps if stamp is not None]
    if len(seconds) < len(stamps) or len(set(seconds)) < 2:
        return None
    return (np.array(seconds) - seconds[0]) / 60
