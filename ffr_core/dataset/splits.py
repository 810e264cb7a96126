"""Splits without leaks: pools of short dialogues first, then the data sets made from each pool.

Triplets share members, so a split of the long dialogues would put one short dialogue on both
sides. The short dialogues are therefore divided before they are matched: those that share an image
or are near-duplicates stay together, and triplets are matched inside one pool. The pools are
`sft` and `rft` (25 / 75 of the training set), `validation` and `boundary_test` (10 %). The
boundary model and FEM train on sft + rft; FEM is tested on pairs of the two held-out pools.
Source: Sec 6.1 and 6.2 (sizes and shares), as stated; pools before matching is our reading.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.dataset.clustering import k_means
from ffr_core.dataset.long_dialogue import LongDialogue
from ffr_core.dataset.near_duplicates import MIN_THRESHOLD, near_duplicate_pairs, shingles
from ffr_core.dataset.ranges import check_ranges
from ffr_core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOLS = ("sft", "rft", "validation", "boundary_test")
TRAINING = ("sft", "rft")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """Sizes of the splits."""

    num_validation: int = 1000
    """Long dialogues. Source: Sec 4.3, as stated."""
    sft_share: float = 0.25
    """Of the training dialogues; the rest is for RFT. Source: Sec 6.1, as stated."""
    boundary_test_share: float = 0.10
    """Of all dialogues. Source: Sec 6.2.1, as stated."""
    num_fem_test: int = 500
    """Query-fragment pairs. Source: Sec 6.2.2, as stated."""
    num_fem_clusters: int = 20
    """Source: Sec 6.2.2, as stated."""
    max_validation_share: float = 0.10
    """Bound of the validation pool for small corpora (our choice)."""
    duplicate_threshold: float = 0.7
    """Jaccard index of shingles from which two short dialogues stay together (our choice)."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that are out of range with ConfigError."""
        check_ranges(
            self,
            num_validation=(0, math.inf),
            sft_share=(0, 1),
            boundary_test_share=(0, 1),
            num_fem_test=(0, math.inf),
            num_fem_clusters=(1, math.inf),
            max_validation_share=(0, 1),
            duplicate_threshold=(MIN_THRESHOLD, math.inf),
            seed=(0, math.inf),
        )
        if self.boundary_test_share + self.max_validation_share >= 1:
            raise ConfigError(
                f"boundary_test_share {self.boundary_test_share} and max_validation_share"
                f" {self.max_validation_share} leave nothing to train on; their sum must be below 1"
            )


def pool_shares(num_short: int, rules: SplitRules) -> dict[str, float]:
    """Share of the short dialogues that each pool gets; the shares sum to 1.

    A pool of n short dialogues gives at most 4 n triplets, and 2.4 n where many have the same
    neighbors; so `num_validation` of them need about half as many short dialogues, a reserve for
    failures included. n dialogues have only n (n - 1) (n - 2) / 6 triplets, so a pool has at least
    5 where its share allows it.

    Example:
        100,000 short dialogues: validation 0.005, boundary_test 0.1, the rest 25 : 75.
    """
    validation = min(
        rules.max_validation_share, max(5, rules.num_validation / 2) / max(1, num_short)
    )
    training = 1 - validation - rules.boundary_test_share
    return {
        "sft": training * rules.sft_share,
        "rft": training * (1 - rules.sft_share),
        "validation": validation,
        "boundary_test": rules.boundary_test_share,
    }


