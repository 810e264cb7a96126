"""Draws the pictures of the sample corpus from small JSON specs.

The drawn PNGs ship with the package, so Pillow and the fonts are needed only to redraw them:
`python -m ffr_core.dataset.drawing SPECS.json OUT_DIR`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from ffr_core.dataset.drawing.cards import draw_card
from ffr_core.dataset.drawing.charts import draw_chart
from ffr_core.dataset.drawing.fonts import FontMissingError
from ffr_core.dataset.drawing.maps import draw_floor_plan, draw_map
from ffr_core.dataset.drawing.panels import draw_calendar, draw_screen, draw_table, draw_weather
from ffr_core.dataset.drawing.papers import draw_note, draw_receipt
from ffr_core.dataset.drawing.scene import draw_scene
from ffr_core.dataset.drawing.specs import (
    Calendar,
    Card,
    Chart,
    FloorPlan,
    Map,
    Note,
    Receipt,
    Scene,
    Screen,
    Spec,
    SpecError,
    Table,
    Weather,
    parse,
)

__all__ = ["MAX_BYTES", "FontMissingError", "SpecError", "draw", "encode"]

MAX_BYTES = 25_000
"""Largest PNG that `encode` aims at."""

_COLOR_COUNTS = (128, 96, 64, 48, 32)


def draw(spec: Mapping[str, object]) -> Image.Image:
    """Draws one spec; the same spec gives the same pixels.

    Args:
        spec: `kind` and its parameters, see `ffr_core.dataset.drawing.specs`.

    Returns:
        An RGB image of 640x480 or 480x640 pixels.

    Raises:
        SpecError: the spec has a wrong value, or a text that does not fit or cannot be written.
        FontMissingError: a needed font is not installed.
    """
    parsed = parse(spec)
    try:
        return _dispatch(parsed)
    except SpecError as error:
        if str(error).startswith(parsed.name):
            raise
        raise SpecError(f"{parsed.name}: {error}") from None


def _dispatch(spec: Spec) -> Image.Image:
    match spec:
        case Receipt():
            return draw_receipt(spec)
        case Chart():
            return draw_chart(spec)
        case Table():
            return draw_table(spec)
        case Map():
            return draw_map(spec)
        case Card():
            return draw_card(spec)
        case Screen():
            return draw_screen(spec)
        case Calendar():
            return draw_calendar(spec)
        case Note():
            return draw_note(spec)
        case FloorPlan():
            return draw_floor_plan(spec)
        case Weather():
            return draw_weather(spec)
        case Scene():
            return draw_scene(spec)


def encode(image: Image.Image) -> bytes:
    """Palettised PNG with as many colors as `MAX_BYTES` allows, at least 32."""
    for count in _COLOR_COUNTS:
        reduced = image.quantize(
            count, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
        )
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()
