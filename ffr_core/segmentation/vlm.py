"""The boundary model: a vision-language model that answers with clusters of turn ids.

Source: Sec 5.2.2 (1), as stated; windows for what does not fit and the repair of answers are our
reading (`windows`, `parsing.repair_clusters`).
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from ffr_core.errors import BusyError, RecordError
from ffr_core.generation import Completion, GenerationRequest, Sampling
from ffr_core.markup import LocalView, local_view
from ffr_core.parsing import parse_clusters
from ffr_core.prompts import Prompts
from ffr_core.protocols import Engine
from ffr_core.segmentation.windows import stitch
from ffr_core.types import Dialogue, Fragment, fragments_from_clusters
from ffr_core.windows import WINDOW_OVERLAP, WINDOW_TURNS, check_windows, windows

TOKENS_PER_TURN = 6
"""Room for `12,` and the brackets of an own cluster, with digits as tokens."""


class VlmSegmenter:
    """`Segmenter` over an engine."""

    def __init__(
        self,
        engine: Engine,
        prompts: Prompts,
        *,
        adapter: str | None = None,
        adapter_hash: str = "",
        language: str | None = None,
        window_turns: int = WINDOW_TURNS,
        window_overlap: int = WINDOW_OVERLAP,
    ) -> None:
        """Keep the parts.

        Args:
            engine: Answers the prompts.
            prompts: Those that the model was trained with.
            adapter: Name under which the engine holds the boundary model's adapter.
            adapter_hash: Names the adapter's weights in the fingerprint.
            language: Language of the instructions; each dialogue's own when left out.
            window_turns: Longer dialogues are read in windows of this many turns.
            window_overlap: Turns that neighboring windows share.
        """
        check_windows(window_turns, window_overlap)
        self._engine, self._prompts, self._adapter = engine, prompts, adapter
        self._language = language
        self._window = (window_turns, window_overlap)
        self._hash = adapter_hash
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Engine, adapter, prompts and windows."""
        parts = [self._engine.fingerprint, str(self._adapter), self._hash]
        parts += [self._prompts.fingerprint, str(self._language), str(self._window)]
        return f"vlm:{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"

    @property
    def counts(self) -> Mapping[str, int]:
        """What was read and repaired: dialogues, windows, malformed, missing, repeated, unknown."""
        return dict(self._counts)

    def segment(self, dialogues: Sequence[Dialogue]) -> list[tuple[Fragment, ...]]:
        """Segment each dialogue; all windows of all dialogues go to the engine together.

        Raises:
            RecordError: The engine cannot read a dialogue (reason `segment_failed`).
            BusyError: The engine was away or too busy.
        """
        views = [self._views(dialogue) for dialogue in dialogues]
        requests = [
            GenerationRequest(
                request_id=f"{number}-{place}",
                messages=self._prompts.segment(view.dialogue, self._language),
                sampling=Sampling(max_new_tokens=16 + TOKENS_PER_TURN * len(view.turn_ids)),
                adapter=self._adapter,
            )
            for number, parts in enumerate(views)
            for place, view in enumerate(parts)
        ]
        answers = iter(self._engine.generate(requests))
        return [
            self._fragments(dialogue, [(view, next(answers)) for view in parts])
            for dialogue, parts in zip(dialogues, views, strict=True)
        ]

    def _views(self, dialogue: Dialogue) -> list[LocalView]:
        return [
            local_view(dialogue, Fragment(fragment_id=0, turn_ids=tuple(window)))
            for window in windows(len(dialogue.turns), *self._window)
        ]

    def _fragments(
        self, dialogue: Dialogue, read: Sequence[tuple[LocalView, Completion]]
    ) -> tuple[Fragment, ...]:
        parts = []
        counts = Counter({"dialogues": 1})
        for view, answer in read:
            if answer.unanswered:
                raise BusyError(
                    f"dialogue {dialogue.dialogue_id!r} cannot be segmented now: {answer.error}"
                )
            if answer.error is not None:
                raise RecordError(
                    "segment_failed",
                    f"dialogue {dialogue.dialogue_id!r} cannot be segmented: {answer.error}",
                )
            parsed = parse_clusters(answer.text, len(view.turn_ids))
            counts += Counter(
                windows=1,
                malformed=int(not parsed.well_formed),
                missing=parsed.missing if parsed.well_formed else 0,
                repeated=parsed.repeated,
                unknown=parsed.unknown,
            )
            clusters = [[view.turn_ids[i] for i in cluster] for cluster in parsed.clusters]
            parts.append((range(view.turn_ids[0], view.turn_ids[-1] + 1), clusters))
        with self._lock:
            self._counts += counts
        return fragments_from_clusters(stitch(parts))
