"""BM25 over a list of texts, in memory, and the word tokens that it counts.

Score of text t for query q, with f(w, t) the count of w in t, |t| the number of tokens of t, avg
their mean over the N texts and n(w) the number of texts that hold w:

    idf(w)      = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))
    score(q, t) = sum over the tokens w of q of
                  idf(w) * f(w, t) * (k1 + 1) / (f(w, t) + k1 * (1 - b + b * |t| / avg))

Legend: N texts, P postings (one for each distinct word of each text).
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HAN = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_RUNS = re.compile(rf"[{_HAN}]+|[^\W{_HAN}]+")
_IS_HAN = re.compile(rf"[{_HAN}]")


def tokenize(text: str) -> list[str]:
    """Split into lower-cased word tokens; runs of Chinese characters into jieba words.

    Punctuation separates and is left out: `tokenize("Don't go!") == ["don", "t", "go"]`. A Chinese
    compound comes with the words inside it: `tokenize("吃火锅") == ["火锅", "吃火锅"]`. Accents
    count the same composed or not (NFC).
    """
    tokens: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFC", text).lower()):
        if _IS_HAN.match(run):
            tokens.extend(_jieba().cut_for_search(run))
        else:
            tokens.append(run)
    return tokens


@cache
def _jieba() -> Any:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba


class Bm25:
    """An inverted file over texts that do not change.

    About 12 bytes a posting; `scores` touches only the postings of the query's words.
    """

    def __init__(self, texts: Iterable[str], k1: float = 1.2, b: float = 0.75) -> None:
        """Tokenize and count the texts.

        Args:
            texts: N texts; the position of a text is its row.
            k1: How soon repeated words stop adding to the score.
            b: How much long texts are held back, 0 to 1.
        """
        self._terms: dict[str, int] = {}
        rows_P, terms_P, counts_P, lengths_N = self._read(texts)
        self.num_texts = len(lengths_N)
        mean_length = max(float(lengths_N.mean()), 1e-9) if self.num_texts else 1.0
        held_back_N = k1 * (1 - b + b * lengths_N / mean_length)
        num_texts_of_term = np.bincount(terms_P, minlength=len(self._terms))
        self._idf = np.log1p((self.num_texts - num_texts_of_term + 0.5) / (num_texts_of_term + 0.5))
        weights_P = counts_P * (k1 + 1) / (counts_P + held_back_N[rows_P]) * self._idf[terms_P]
        order_P = np.argsort(terms_P, kind="stable")
        self._rows_P = rows_P[order_P]
        self._weights_P = weights_P[order_P].astype(np.float32)
        self._starts = np.concatenate([[0], np.cumsum(num_texts_of_term)])

    def _read(self, texts: Iterable[str]) -> tuple[NDArray[Any], ...]:
        rows, terms, counts, lengths = array("i"), array("i"), array("i"), array("i")
        for row, text in enumerate(texts):
            tokens = tokenize(text)
            lengths.append(len(tokens))
            for token, count in Counter(tokens).items():
                rows.append(row)
                terms.append(self._terms.setdefault(token, len(self._terms)))
                counts.append(count)
        return tuple(np.array(part, dtype=np.int32) for part in (rows, terms, counts, lengths))

    def idf(self, token: str) -> float:
        """Weight of a token; one that no text holds weighs the most, ln(1 + (N + 0.5) / 0.5)."""
        term = self._terms.get(token)
        return math.log1p((self.num_texts + 0.5) / 0.5) if term is None else float(self._idf[term])

    def scores(self, query: str | Sequence[str]) -> NDArray[np.float32]:
        """Return [N], the score of every text; 0 where no word is shared.

        Args:
            query: A text, or its tokens. A word that the query repeats counts as often.
        """
        scores_N = np.zeros(self.num_texts, dtype=np.float32)
        tokens = tokenize(query) if isinstance(query, str) else query
        for token, count in Counter(tokens).items():
            term = self._terms.get(token)
            if term is not None:
                postings = slice(self._starts[term], self._starts[term + 1])
                scores_N[self._rows_P[postings]] += count * self._weights_P[postings]
        return scores_N
