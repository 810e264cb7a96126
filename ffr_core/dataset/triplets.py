"""Match short dialogues into triplets that become one long dialogue each.

Two steps for every dialogue d: the K most similar by mean sentence embedding, then the best two of
those by 0.7 x text + 0.3 x image similarity of CLIP. The same from each of these two gives four
triplets (d, d_i, d_ij). The members of a triplet are disjoint in dialogue id and in images.
Source: App. B.1 and Eq 3/11, as stated; K is lost (our choice: 50). Our reading: a candidate that
shares an image with a member is passed over for the next best one, and "unique" means that no two
triplets, of one anchor or of two, have the same members.

Shapes: N dialogues, K candidates, D embedding.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.dataset.nearest import cell_blocks, exact_blocks
from ffr_core.dataset.ranges import check_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.dataset.stored import Rows

_SCORED = 128
"""Rows whose candidates are scored together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What matching needs of N dialogues; the rows may lie in files."""

    text_ND: Rows
    """Mean sentence embedding of utterances and captions, unit norm."""
    clip_text_ND: Rows | None
    """Mean CLIP text embedding, unit norm; None without CLIP: the text step decides alone."""
    clip_image_ND: Rows | None
    """Mean CLIP image embedding, unit norm."""
    image_keys: Sequence[frozenset[str]] | Sequence[frozenset[int]]
    """Identity of each dialogue's images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingRules:
    """Settings of the matching."""

    num_candidates: int = 50
    """K of the text step (our choice)."""
    num_matches: int = 2
    """Top-2. Source: App. B.1, as stated."""
    text_weight: float = 0.7
    """Source: App. B.1, as stated."""
    image_weight: float = 0.3
    """Source: App. B.1, as stated."""
    exact_below: int = 5000
    """Smaller sets are compared row by row, larger ones inside cells."""
    cell_size: int = 512
    num_probes: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that are out of range with ConfigError."""
        check_ranges(
            self,
            num_candidates=(1, math.inf),
            num_matches=(1, math.inf),
            text_weight=(0, math.inf),
            image_weight=(0, math.inf),
            exact_below=(0, math.inf),
            cell_size=(1, math.inf),
            num_probes=(1, math.inf),
            seed=(0, math.inf),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Triplets and what was left out."""

    triplets_T3: NDArray[np.int32]
    """Rows (d, d_i, d_ij), ordered by d."""
    anchors: int
    """Dialogues that matching started from."""
    missing: Mapping[str, int]
    """Of the `num_matches` squared triplets an anchor may have, those that do not exist:
    `same_members` when the triplet exists already, `no_partner` when no candidate is disjoint."""


def rank_candidates(features: Features, rules: MatchingRules) -> NDArray[np.int32]:
    """Candidates of every row, [N, K], by the multi-modal score, best first; -1 at the end."""
    vectors, num = features.text_ND, rules.num_candidates
    if len(vectors) < rules.exact_below:
        blocks = exact_blocks(vectors, num)
    else:
        blocks = cell_blocks(
            vectors,
            num,
            seed=rules.seed,
            cell_size=rules.cell_size,
            num_probes=rules.num_probes,
        )
    ranked = np.empty((len(vectors), num), dtype=np.int32)
    for rows, found in blocks:
        order = found.rows_NK
        if features.clip_text_ND is not None and features.clip_image_ND is not None:
            for start in range(0, len(rows), _SCORED):
                part = slice(start, start + _SCORED)
                order[part] = _by_score(features, rows[part], order[part], rules)
        ranked[rows] = order
    return ranked


def _by_score(
    features: Features, rows_R: NDArray[np.int64], found_RK: NDArray[np.int64], rules: MatchingRules
) -> NDArray[np.int64]:
    score = multi_modal_score(features, rows_R, found_RK, rules)
    score[found_RK < 0] = -np.inf
    return np.take_along_axis(found_RK, np.argsort(-score, axis=1, kind="stable"), axis=1)


def multi_modal_score(
    features: Features,
    rows_R: NDArray[np.int64],
    candidates_RK: NDArray[np.int64],
    rules: MatchingRules,
) -> NDArray[np.float32]:
    """0.7 x cosine of the CLIP texts + 0.3 x cosine of the CLIP images, [R, K]."""
    assert features.clip_text_ND is not None and features.clip_image_ND is not None
    total = np.zeros(candidates_RK.shape, dtype=np.float32)
    parts = (
        (features.clip_text_ND, rules.text_weight),
        (features.clip_image_ND, rules.image_weight),
    )
    different, at = np.unique(candidates_RK, return_inverse=True)
    for vectors, weight in parts:
        own = np.asarray(vectors[rows_R], dtype=np.float32)
        other = np.asarray(vectors[different], dtype=np.float32)[at.reshape(candidates_RK.shape)]
        total += weight * np.einsum("rd,rkd->rk", own, other)
    return total


def match_triplets(features: Features, rules: MatchingRules) -> Matches:
    """All triplets of a set; see the module text."""
    ranked = rank_candidates(features, rules)
    found = array("i")
    for anchor in range(len(ranked)):
        for members in _of_anchor(anchor, ranked, features.image_keys, rules):
            found.extend(members)
    triplets = np.array(found, dtype=np.int32).reshape(-1, 3)
    # The first of those with the same members stays.
    _, first = np.unique(np.sort(triplets, axis=1), axis=0, return_index=True)
    missing = {
        "no_partner": rules.num_matches**2 * len(ranked) - len(triplets),
        "same_members": len(triplets) - len(first),
    }
    return Matches(
        triplets_T3=triplets[np.sort(first)],
        anchors=len(ranked),
        missing={name: n for name, n in missing.items() if n},
    )


def _of_anchor(
    anchor: int,
    ranked_NK: NDArray[np.int32],
    keys: Sequence[frozenset[Any]],
    rules: MatchingRules,
) -> Iterator[tuple[int, int, int]]:
    """Up to `num_matches` squared triplets of one dialogue, with different members."""
    own: set[frozenset[int]] = set()
    for second in islice(_disjoint(ranked_NK[anchor], (anchor,), keys), rules.num_matches):
        thirds = _disjoint(ranked_NK[second], (anchor, second), keys)
        # (d, d_2, d_1) would have the members of (d, d_1, d_2): the next candidate is taken.
        new = (third for third in thirds if frozenset((anchor, second, third)) not in own)
        for third in islice(new, rules.num_matches):
            own.add(frozenset((anchor, second, third)))
            yield anchor, second, third


def _disjoint(
    ranked_K: NDArray[np.int32], members: tuple[int, ...], keys: Sequence[frozenset[Any]]
) -> Iterator[int]:
    """Candidates that are no member and share no image with one, best first."""
    taken = frozenset().union(*(keys[member] for member in members))
    for candidate in ranked_K.tolist():
        if candidate >= 0 and candidate not in members and not taken & keys[candidate]:
            yield candidate
