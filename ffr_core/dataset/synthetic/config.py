"""Settings of the generator and what it yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from ffr_core.config import Config
from ffr_core.dataset.synthetic.pictures import PictureSpec
from ffr_core.types import Dialogue


class SynthConfig(Config):
    """What to generate. Dialogue n depends on the seed, the side and n, not on `dialogues`."""

    dialogues: int = Field(ge=1)
    """How many."""
    seed: int = 0
    """The same seed gives the same dialogues."""
    language: Literal["en", "zh", "mixed"] = "en"
    """Every dialogue is in one language; `mixed` draws it for each."""
    turns: tuple[int, int] = (12, 40)
    """Fewest and most turns of a dialogue."""
    topics: tuple[int, int] = (2, 4)
    """Fewest and most topics; at least three turns go to each."""
    split: Literal["train", "heldout"] = "train"
    """Side of the split of combinations, templates, names and drawn instances."""
    images: bool = True
    """Whether turns carry pictures."""
    picture_size: int = Field(default=512, ge=56, le=2048)
    """Pixels on each side of a drawn picture."""
    captions: bool = False
    """Whether pictures carry captions, which reveal their content."""
    defects: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of dialogues with one planted defect; only `--format dialogcc`."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name, (low, high), least in (("turns", self.turns, 3), ("topics", self.topics, 1)):
            if not least <= low <= high:
                raise ValueError(f"{name} {low}:{high} must be MIN:MAX with {least} <= MIN <= MAX")
        if self.turns[0] < 3 * self.topics[0]:
            raise ValueError(
                f"{self.turns[0]} turns are too few for {self.topics[0]} topics;"
                " give every topic at least three turns"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class QaPair:
    """A question about a fragment and its answer."""

    question: str
    answer: str
    question_turns: tuple[int, ...]
    """Turn ids of the question; empty where nobody asks it in the dialogue."""
    answer_turns: tuple[int, ...]
    """Turn ids of the answer."""
    answer_images: tuple[int, ...]
    """Image ids of the answer."""
    fragment_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticDialogue:
    """A dialogue with gold labels and all that is needed to draw its pictures."""

    dialogue: Dialogue
    """The image with id i has the URI `images/{dialogue_id}-{i}.png`."""
    pictures: tuple[PictureSpec, ...]
    """`pictures[image_id]`."""
    qa_pairs: tuple[QaPair, ...]
