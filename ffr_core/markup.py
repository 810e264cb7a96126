r"""Render dialogues with the paper's markers; text that people typed can never forge one.

Input form: `<|utt_id_start|>ID<|utt_id_end|>` before each turn, `<|img_id_start|>ID<|img_id_end|>`
before each image, the query between `<|query_start|>` and `<|query_end|>`. Output form:
`<|utt_ids_start|>[0, 3]<|utt_ids_end|>;<|img_ids_start|>[1]<|img_ids_end|>`.
Source: Sec 3 (input and output markers, as stated; query markers: authors' setting).

Departure (our choice): typed text is escaped. A `<` that opens a marker or a chat-template token
gets a backslash behind it, `<|` becomes `<\|` and `<\|` becomes `<\\|`, so `unescape` is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ffr_core.types import Dialogue, Fragment, Image, Selection, Turn

_OPENING = re.compile(r"<(\\*)(?=\||/?(?:tool_call|tool_response|think|im_start|im_end|s)>)")
_ESCAPED = re.compile(r"<\\(\\*)(?=\||/?(?:tool_call|tool_response|think|im_start|im_end|s)>)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalView:
    """A fragment as a dialogue of its own: turns and images count from 0 inside it.

    The only place that converts ids. Source: Sec 5.2.2 (1), as stated.
    """

    dialogue: Dialogue
    """The fragment's turns with local ids."""
    turn_ids: tuple[int, ...]
    """Dialogue turn id of each local turn id."""
    image_ids: tuple[int, ...]
    """Dialogue image id of each local image id."""

    def to_dialogue(self, selection: Selection) -> Selection:
        """Convert local ids to ids of the whole dialogue; unknown ids raise IndexError."""
        return Selection(
            utterance_ids=frozenset(self.turn_ids[i] for i in selection.utterance_ids),
            image_ids=frozenset(self.image_ids[i] for i in selection.image_ids),
        )

    def to_local(self, selection: Selection) -> Selection:
        """Convert dialogue ids to local ids, leaving out what lies outside the fragment."""
        turns = {turn_id: i for i, turn_id in enumerate(self.turn_ids)}
        images = {image_id: i for i, image_id in enumerate(self.image_ids)}
        return Selection(
            utterance_ids=frozenset(turns[i] for i in selection.utterance_ids if i in turns),
            image_ids=frozenset(images[i] for i in selection.image_ids if i in images),
        )


def local_view(dialogue: Dialogue, fragment: Fragment) -> LocalView:
    """Renumber the turns and images of a fragment from 0."""
    local_of = {turn_id: i for i, turn_id in enumerate(fragment.turn_ids)}
    turns: list[Turn] = []
    image_ids: list[int] = []
    for local_id, turn_id in enumerate(fragment.turn_ids):
        turn = dialogue.turns[turn_id]
        images = []
        for image in turn.images:
            images.append(replace(image, image_id=len(image_ids)))
            image_ids.append(image.image_id)
        reply_to = None if turn.reply_to is None else local_of.get(turn.reply_to)
        turns.append(replace(turn, turn_id=local_id, reply_to=reply_to, images=tuple(images)))
    return LocalView(
        dialogue=Dialogue(
            dialogue_id=dialogue.dialogue_id,
            turns=tuple(turns),
            title=dialogue.title,
            language=dialogue.language,
        ),
        turn_ids=fragment.turn_ids,
        image_ids=tuple(image_ids),
    )


def escape(text: str) -> str:
    """Make typed text unable to open a marker or a chat-template token."""
    return _OPENING.sub(r"<\\\1", text)


def unescape(text: str) -> str:
    """Undo `escape` exactly."""
    return _ESCAPED.sub(r"<\1", text)


def render_dialogue(dialogue: Dialogue) -> tuple[str | Image, ...]:
    """Turn a dialogue into text parts and images, in reading order.

    A turn is one line: its id marker, `speaker: text`, then each image's id marker followed by the
    image itself. Line breaks inside a text are kept; typed text is escaped.
    """
    parts: list[str | Image] = []
    text = ""
    for turn in dialogue.turns:
        text += f"<|utt_id_start|>{turn.turn_id}<|utt_id_end|>"
        text += f"{escape(turn.speaker)}: {escape(turn.text)}"
        for image in turn.images:
            parts.append(f"{text}<|img_id_start|>{image.image_id}<|img_id_end|>")
            parts.append(image)
            text = escape(image.caption) if image.caption else ""
        text += "\n"
    return (*parts, text)


def render_query(query: str) -> str:
    """`<|query_start|>query<|query_end|>`, the query escaped."""
    return f"<|query_start|>{escape(query)}<|query_end|>"


def render_selection(selection: Selection) -> str:
    """The answer form, ids ascending; `parsing.parse_selection` reads it back."""
    return (
        f"<|utt_ids_start|>{_ids(selection.utterance_ids)}<|utt_ids_end|>;"
        f"<|img_ids_start|>{_ids(selection.image_ids)}<|img_ids_end|>"
    )


def render_clusters(clusters: Sequence[Iterable[int]]) -> str:
    """The boundary model's answer form, `[[0,1,2],[3,4]]`. Source: Sec 5.2.2 (1), as stated."""
    return "[" + ",".join("[" + ",".join(map(str, sorted(c))) + "]" for c in clusters) + "]"


def _ids(ids: Iterable[int]) -> str:
    return "[" + ", ".join(map(str, sorted(ids))) + "]"
