"""Content words of a text, English and Chinese: what tags are made of and negatives compared by."""

from __future__ import annotations

import logging
from functools import cache
from importlib import resources
from typing import Any

from ffr_core.index.bm25 import tokenize


def stop_words() -> frozenset[str]:
    """The shipped list of words that say nothing about a topic."""
    return word_list("stop_words")


@cache
def word_list(name: str) -> frozenset[str]:
    """A shipped list of single words in `data/chatlog`; lines that begin with `#` are comments."""
    path = resources.files("ffr_core") / "data" / "chatlog" / f"{name}.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def content_words(text: str) -> list[str]:
    """Lower-cased words (jieba words for Chinese) in order, without stop words and numbers.

    A single Latin letter and a single Chinese character say too little and are left out too.
    """
    return [
        word
        for word in tokenize(text)
        if len(word) > 1 and word not in stop_words() and not word.isdigit()
    ]


def tagged_words(text: str) -> list[tuple[str, str]]:
    """The words of a text with jieba's parts of speech (`n`, `v`, ...); joined they are the text.

    Only words of the dictionary hold together, so that nothing is guessed.

    Example:
        我操作电脑: (我, r), (操作, v), (电脑, n).
    """
    return [(pair.word, pair.flag) for pair in _tagger().cut(text, HMM=False)]


@cache
def _tagger() -> Any:
    import jieba
    import jieba.posseg

    jieba.setLogLevel(logging.WARNING)
    return jieba.posseg
