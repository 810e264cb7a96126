"""Find near-duplicate texts: MinHash with banding finds candidates, exact shingles decide.

A shingle is three words in a row (single characters for Chinese); the similarity of two texts is
the Jaccard index of their shingle sets. With 32 bands of 4 hashes a pair of similarity 0.7 becomes
a candidate with probability above 0.999, one of 0.3 with 0.23; the exact index then decides.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANDS = 32
ROWS = 4
_PRIME = (1 << 31) - 1
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
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


def near_duplicate_pairs(
    shingle_sets: Sequence[NDArray[np.uint32]], threshold: float, *, seed: int = 0
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose Jaccard index is at least `threshold`, sorted."""
    signatures = _signatures(shingle_sets, seed)
    checked: set[tuple[int, int]] = set()
    for band in range(BANDS):
        columns = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * ROWS))).ravel()
        for bucket in _buckets(keys):
            checked.update(_bucket_pairs(bucket))
    return sorted(
        (i, j) for i, j in checked if jaccard(shingle_sets[i], shingle_sets[j]) >= threshold
    )


def _signatures(sets: Sequence[NDArray[np.uint32]], seed: int) -> NDArray[np.uint64]:
    """[N, BANDS x ROWS] minima of random linear hashes; an empty set gets unique values."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(1, _PRIME, size=BANDS * ROWS, dtype=np.uint64)
    offsets = rng.integers(0, _PRIME, size=BANDS * ROWS, dtype=np.uint64)
    result = np.empty((len(sets), BANDS * ROWS), dtype=np.uint64)
    for number, found in enumerate(sets):
        if len(found):
            values = (found.astype(np.uint64) % _PRIME)[:, None] * factors + offsets
            result[number] = (values % _PRIME).min(axis=0)
        else:
            result[number] = _PRIME + number
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
