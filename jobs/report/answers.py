"""Ask a localizer, and keep apart what may go wrong.

An engine that stays away is no answer: three requests in a row that it leaves alone, or a part of
a cell without one answer, end the cell. A dialogue that cannot be read (a picture that cannot be
opened, a prompt that is too long) selects nothing. Ids that do not exist are left out of a
selection and counted; they are false positives.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ffr_core.errors import BusyError, InputError
from ffr_core.localization.f2rvlm import F2rvlmLocalizer
from ffr_core.parsing import parse_selection
from ffr_core.protocols import Localizer
from ffr_core.types import Dialogue, Localization
from jobs.report.systems import Chosen

ENGINE_ERRORS = "engine_errors"
"""Counts requests that the engine left alone; a cell with some is measured again."""
MAX_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a localizer said about one dialogue."""

    localization: Localization
    unknown_utterances: int = 0
    unknown_images: int = 0

    @property
    def chosen(self) -> Chosen:
        """The ids, and how many do not exist."""
        selection = self.localization.selection
        return Chosen(
            utterance_ids=selection.utterance_ids,
            image_ids=selection.image_ids,
            unknown_utterances=self.unknown_utterances,
            unknown_images=self.unknown_images,
        )


class Asker:
    """Asks about one dialogue after the other and counts what could not be answered."""

    def __init__(self, localizer: Localizer, counts: Counter[str]) -> None:
        self._localizer, self._counts = localizer, counts
        self._answers = self._failures = self._in_a_row = 0
        self._last = ""

    def ask(self, query: str, dialogue: Dialogue) -> Answered | None:
        """Read the whole dialogue; None when there is no answer.

        Raises:
            BusyError: The engine has left `MAX_IN_A_ROW` requests alone.
        """
        try:
            found = read(self._localizer, query, dialogue)
        except (BusyError, InputError) as error:
            self._fail(str(error), away=isinstance(error, BusyError))
            return None
        self._answers += 1
        self._in_a_row = 0
        return found

    def finish(self) -> None:
        """Check that there was an answer where something was asked.

        Raises:
            InputError: Every request failed.
        """
        if self._failures and not self._answers:
            raise InputError(
                f"none of {self._failures} requests was answered, so nothing is measured; check the"
                f" engine and the set, last: {self._last}"
            )

    def _fail(self, message: str, away: bool) -> None:
        self._counts[ENGINE_ERRORS if away else "unreadable"] += 1
        self._failures += 1
        self._in_a_row = self._in_a_row + 1 if away else 0
        self._last = message
        if self._in_a_row == MAX_IN_A_ROW:
            raise BusyError(
                f"the engine left {MAX_IN_A_ROW} requests in a row unanswered; start it and run"
                f" the report again, last: {message}"
            )


def read(localizer: Localizer, query: str, dialogue: Dialogue) -> Answered:
    """Localize in the whole dialogue; of a model that names ids, count those that do not exist.

    The unknown ids of several windows are added up: each window has ids of its own.

    Raises:
        BusyError: The engine left a request alone.
        InputError: A part of the dialogue cannot be read.
    """
    if not isinstance(localizer, F2rvlmLocalizer):
        return Answered(localization=localizer.localize(query, dialogue))
    parts = localizer.reader.parts(query, dialogue)
    answers = localizer.engine.generate([part.request for part in parts])
    found = localizer.reader.read(parts, answers)
    parsed = [
        parse_selection(answer.text, len(part.view.turn_ids), len(part.view.image_ids))
        for part, answer in zip(parts, answers, strict=True)
    ]
    return Answered(
        localization=found,
        unknown_utterances=sum(one.unknown_utterances for one in parsed),
        unknown_images=sum(one.unknown_images for one in parsed),
    )
