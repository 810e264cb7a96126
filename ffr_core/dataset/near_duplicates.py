"""Find near-duplicate texts: MinHash with banding finds candidates, exact shingles decide.

A shingle is three words in a row (single characters for Chinese); the similarity of two texts is
the Jaccard index of their shingle sets. The bands are chosen so that a pair at the threshold fails
to become a candidate in one of a billion draws of hashes; the exact index then decides.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_THRESHOLD = 0.4
"""Below it, chance makes nearly every pair a candidate."""
_MISSED = 1e-9
"""Probability that a pair at the threshold is overlooked."""
_MAX_HASHES = 256
_PRIME = (1 << 31) - 1
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_BLOCK = 1024
"""Sets that are hashed together."""
_MAX_BUCKET = 200
"""Of a larger bucket, each member is compared with its neighbors in order only."""


def shingles(text: str, size: int = 3) -> NDArray[np.uint32]:
    """Sorted hashes of the text's shingles; a shorter text is one shingle, an empty one none."""
    words = _WORD.findall(text.lower())
    if not words:
        return np.empty(0, dtype=np.uint32)
    grams = {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}
    return np.unique(np.array([zlib.crc32(gram.encode()) for gram in grams], dtype=np.uint32))


def jaccard(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> float:
    """Share of common shingles; 0 when both are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    total = len(a) + len(b) - common
    return common / total if total else 0.0


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands and hashes a band (R) for a threshold: as many of the latter as 256 hashes allow.

    A pair of similarity s agrees in a band with probability s^R.

    Raises:
        ConfigError: The threshold is below MIN_THRESHOLD.

    Example:
        0.7: 50 bands of 3; 0.4: 119 bands of 2.
    """
    if threshold < MIN_THRESHOLD:
        raise ConfigError(
            f"threshold {threshold} for near-duplicates is too low; use {MIN_THRESHOLD} or more"
        )
    agrees = min(threshold, 0.99)
    found = (1, 1)
    for num_rows in range(1, 9):
        num_bands = math.ceil(math.log(_MISSED) / math.log(1 - agrees**num_rows))
        if num_bands * num_rows <= _MAX_HASHES:
            found = num_bands, num_rows
    return found


def near_duplicate_pairs(
    shingle_sets: Sequence[NDArray[np.uint32]], threshold: float, *, seed: int = 0
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose Jaccard index is at least `threshold`, sorted.

    One band is worked out at a time, so memory holds its N x R minima and the pairs found.

    Raises:
        ConfigError: The threshold is below MIN_THRESHOLD.
    """
    num_bands, num_rows = bands_for(threshold)
    rng = np.random.default_rng(seed)
    factors = rng.integers(1, _PRIME, size=num_bands * num_rows, dtype=np.uint64)
    offsets = rng.integers(0, _PRIME, size=num_bands * num_rows, dtype=np.uint64)
    found: set[tuple[int, int]] = set()
    for start in range(0, num_bands * num_rows, num_rows):
        band = slice(start, start + num_rows)
        columns = _minima(shingle_sets, factors[band], offsets[band])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * num_rows))).ravel()
        for bucket in _buckets(keys):
            found.update(
                (i, j)
                for i, j in _bucket_pairs(bucket)
                if (i, j) not in found and jaccard(shingle_sets[i], shingle_sets[j]) >= threshold
            )
    return sorted(found)


def _minima(
    sets: Sequence[NDArray[np.uint32]], factors: NDArray[np.uint64], offsets: NDArray[np.uint64]
) -> NDArray[np.uint32]:
    """[N, R] minima of random linear hashes; an empty set gets values of its own."""
    result = np.empty((len(sets), len(factors)), dtype=np.uint32)
    for start in range(0, len(sets), _BLOCK):
        block = sets[start : start + _BLOCK]
        lengths = np.array([len(found) for found in block])
        rows = start + np.flatnonzero(lengths)
        starts = np.cumsum(lengths) - lengths
        values = np.concatenate(block).astype(np.uint64) % _PRIME
        for column, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
            hashes = (values * factor + offset) % _PRIME
            if len(rows):
                result[rows, column] = np.minimum.reduceat(hashes, starts[lengths > 0])
        empty = start + np.flatnonzero(lengths == 0)
        result[empty] = (_PRIME + empty)[:, None]
    return result


def _buckets(keys: NDArray[np.void]) -> Iterator[list[int]]:
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
    for start, end in zip(starts, np.r_[starts[1:], len(keys)], strict=True):
        if end - start > 1:
            yield order[start:end].tolist()


def _bucket_pairs(bucket: list[int]) -> Iterator[tuple[int, int]]:
    reach = len(bucket) if len(bucket) <= _MAX_BUCKET else 8
    for at, first in enumerate(bucket):
        for second in bucket[at + 1 : at + 1 + reach]:
            yield first, second
