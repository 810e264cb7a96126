"""The simple encoder: hashed words and character n-grams, no weights, the same in every process.

It matches words, not meanings. Tests and smoke runs use it; it also serves languages that no
installed model knows.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import ConfigError
from ffr_core.types import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_JOINED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
"""Kana, Han and Hangul: written without spaces between words."""
_WORD = re.compile(rf"[{_JOINED}]+|[^\W_{_JOINED}]+")
_CJK = re.compile(rf"[{_JOINED}]")


class HashingEncoder:
    """Signed feature hashing of words, word trigrams' characters and CJK character pairs."""

    def __init__(self, dim: int = 512, max_tokens: int = 4096) -> None:
        """Set D and the number of words after which a text is cut."""
        if dim < 8 or max_tokens < 1:
            raise ConfigError(f"dim {dim} and max_tokens {max_tokens}: expected at least 8 and 1")
        self._dim, self._max_tokens = dim, max_tokens
        self._tokens_read = 0

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Words after which a text is cut."""
        return self._max_tokens

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"hashing:{self._dim}:{self._max_tokens}"

    @property
    def tokens_read(self) -> int:
        """Words read so far."""
        return self._tokens_read

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm."""
        return self._encode([passage.text for passage in passages])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dim), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            words = _WORD.findall(text.lower())[: self._max_tokens]
            self._tokens_read += len(words)
            for feature, weight in _features(words).items():
                code = zlib.crc32(feature.encode("utf-8", "replace"))
                vector[(code >> 1) % self._dim] += weight if code & 1 else -weight
            norm = float(np.linalg.norm(vector))
            if norm == 0.0:
                vector[0] = norm = 1.0
            vector /= norm
        return vectors


def _features(words: Sequence[str]) -> dict[str, float]:
    """Feature -> 1 + log(count), character features at a third of a word's weight."""
    counts: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for word in words:
        if _CJK.match(word):
            counts.update(word)
            counts.update(word[i : i + 2] for i in range(len(word) - 1))
        else:
            counts[word] += 1
            padded = f"<{word}>"
            parts.update("#" + padded[i : i + 4] for i in range(len(padded) - 3))
    features = {word: 1.0 + float(np.log(count)) for word, count in counts.items()}
    features.update((part, (1.0 + float(np.log(count))) / 3) for part, count in parts.items())
    return features
