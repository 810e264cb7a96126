"""Segmentation without a GPU: text-tiling on sentence vectors, reply structure, returning topics.

One configuration for all dialogues; what is observed in the dialogue decides how it is read:

1. Where many turns name whom they answer among several people, turns follow their antecedents
   (`replies.py`).
2. Else boundaries come from similarity, cues and pauses (`gaps.py`), and the contiguous fragments
   with the best expected pairwise F1 are taken (`linear.py`).
3. Where turns carry their own times (a chat, not a recording), topics may also return or interleave
   (`threads.py`).

A reply that the source itself marks (`reply_to`) joins the fragment of the turn it answers.
Source: Sec 5.2.2 (1) for the task; the method is ours.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import ConfigError
from ffr_core.passages import passage_of
from ffr_core.segmentation.addressing import Addressing
from ffr_core.segmentation.cues import TurnCues
from ffr_core.segmentation.gaps import gap_features
from ffr_core.segmentation.linear import best_cuts, same_fragment
from ffr_core.segmentation.replies import WINDOW, follow, link_features
from ffr_core.segmentation.threads import best_clusters, pair_features, pair_matrix
from ffr_core.segmentation.weights import Weights, boundary_probabilities
from ffr_core.types import Dialogue, Fragment, fragments_from_clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.protocols import Encoder

_FEWEST_IN_A_CROWD = 5
_TIMES_PER_TURN = 0.3
"""Fewer distinct times a turn than this are times of sessions, not of messages."""


class TextTilingSegmenter:
    """Fits fragments to what a dialogue shows; see the module for the three ways."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        crowd_share: float = 0.08,
        max_block: int = 1536,
        max_thread_block: int = 512,
        weights: Weights | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            encoder: Turns to vectors; any will do, similarities are relative to the dialogue.
            crowd_share: Share of turns that address or answer somebody explicitly from which
                replies lead.
            max_block: Longer dialogues are cut at a likely boundary before the steps whose cost
                grows with the square of the turns; crowds are read this many turns at a time.
            max_thread_block: The same for chats whose topics may return.
            weights: Fitted numbers; None takes the shipped ones.

        Raises:
            ConfigError: A block of fewer than two turns.
        """
        if min(max_block, max_thread_block) < 2:
            raise ConfigError(
                f"max_block {max_block} and max_thread_block {max_thread_block} must be at least"
                " 2 turns; leave them out for the defaults"
            )
        self._encoder = encoder
        self._crowd_share = crowd_share
        self._max_block, self._max_thread_block = max_block, max_thread_block
        self._weights = weights or Weights.shipped()
        self.context = max_thread_block
        """Turns before new ones that are read again: cheap, their vectors are known."""

    @property
    def fingerprint(self) -> str:
        """Hash (64 hex) of class, parameters, weights and encoder."""
        settings = {
            "class": type(self).__name__,
            "crowd_share": self._crowd_share,
            "max_block": self._max_block,
            "max_thread_block": self._max_thread_block,
            "weights": hashlib.sha256(self._weights.text.encode()).hexdigest(),
            "encoder": self._encoder.fingerprint,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def segment(self, dialogues: Sequence[Dialogue]) -> list[tuple[Fragment, ...]]:
        """Segment each dialogue; the turns of all of them are encoded in one call.

        The passages are those that the index embeds, so that an encoder with a memory embeds a
        turn once.
        """
        passages = [
            passage_of(dialogue, [turn.turn_id])
            for dialogue in dialogues
            for turn in dialogue.turns
        ]
        vectors_PD = self._encoder.encode_passages(passages)
        results, start = [], 0
        for dialogue in dialogues:
            end = start + len(dialogue.turns)
            results.append(self._segment_one(dialogue, vectors_PD[start:end]))
            start = end
        return results

    def _segment_one(
        self, dialogue: Dialogue, vectors_TD: NDArray[np.float32]
    ) -> tuple[Fragment, ...]:
        cues, addressing = TurnCues.of(dialogue), Addressing.of(dialogue)
        crowd = len(dialogue.participants) >= _FEWEST_IN_A_CROWD
        reply_to = tuple(turn.reply_to for turn in dialogue.turns)
        directed = addressing.share(reply_to)
        if len(dialogue.turns) == 1:
            cluster_T = np.zeros(1, int)
        elif crowd and directed >= self._crowd_share:
            speakers = [turn.speaker for turn in dialogue.turns]
            cluster_T = follow(self._links(cues, addressing, speakers, vectors_TD), reply_to)
        else:
            cluster_T = join_replies(self._linear_or_threads(cues, vectors_TD), reply_to)
        members: dict[int, list[int]] = {}
        for turn_id, cluster in enumerate(cluster_T.tolist()):
            members.setdefault(cluster, []).append(turn_id)
        return fragments_from_clusters(list(members.values()))

    def _links(
        self,
        cues: TurnCues,
        addressing: Addressing,
        speakers: Sequence[str],
        vectors_TD: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Probabilities of the antecedents, [T, K], with some turns before each part in view."""
        num_turns = len(vectors_TD)
        links_TK = np.zeros((num_turns, WINDOW + 1))
        for start in range(0, num_turns, self._max_block):
            seen, end = max(0, start - 4 * WINDOW), min(start + self._max_block, num_turns)
            features, exists = link_features(
                cues.part(seen, end),
                addressing.part(seen, end, speakers[seen:end]),
                vectors_TD[seen:end],
            )
            found = self._weights.links.probabilities(features, exists)
            links_TK[start:end, : found.shape[1]] = found[start - seen :]
        return links_TK

    def _linear_or_threads(
        self, cues: TurnCues, vectors_TD: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        names, features_GF = gap_features(cues, vectors_TD)
        boundary_G = boundary_probabilities(
            self._weights.gaps, self._weights.kinds, names, features_GF
        )
        minutes_T = cues.minutes_T
        chat = minutes_T is not None and len(np.unique(minutes_T)) >= (
            _TIMES_PER_TURN * len(minutes_T)
        )
        cluster_T = np.zeros(len(vectors_TD), int)
        count = 0
        most = self._max_thread_block if chat else self._max_block
        for start, end in blocks(boundary_G, most):
            same_TT = same_fragment(boundary_G[start : end - 1])
            block_T = np.zeros(end - start, int)
            block_T[best_cuts(same_TT)] = 1
            block_T = block_T.cumsum()
            if chat and end - start > 2:
                names, features_PF = pair_features(
                    cues.part(start, end), vectors_TD[start:end], same_TT
                )
                same_P = self._weights.pairs.probabilities(names, features_PF)
                block_T = best_clusters(pair_matrix(same_P, end - start), block_T)
            cluster_T[start:end] = block_T + count
            count += int(block_T.max()) + 1
        return cluster_T


def blocks(boundary_G: NDArray[np.float64], most: int) -> list[tuple[int, int]]:
    """Half-open turn ranges of at most `most` turns, cut at likely boundaries."""
    ranges, start, num_turns = [], 0, len(boundary_G) + 1
    while num_turns - start > most:
        first = start + math.ceil(most / 2)
        # Gap g lies before turn g + 1.
        end = first + int(boundary_G[first - 1 : start + most - 1].argmax())
        ranges.append((start, end))
        start = end
    return [*ranges, (start, num_turns)]


def join_replies(cluster_T: NDArray[np.int64], reply_to: Sequence[int | None]) -> NDArray[np.int64]:
    """Move each turn that explicitly answers an earlier one into that turn's cluster."""
    joined_T = cluster_T.copy()
    for turn_id, answered in enumerate(reply_to):
        if answered is not None and answered < turn_id:
            joined_T[turn_id] = joined_T[answered]
    return joined_T
