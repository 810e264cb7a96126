"""Reads turns, queries and the background through an encoder, and remembers what it read.

Shapes: N turns of the scope, D embedding, K background lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.localization.background import LINES, LINES_JOINED, QUESTIONS, QUESTIONS_JOINED
from ffr_core.localization.features import (
    Background,
    Scope,
    TurnFacts,
    feature_columns,
    turn_facts,
)
from ffr_core.localization.terms import QueryForm, named_speakers
from ffr_core.passages import passage_of
from ffr_core.recent import KEPT_SECONDS, Recent
from ffr_core.types import Dialogue, Passage, PassageEvidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.protocols import Encoder

_QUERIES_KEPT = 64


class DialogueMemory:
    """Facts and vectors of a dialogue's turns, filled as they are needed."""

    def __init__(self, dialogue: Dialogue) -> None:
        """Start empty."""
        self.dialogue = dialogue
        self._facts: dict[int, TurnFacts] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}

    def facts(self, turn_ids: Sequence[int]) -> list[TurnFacts]:
        """Facts of the given turns."""
        for i in turn_ids:
            if i not in self._facts:
                self._facts[i] = turn_facts(self.dialogue.turns[i])
        return [self._facts[i] for i in turn_ids]

    def vectors(
        self, turn_ids: Sequence[int], evidence: Sequence[PassageEvidence], encoder: Encoder
    ) -> NDArray[np.float32]:
        """[N, D]: stored vectors where there are some, the rest is encoded."""
        for item in evidence:
            if len(item.turn_ids) == 1:
                self._vectors.setdefault(item.turn_ids[0], item.vector_D)
        missing = [i for i in turn_ids if i not in self._vectors]
        if missing:
            fresh = encoder.encode_passages([passage_of(self.dialogue, [i]) for i in missing])
            self._vectors.update(zip(missing, fresh, strict=True))
        return np.stack([self._vectors[i] for i in turn_ids])


class FeatureReader:
    """Features of the turns of a scope; safe to share between threads."""

    def __init__(
        self, encoder: Encoder, dialogues_kept: int = 32, lifetime: float = KEPT_SECONDS
    ) -> None:
        """Keep the encoder.

        Args:
            encoder: Of turns and queries.
            dialogues_kept: Dialogues that stay in memory between calls.
            lifetime: Seconds that one stays there at most; a deleted dialogue is gone by then.
        """
        self._encoder = encoder
        self._memories: Recent[int, DialogueMemory] = Recent(dialogues_kept, lifetime)
        self._queries: Recent[str, NDArray[np.float32]] = Recent(_QUERIES_KEPT, lifetime)
        self._backgrounds: dict[bool, Background] = {}
        self._lock = Lock()

    def columns(
        self,
        query: str,
        form: QueryForm,
        dialogue: Dialogue,
        ids: Sequence[int],
        evidence: Sequence[PassageEvidence] = (),
    ) -> dict[str, NDArray[np.float64]]:
        """Features of ascending turn ids: name -> [N]."""
        with self._lock:
            memory = self._memory(dialogue)
            vectors_ND = memory.vectors(ids, evidence, self._encoder)
            facts = memory.facts(ids)
            query_D = self._query_vector(query)
            background = self._background(form.flags["joined"])
        named = named_speakers(query, dialogue.participants)
        scope = Scope(
            facts=facts,
            vectors_ND=vectors_ND,
            named_N=np.array([dialogue.turns[i].speaker in named for i in ids]),
        )
        return feature_columns(form, query_D, scope, background)

    def _memory(self, dialogue: Dialogue) -> DialogueMemory:
        memory = self._memories.get(id(dialogue))
        if memory is None or memory.dialogue is not dialogue:
            memory = DialogueMemory(dialogue)
            self._memories.put(id(dialogue), memory)
        return memory

    def _query_vector(self, query: str) -> NDArray[np.float32]:
        vector_D = self._queries.get(query)
        if vector_D is None:
            vector_D = self._encoder.encode_queries([query])[0]
            self._queries.put(query, vector_D)
        return vector_D

    def _background(self, joined: bool) -> Background:
        if joined not in self._backgrounds:
            lines, questions = (LINES_JOINED, QUESTIONS_JOINED) if joined else (LINES, QUESTIONS)
            self._backgrounds[joined] = Background(
                lines_KD=self._encoder.encode_passages([Passage(text=line) for line in lines]),
                questions_KD=self._encoder.encode_queries(questions),
            )
        return self._backgrounds[joined]
