"""Spherical k-means: clusters of unit vectors by cosine, seeded, the same on every run.

scikit-learn is not among the run-time packages and SciPy's k-means is Euclidean and unbatched; this
one is two matrix products a round. Shapes: N vectors, K clusters, D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.dataset.stored import Rows

_BLOCK = 8192
"""Rows compared with all centers at once."""


def unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit norm; a zero row stays zero."""
    norms = np.linalg.norm(vectors_ND, axis=-1, keepdims=True)
    result: NDArray[np.float32] = (vectors_ND / np.maximum(norms, 1e-12)).astype(np.float32)
    return result


def assign(vectors_ND: Rows, centers_KD: NDArray[np.float32]) -> NDArray[np.int64]:
    """Nearest center of each row, [N]."""
    labels = np.empty(len(vectors_ND), dtype=np.int64)
    for start in range(0, len(vectors_ND), _BLOCK):
        block = vectors_ND[start : start + _BLOCK].astype(np.float32)
        labels[start : start + _BLOCK] = np.argmax(block @ centers_KD.T, axis=1)
    return labels


def k_means(
    vectors_ND: NDArray[np.float32], num_clusters: int, *, seed: int, rounds: int = 20
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centers [K, D] of unit norm and labels [N]; K is at most N, an empty cluster is reseeded.

    Start: k-means++ on cosine distance. Ends early when no label changes.
    """
    rng = np.random.default_rng(seed)
    vectors = unit(np.asarray(vectors_ND, dtype=np.float32))
    num_clusters = max(1, min(num_clusters, len(vectors)))
    centers = _spread(vectors, num_clusters, rng)
    labels = assign(vectors, centers)
    for _ in range(rounds):
        sums = np.zeros((num_clusters, vectors.shape[1]), dtype=np.float64)
        np.add.at(sums, labels, vectors)
        empty = np.flatnonzero(np.bincount(labels, minlength=num_clusters) == 0)
        if len(empty):
            # The rows that fit their center worst start the empty clusters anew.
            fit = np.einsum("nd,nd->n", vectors, centers[labels])
            sums[empty] = vectors[np.argsort(fit, kind="stable")[: len(empty)]]
        centers = unit(sums.astype(np.float32))
        changed = assign(vectors, centers)
        if np.array_equal(changed, labels):
            break
        labels = changed
    return centers, labels


def _spread(
    vectors_ND: NDArray[np.float32], num_clusters: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """k-means++: each next center is drawn by its distance to those before."""
    chosen = [int(rng.integers(len(vectors_ND)))]
    distance = np.maximum(1 - vectors_ND @ vectors_ND[chosen[0]], 0).astype(np.float64)
    while len(chosen) < num_clusters:
        total = distance.sum()
        shares = distance / total if total > 1e-9 else np.full(len(distance), 1 / len(distance))
        chosen.append(int(rng.choice(len(distance), p=shares / shares.sum())))
        distance = np.minimum(distance, np.maximum(1 - vectors_ND @ vectors_ND[chosen[-1]], 0))
    return vectors_ND[chosen].astype(np.float32)
