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

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.dataset.nearest import blocked_neighbors, exact_neighbors

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What matching needs of N dialogues; arrays may be memory maps."""

    text_ND: NDArray[np.float32]
    """Mean sentence embedding of utterances and captions, unit norm."""
    clip_text_ND: NDArray[np.float32] | None
    """Mean CLIP text embedding, unit norm; None without CLIP: the text step decides alone."""
    clip_image_ND: NDArray[np.float32] | None
    """Mean CLIP image embedding, unit norm."""
    image_keys: Sequence[frozenset[str]]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Triplets and what was left out."""

    triplets: tuple[tuple[int, int, int], ...]
    """Rows (d, d_i, d_ij), ordered by d."""
    anchors: int
    """Dialogues that matching started from."""
    missing: Mapping[str, int]
    """Of the four triplets an anchor may have, those that do not exist: `same_members` when the
    triplet exists already, `no_partner` when no candidate is disjoint."""


def rank_candidates(features: Features, rules: MatchingRules) -> NDArray[np.int64]:
    """Candidates of every row, [N, K], by the multi-modal score, best first; -1 at the end."""
    num_rows = len(features.text_ND)
    if num_rows < rules.exact_below:
        found = exact_neighbors(features.text_ND, rules.num_candidates)
    else:
        found = blocked_neighbors(
            features.text_ND,
            rules.num_candidates,
            seed=rules.seed,
            cell_size=rules.cell_size,
            num_probes=rules.num_probes,
        )
    if features.clip_text_ND is None or features.clip_image_ND is None:
        return found.rows_NK
    ranked = np.empty_like(found.rows_NK)
    for start in range(0, num_rows, 256):
        rows = found.rows_NK[start : start + 256]
        score = multi_modal_score(features, np.arange(start, start + len(rows)), rows, rules)
        score[rows < 0] = -np.inf
        order = np.argsort(-score, axis=1, kind="stable")
        ranked[start : start + 256] = np.take_along_axis(rows, order, axis=1)
    return ranked


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
    for vectors, weight in parts:
        own = np.asarray(vectors[rows_R], dtype=np.float32)
        other = np.asarray(vectors[candidates_RK.ravel()], dtype=np.float32)
        other = other.reshape(*candidates_RK.shape, -1)
        total += weight * np.einsum("rd,rkd->rk", own, other)
    return total


def match_triplets(features: Features, rules: MatchingRules) -> Matches:
    """All triplets of a set; see the module text."""
    ranked = rank_candidates(features, rules)
    seen: set[frozenset[int]] = set()
    triplets: list[tuple[int, int, int]] = []
    missing: Counter[str] = Counter()
    for anchor in range(len(ranked)):
        found = 0
        own: set[frozenset[int]] = set()
        seconds = _disjoint(ranked[anchor], (anchor,), features.image_keys)
        for second in islice(seconds, rules.num_matches):
            thirds = _disjoint(ranked[second], (anchor, second), features.image_keys)
            # (d, d_2, d_1) would have the members of (d, d_1, d_2): the next candidate is taken.
            new = (third for third in thirds if frozenset((anchor, second, third)) not in own)
            for third in islice(new, rules.num_matches):
                found += 1
                members = frozenset((anchor, second, third))
                own.add(members)
                if members in seen:
                    missing["same_members"] += 1
                    continue
                seen.add(members)
                triplets.append((anchor, second, third))
        missing["no_partner"] += rules.num_matches**2 - found
    return Matches(
        triplets=tuple(triplets),
        anchors=len(ranked),
        missing={name: n for name, n in sorted(missing.items()) if n},
    )


def _disjoint(
    ranked_K: NDArray[np.int64], members: tuple[int, ...], keys: Sequence[frozenset[str]]
) -> Iterator[int]:
    """Candidates that are no member and share no image with one, best first."""
    taken = frozenset().union(*(keys[member] for member in members))
    for candidate in ranked_K.tolist():
        if candidate >= 0 and candidate not in members and not taken & keys[candidate]:
            yield candidate
