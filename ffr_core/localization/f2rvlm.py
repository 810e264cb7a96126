"""F2RVLM as a localizer: a vision-language model reads a fragment with the query.

Source: Sec 5.2.2 (4) (the model reads each candidate) and App. C.1 (windows of 35 turns, overlap
15, union of results), as stated; it may select nothing, grammar and confidences: our choice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ffr_core.errors import BusyError, InputError
from ffr_core.generation import Completion, GenerationRequest, Sampling
from ffr_core.localization.calibration import Calibration
from ffr_core.localization.confidence import raw_confidence
from ffr_core.markup import LocalView, local_view
from ffr_core.parsing import parse_selection
from ffr_core.prompts import Prompts
from ffr_core.protocols import AsyncEngine, Engine
from ffr_core.types import Dialogue, Fragment, Localization, PassageEvidence
from ffr_core.windows import WINDOW_OVERLAP, WINDOW_TURNS, check_windows, windows

FRAME_TOKENS = 48
"""Room for the four markers of an answer where each takes several tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One window of a fragment, and what is asked about it."""

    view: LocalView
    request: GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class F2rvlmReader:
    """Builds requests and reads answers; asks nobody itself."""

    prompts: Prompts
    adapter: str | None = None
    """Name under which the engine holds the adapter."""
    calibration: Calibration = field(default_factory=Calibration)
    grammar: bool = True
    """Answers can only name ids that exist; needs an engine with grammars."""
    language: str | None = None
    """Language of the instructions; each dialogue's own when left out."""
    window_turns: int = WINDOW_TURNS
    window_overlap: int = WINDOW_OVERLAP
    counts: Counter[str] = field(default_factory=Counter, compare=False)
    """Windows read so far, malformed answers and unknown ids among them."""

    def __post_init__(self) -> None:
        """Check the windows."""
        check_windows(self.window_turns, self.window_overlap)

    def parts(
        self, query: str, dialogue: Dialogue, turn_ids: Sequence[int] | None = None
    ) -> list[Part]:
        """The requests for one fragment (None: the whole dialogue), one a window."""
        ids = sorted(range(len(dialogue.turns)) if turn_ids is None else set(turn_ids))
        parts = []
        for number, window in enumerate(windows(len(ids), self.window_turns, self.window_overlap)):
            chosen = tuple(ids[i] for i in window)
            view = local_view(dialogue, Fragment(fragment_id=0, turn_ids=chosen))
            room = FRAME_TOKENS + _id_tokens(len(view.turn_ids)) + _id_tokens(len(view.image_ids))
            request = GenerationRequest(
                request_id=str(number),
                messages=self.prompts.localize(view.dialogue, query, self.language),
                sampling=Sampling(max_new_tokens=room),
                grammar=selection_grammar(len(view.turn_ids), len(view.image_ids))
                if self.grammar
                else None,
                adapter=self.adapter,
            )
            parts.append(Part(view=view, request=request))
        return parts

    def read(self, parts: Sequence[Part], answers: Sequence[Completion]) -> Localization:
        """Union over the windows, in the dialogue's own ids; the highest confidence counts.

        Raises:
            BusyError: The engine was away or too busy.
            InputError: A part cannot be read.
        """
        utterances: dict[int, float] = {}
        images: dict[int, float] = {}
        relevance = 0.0
        for part, answer in zip(parts, answers, strict=True):
            if answer.unanswered:
                raise BusyError(
                    f"dialogue {part.view.dialogue.dialogue_id!r} cannot be read now:"
                    f" {answer.error}"
                )
            if answer.error is not None:
                raise InputError(
                    f"dialogue {part.view.dialogue.dialogue_id!r} cannot be read: {answer.error}"
                )
            view, raw = part.view, raw_confidence(answer)
            parsed = parse_selection(answer.text, len(view.turn_ids), len(view.image_ids))
            local = parsed.selection
            self.counts.update(
                windows=1,
                malformed=int(not parsed.well_formed),
                unknown_ids=parsed.unknown_ids,
            )
            for i in local.utterance_ids:
                place, sure = view.turn_ids[i], self.calibration.utterance(raw.utterances[i])
                utterances[place] = max(sure, utterances.get(place, 0.0))
            for i in local.image_ids:
                place, sure = view.image_ids[i], self.calibration.image(raw.images[i])
                images[place] = max(sure, images.get(place, 0.0))
            nothing_known = not local and (raw.utterances or raw.images or not parsed.well_formed)
            found = self.calibration.relevance(0.0 if nothing_known else raw.relevance)
            relevance = max(relevance, found)
        return Localization(
            utterances=dict(sorted(utterances.items())),
            images=dict(sorted(images.items())),
            relevance=relevance,
        )


class F2rvlmLocalizer:
    """`Localizer` over an engine; several threads may call it at once."""

    def __init__(self, engine: Engine, reader: F2rvlmReader) -> None:
        self.engine, self.reader = engine, reader

    def localize(
        self,
        query: str,
        dialogue: Dialogue,
        turn_ids: Sequence[int] | None = None,
        evidence: Sequence[PassageEvidence] = (),
    ) -> Localization:
        """Select inside `turn_ids`; stored vectors are of no use here."""
        parts = self.reader.parts(query, dialogue, turn_ids)
        return self.reader.read(parts, self.engine.generate([part.request for part in parts]))

    def localize_many(
        self, items: Sequence[tuple[str, Dialogue, Sequence[int] | None]]
    ) -> list[Localization]:
        """Many (query, dialogue, turn_ids) in one call of the engine, in their order."""
        prepared = [self.reader.parts(*item) for item in items]
        answers = iter(self.engine.generate([part.request for p in prepared for part in p]))
        return [self.reader.read(parts, [next(answers) for _ in parts]) for parts in prepared]


class AsyncF2rvlmLocalizer:
    """The form for serving: many fragments in flight, canceling a task reaches the engine."""

    def __init__(self, engine: AsyncEngine, reader: F2rvlmReader) -> None:
        self.engine, self.reader = engine, reader

    async def localize(
        self,
        query: str,
        dialogue: Dialogue,
        turn_ids: Sequence[int] | None = None,
        evidence: Sequence[PassageEvidence] = (),
    ) -> Localization:
        """As `F2rvlmLocalizer.localize`."""
        parts = self.reader.parts(query, dialogue, turn_ids)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.engine.generate(part.request)) for part in parts]
        return self.reader.read(parts, [task.result() for task in tasks])


@lru_cache(maxsize=4096)
def selection_grammar(num_turns: int, num_images: int) -> str:
    """A regular expression for answers whose ids exist; all but the last id of a list ascend.

    Example:
        Two turns and no image: `[]`, `[0]`, `[1]`, `[0, 0]`, `[0, 1]` and an empty image list.
    """
    return (
        rf"<\|utt_ids_start\|>\[{_id_list(num_turns)}\]<\|utt_ids_end\|>;"
        rf"<\|img_ids_start\|>\[{_id_list(num_images)}\]<\|img_ids_end\|>"
    )


def _id_tokens(count: int) -> int:
    """Room for all ids below `count`, each digit, comma and space a token; at least 4 an id."""
    return count * max(4, len(str(count)) + 2)


def _id_list(count: int) -> str:
    """At most `count` ids below `count`, so that an answer always ends."""
    if not count:
        return ""
    before = "".join(f"({i}, )?" for i in range(count - 1))
    return f"({before}({'|'.join(map(str, range(count)))}))?"
