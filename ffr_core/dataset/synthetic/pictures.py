"""Pictures of synthetic dialogues: one big object in a simple place, and captions of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ffr_core.dataset.synthetic.backgrounds import BACKGROUNDS
from ffr_core.dataset.synthetic.grammar import grammar
from ffr_core.dataset.synthetic.shapes import SHAPES, Part
from ffr_core.dataset.synthetic.words import Split, lexicon

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (225, 25, 30),
    "orange": (255, 140, 0),
    "yellow": (252, 226, 30),
    "green": (20, 160, 50),
    "blue": (30, 70, 225),
    "purple": (130, 35, 175),
    "pink": (255, 125, 195),
    "brown": (120, 68, 28),
    "black": (22, 22, 24),
}
_DARK: RGB = (60, 60, 66)
_HALO: RGB = (255, 255, 255)
_HALO_WIDTH = 0.09
"""In units of the shape, around every part, so that the color stands out from the place."""
_OVERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """What a picture shows. Equal specs give equal pixels."""

    object: str
    color: str
    place: str
    style: int
    """Seed of position, size, rotation and background; odd for held-out pictures, else even."""

    @property
    def split(self) -> Split:
        """The side of the split that the instance belongs to."""
        return "heldout" if self.style % 2 else "train"


def draw_picture(spec: PictureSpec, size: int = 512) -> Image:
    """Draw a spec as an RGB image of `size` x `size` pixels; the same spec, the same pixels."""
    return draw_sized(spec, size, size)


def draw_sized(spec: PictureSpec, width: int, height: int) -> Image:
    """Draw a spec in any format; the object is sized by the shorter side."""
    from PIL import Image, ImageDraw

    rng = Random(f"style|{spec.style}")
    w, h = width * _OVERSAMPLING, height * _OVERSAMPLING
    image = Image.new("RGB", (w, h))
    pen = ImageDraw.Draw(image)
    BACKGROUNDS[spec.place](pen, w, h, rng)
    unit = min(w, h) * rng.uniform(0.31, 0.40)
    reach = 0.5 - unit * 1.05 / min(w, h)
    x = w * (0.5 + rng.uniform(-reach, reach))
    y = h * (0.52 + rng.uniform(-reach, reach) * 0.8)
    angle = math.radians(rng.uniform(-14, 14))
    flip = rng.choice((-1, 1))
    placed = [_place(part, x, y, unit, angle, flip) for part in SHAPES[spec.object]]
    for part in placed:
        _fill(pen, part, _HALO, _HALO_WIDTH * unit)
    for part in placed:
        _fill(pen, part, _DARK if part.dark else COLORS[spec.color], 0.0)
    return image.resize((width, height), Image.Resampling.BOX)


def describe_picture(spec: PictureSpec, language: str = "en", variant: int = 0) -> str:
    """A caption; held-out pictures are described by held-out templates.

    Args:
        spec: The picture.
        language: `en` or `zh`.
        variant: Which template; counts around.
    """
    words = lexicon(language)
    templates = grammar(language, spec.split).captions
    return templates[variant % len(templates)].format(
        o=words.objects[spec.object][0],
        c=words.colors[spec.color][0],
        p=words.places[spec.place][0],
    )


def _place(part: Part, x: float, y: float, unit: float, angle: float, flip: int) -> Part:
    cos, sin = math.cos(angle) * unit, math.sin(angle) * unit
    points = tuple(
        (x + flip * px * cos - py * sin, y + flip * px * sin + py * cos) for px, py in part.points
    )
    return Part(points, part.width * unit, part.dark)


def _fill(pen: ImageDraw, part: Part, paint: RGB, margin: float) -> None:
    if part.width:
        width = max(1, round(part.width + 2 * margin))
        pen.line(part.points, paint, width, joint="curve")
        radius = width / 2
        for px, py in (part.points[0], part.points[-1]):
            pen.ellipse((px - radius, py - radius, px + radius, py + radius), paint)
        return
    pen.polygon(part.points, paint)
    if margin:
        outline = (*part.points, part.points[0], part.points[1])
        pen.line(outline, paint, max(1, round(2 * margin)), joint="curve")
