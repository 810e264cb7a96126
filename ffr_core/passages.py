"""Text form of turns and fragments: what encoders embed and BM25 searches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ffr_core.types import Dialogue, Fragment, Image, Passage, Turn

_OPAQUE_NAME = re.compile(
    r"^(img|image|dsc|pxl|photo|wa|screenshot|file|attachment|[\W\d_])*$", re.I
)


def image_words(image: Image) -> str:
    """Caption, file name and text inside the picture; names such as `IMG_2041.jpg` say nothing."""
    stem = PurePosixPath((image.uri or "").split("?")[0]).stem
    words = "" if _OPAQUE_NAME.match(stem) or len(stem) > 60 else re.sub(r"[-_.+]+", " ", stem)
    return " ".join(part for part in (image.caption, words, image.text) if part)


def turn_text(turn: Turn) -> str:
    """`speaker: text captions`, on one line."""
    parts = [turn.text, *(image_words(image) for image in turn.images)]
    return f"{turn.speaker}: " + " ".join(" ".join(parts).split())


def passage_of(dialogue: Dialogue, turn_ids: Sequence[int]) -> Passage:
    """One passage over the given turns, a line a turn."""
    turns = [dialogue.turns[i] for i in turn_ids]
    return Passage(
        text="\n".join(turn_text(turn) for turn in turns),
        turn_ids=tuple(turn_ids),
        images=tuple(image for turn in turns for image in turn.images),
    )


def make_passages(
    dialogue: Dialogue, fragment: Fragment, window_tokens: int = 0
) -> tuple[Passage, ...]:
    """The passages of a fragment that are embedded and searched: its turns, then its windows.

    A window of one turn is that turn's passage and does not come twice.
    """
    turns = [(turn_id,) for turn_id in fragment.turn_ids]
    wide = [w for w in passage_windows(dialogue, fragment.turn_ids, window_tokens) if len(w) > 1]
    return tuple(passage_of(dialogue, turn_ids) for turn_ids in [*turns, *wide])


def passage_windows(
    dialogue: Dialogue, turn_ids: Sequence[int], window_tokens: int
) -> list[tuple[int, ...]]:
    """Cut turns into runs of neighbors that hold up to `window_tokens` tokens together.

    A token is taken to be four bytes, so that a cut depends on no encoder; a longer turn is alone.

    Example:
        Texts of 100, 100 and 400 bytes, 60 tokens: the first two turns share a window.
    """
    found: list[list[int]] = []
    used = 0.0
    for turn_id in turn_ids:
        size = len(turn_text(dialogue.turns[turn_id]).encode("utf-8", "surrogatepass")) / 4
        if not found or used + size > window_tokens:
            found.append([])
            used = 0.0
        found[-1].append(turn_id)
        used += size
    return [tuple(window) for window in found]
