"""Defects that a cleaning step must find, planted one a dialogue."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from ffr_core.dataset.synthetic.pictures import PictureSpec
from ffr_core.dataset.synthetic.words import OBJECTS, Split, colors_of

KINDS = (
    "mismatched_image",
    "off_topic",
    "broken_turn_structure",
    "small_image",
    "extreme_aspect_ratio",
    "near_duplicate",
)
_REASONS = {"mismatched_image": "low_image_text_similarity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedPicture:
    """A picture and the pixels of its file."""

    picture: PictureSpec
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A short dialogue before it is written."""

    dialogue_id: str
    language: str
    entries: list[dict[str, Any]]
    """The list `dialogue` of DialogCC."""
    files: dict[str, SizedPicture]
    """URI -> what its file holds, in the order of the image ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """What was planted where."""

    dialogue_id: str
    kind: str
    """One of `KINDS`."""
    image_ids: tuple[int, ...] = ()
    """Images that the defect is in; empty where it is in the turns."""
    other: str | None = field(default=None)
    """The dialogue that turns were taken from."""

    def record(self) -> dict[str, Any]:
        """The JSON form; `reason` is how a cleaning step names it."""
        return {
            "dialogue_id": self.dialogue_id,
            "defect": self.kind,
            "reason": _REASONS.get(self.kind, self.kind),
            "image_ids": list(self.image_ids),
            "other": self.other,
        }


def plant(kind: str, made: Short, other: Short, split: Split) -> tuple[Short, Defect]:
    """Put one defect into a dialogue.

    Args:
        kind: One of `KINDS`; a kind that needs a picture becomes `off_topic` where there is none.
        made: The dialogue, left as it is.
        other: A dialogue before it in the same corpus that has no defect.
        split: Side of the split.
    """
    if kind in ("mismatched_image", "small_image", "extreme_aspect_ratio") and not made.files:
        kind = "off_topic"
    if kind == "near_duplicate":
        return _copy(made, other)
    if kind == "broken_turn_structure":
        return _broken(made)
    if kind == "off_topic":
        return _mixed(made, other)
    first = next(iter(made.files))
    sized = made.files[first]
    changed = {
        "mismatched_image": lambda: replace(sized, picture=_another(sized.picture, split)),
        "small_image": lambda: replace(sized, width=499, height=499),
        "extreme_aspect_ratio": lambda: replace(sized, width=4096, height=512),
    }[kind]()
    defect = Defect(dialogue_id=made.dialogue_id, kind=kind, image_ids=(0,))
    return replace(made, files={**made.files, first: changed}), defect


def _another(picture: PictureSpec, split: Split) -> PictureSpec:
    """Another object in another color; the text still names the first."""
    key = OBJECTS[(OBJECTS.index(picture.object) + 7) % len(OBJECTS)]
    color = next(color for color in colors_of(key, split) if color != picture.color)
    return replace(picture, object=key, color=color)


def _broken(made: Short) -> tuple[Short, Defect]:
    """The second turn comes from the first speaker, so that User1-User2-User1 does not hold."""
    entries = deepcopy(made.entries)
    entries[1]["speaker"] = entries[0]["speaker"]
    defect = Defect(dialogue_id=made.dialogue_id, kind="broken_turn_structure")
    return replace(made, entries=entries), defect


def _mixed(made: Short, other: Short) -> tuple[Short, Defect]:
    """Every second turn without a picture says something from another dialogue.

    Its long turns first: a bare answer (*forty dollars*) fits any topic.
    """
    entries = deepcopy(made.entries)
    said = [entry["utterance"] for entry in other.entries if not entry["shared_image"]]
    said.sort(key=len, reverse=True)
    spoken = [entry for entry in entries if not entry["shared_image"]]
    for entry, text in zip(spoken[1::2], said, strict=False):
        entry["utterance"] = text
    defect = Defect(dialogue_id=made.dialogue_id, kind="off_topic", other=other.dialogue_id)
    return replace(made, entries=entries), defect


def _copy(made: Short, other: Short) -> tuple[Short, Defect]:
    """An earlier dialogue, with one turn said twice over and its pictures under new names."""
    entries = deepcopy(other.entries)
    files: dict[str, SizedPicture] = {}
    for entry in entries:
        for image in entry["shared_image"]:
            uri = image["image_url"].replace(other.dialogue_id, made.dialogue_id)
            files[uri] = other.files[image["image_url"]]
            image["image_url"] = uri
    last = max(i for i, entry in enumerate(entries) if not entry["shared_image"])
    entries[last]["utterance"] = entries[0]["utterance"]
    defect = Defect(dialogue_id=made.dialogue_id, kind="near_duplicate", other=other.dialogue_id)
    copied = replace(made, language=other.language, entries=entries, files=files)
    return copied, defect
