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


def make_passages(dialogue: Dialogue, fragment: Fragment) -> tuple[Passage, ...]:
    """The passages of a fragment that are embedded and searched: each of its turns."""
    return tuple(passage_of(dialogue, [turn_id]) for turn_id in fragment.turn_ids)
