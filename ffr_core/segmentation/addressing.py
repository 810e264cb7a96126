"""Who a turn speaks to: `name:`, `name,` and `@name` at its start, names inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.types import Dialogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD = re.compile(r"[^\s,:;@<>!?，：；。！？、()（）\"]+")
_EXPLICIT = re.compile(r"^\s*(?:@(\S{2,40}?)[\s:：,，]|([^\s:,，：@]{2,40})\s?[:,，：])")
_AT = re.compile(r"@([^\s:,，：@]{2,40})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Explicit addressing and mentions in one dialogue, turn by turn."""

    addressees: tuple[tuple[str, ...], ...]
    """Speakers that the turn addresses explicitly; never its own speaker."""
    mentions: tuple[frozenset[str], ...]
    """Speakers whose name occurs anywhere in the turn, addressees included."""
    participants: tuple[str, ...]
    """Speakers in order of their first turn."""

    @classmethod
    def of(cls, dialogue: Dialogue) -> Addressing:
        """Read the names of the dialogue's participants in its texts, whatever their case."""
        names = _aliases(dialogue.participants)
        addressees, mentions = [], []
        for turn in dialogue.turns:
            found = [m.group(1) or m.group(2) for m in [_EXPLICIT.match(turn.text + " ")] if m]
            found += _AT.findall(turn.text)
            explicit = dict.fromkeys(names[word.lower()] for word in found if word.lower() in names)
            explicit.pop(turn.speaker, None)
            words = (word.lower() for word in _WORD.findall(turn.text))
            inside = {names[word] for word in words if word in names} - {turn.speaker}
            addressees.append(tuple(explicit))
            mentions.append(frozenset(inside | set(explicit)))
        return cls(
            addressees=tuple(addressees),
            mentions=tuple(mentions),
            participants=dialogue.participants,
        )

    def share(self, reply_to: Sequence[int | None]) -> float:
        """Share of the turns that address somebody or, as the source says, answer a turn."""
        directed = [
            bool(names) or answered is not None
            for names, answered in zip(self.addressees, reply_to, strict=True)
        ]
        return sum(directed) / len(directed)

    def part(self, start: int, end: int, speakers: Sequence[str]) -> Addressing:
        """The addressing of turns start..end-1 alone.

        Args:
            start: First turn.
            end: The turn after the last.
            speakers: Who speaks in these turns; nobody else can be addressed.
        """
        present = frozenset(speakers)
        return Addressing(
            addressees=tuple(
                tuple(name for name in names if name in present)
                for names in self.addressees[start:end]
            ),
            mentions=tuple(names & present for names in self.mentions[start:end]),
            participants=tuple(name for name in self.participants if name in present),
        )

    @property
    def matrices(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Who is addressed and who is mentioned, [T, S] each, S as in `participants`."""
        column = {name: i for i, name in enumerate(self.participants)}
        shape = (len(self.addressees), len(self.participants))
        addressed, mentioned = np.zeros(shape, bool), np.zeros(shape, bool)
        for turn_id, (to, named) in enumerate(zip(self.addressees, self.mentions, strict=True)):
            addressed[turn_id, [column[name] for name in to]] = True
            mentioned[turn_id, [column[name] for name in named]] = True
        return addressed, mentioned


def _aliases(participants: tuple[str, ...]) -> dict[str, str]:
    """Lower-cased full names and unambiguous first names -> speaker."""
    aliases = {name.lower(): name for name in participants if len(name) >= 2}
    first: dict[str, list[str]] = {}
    for name in participants:
        head = name.split()[0].lower() if name.split() else ""
        if len(head) >= 3:
            first.setdefault(head, []).append(name)
    for head, owners in first.items():
        if len(owners) == 1:
            aliases.setdefault(head, owners[0])
    return aliases