def groups_of(num: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components over 0..num-1, each ascending, ordered by first member."""
    parent = list(range(num))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for node in range(num):
        members[root(node)].append(node)
    return list(members.values())


def image_links(image_keys: Sequence[Iterable[str]]) -> list[tuple[int, int]]:
    """Pairs of dialogues that share an image, enough of them to connect all that do."""
    first: dict[str, int] = {}
    links: list[tuple[int, int]] = []
    for number, keys in enumerate(image_keys):
        links.extend((first.setdefault(key, number), number) for key in keys)
    return [(a, b) for a, b in links if a != b]


def assign_pools(
    groups: Sequence[Sequence[int]], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    """Give each group to the pool that lacks most, large groups first; the same on every run."""
    total = sum(len(group) for group in groups)
    lacking = {pool: share * total for pool, share in shares.items()}
    shuffled = list(groups)
    random.Random(seed).shuffle(shuffled)
    pool_of: dict[int, str] = {}
    for group in sorted(shuffled, key=len, reverse=True):
        # Relative to its size, so that a small pool is not filled last.
        pool = max(lacking, key=lambda p: (lacking[p] / max(shares[p], 1e-9), shares[p]))
        lacking[pool] -= len(group)
        pool_of.update(dict.fromkeys(group, pool))
    return pool_of


def divide(
    texts: Iterable[str], image_keys: Sequence[Iterable[str]], rules: SplitRules
) -> list[str]:
    """The pool of each short dialogue; see the module text."""
    pairs = near_duplicate_pairs(
        [shingles(text) for text in texts], rules.duplicate_threshold, seed=rules.seed
    )
    groups = groups_of(len(image_keys), [*pairs, *image_links(image_keys)])
    pool_of = assign_pools(groups, pool_shares(len(image_keys), rules), rules.seed)
    return [pool_of[number] for number in range(len(image_keys))]


def cluster_sample(
    vectors_QD: NDArray[np.float32], num: int, num_clusters: int, seed: int
) -> list[int]:
    """Rows of a test set: k-means clusters, each sampled in proportion to its size.

    Source: Sec 6.2.2, as stated. The shares are rounded by largest remainder, so exactly
    `min(num, Q)` rows come back, ascending.
    """
    if num >= len(vectors_QD):
        return list(range(len(vectors_QD)))
    _, labels = k_means(vectors_QD, num_clusters, seed=seed)
    sizes = np.bincount(labels)
    quotas = proportional(sizes.tolist(), num)
    rng = random.Random(seed)
    chosen: list[int] = []
    for cluster, quota in enumerate(quotas):
        chosen.extend(rng.sample(np.flatnonzero(labels == cluster).tolist(), quota))
    return sorted(chosen)


def proportional(sizes: Sequence[int], num: int) -> list[int]:
    """Split `num` in proportion to sizes by largest remainder, never above a size.

    Example:
        sizes [5, 3, 2], num 5: exact shares 2.5, 1.5, 1: [3, 1, 1] (the first tie wins).
    """
    exact = [num * size / sum(sizes) for size in sizes]
    quotas = [int(value) for value in exact]
    order = sorted(range(len(sizes)), key=lambda i: (-(exact[i] - quotas[i]), i))
    for i in order[: num - sum(quotas)]:
        quotas[i] += 1
    return quotas


def find_leaks(
    pools: Mapping[str, Sequence[LongDialogue]],
    texts: Mapping[str, str],
    threshold: float,
) -> list[str]:
    """Everything that two pools have in common, as sentences; an empty list is the proof.

    Args:
        pools: Long dialogues by pool.
        texts: Text of every short dialogue, by id.
        threshold: Jaccard index of shingles that counts as near-duplicate.
    """
    members = {pool: {m for item in items for m in item.members} for pool, items in pools.items()}
    images = {pool: {k for item in items for k in item.image_keys} for pool, items in pools.items()}
    leaks: list[str] = []
    for a, b in combinations(pools, 2):
        for what, sets in (("dialogue", members), ("image", images)):
            leaks += [f"{what} {name} is in {a} and {b}" for name in sorted(sets[a] & sets[b])]
    owner = {member: pool for pool, found in members.items() for member in found}
    names = sorted(owner)
    pairs = near_duplicate_pairs([shingles(texts[name]) for name in names], threshold, seed=1)
    leaks += [
        f"{names[i]} in {owner[names[i]]} is a near-duplicate of {names[j]} in {owner[names[j]]}"
        for i, j in pairs
        if owner[names[i]] != owner[names[j]]
    ]
    return leaks
