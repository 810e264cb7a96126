"""Unlimited multi-modal dialogues with gold labels, drawn from a closed vocabulary.

What the pictures show is not in the text, topics of one dialogue share words, and the two sides of
the split share the vocabulary but no combination of an object with a color, an action or a place,
nor of an action with a place, no template, no name and no picture.

    ffrs synth --dialogues 200 --seed 1 --out DIR --split heldout
    ffrs synth --dialogues 200 --seed 1 --out DIR --format dialogcc --defects 0.1

`words` is the vocabulary, `english` and `chinese` hold the words and templates; `topics`, `turns`
and `queries` compose dialogues and their gold; `shapes`, `backgrounds` and `pictures` draw.
"""

from ffr_core.dataset.synthetic.config import QaPair, SynthConfig, SyntheticDialogue
from ffr_core.dataset.synthetic.generate import generate, generate_one
from ffr_core.dataset.synthetic.grammar import vocabulary
from ffr_core.dataset.synthetic.pictures import PictureSpec, describe_picture, draw_picture
from ffr_core.dataset.synthetic.write import SynthReport, write

__all__ = [
    "PictureSpec",
    "QaPair",
    "SynthConfig",
    "SynthReport",
    "SyntheticDialogue",
    "describe_picture",
    "draw_picture",
    "generate",
    "generate_one",
    "vocabulary",
    "write",
]
