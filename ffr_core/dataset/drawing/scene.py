"""Scenes: a setting with objects standing, hanging and flying in it."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from ffr_core.dataset.drawing import countryside, indoor, town
from ffr_core.dataset.drawing.canvas import LANDSCAPE, Canvas, Pen
from ffr_core.dataset.drawing.ground import snowfall
from ffr_core.dataset.drawing.objects import OBJECTS, Layer
from ffr_core.dataset.drawing.objects.animals import flying_bird
from ffr_core.dataset.drawing.palette import COLORS, WHITE
from ffr_core.dataset.drawing.specs import Scene, Season, SettingName, Thing

SETTINGS: dict[SettingName, Callable[[Canvas, Season | None], None]] = {
    "beach": countryside.beach,
    "mountain": countryside.mountain,
    "city": town.city,
    "street": town.street,
    "park": countryside.park,
    "forest": countryside.forest,
    "lake": countryside.lake,
    "living_room": indoor.living_room,
    "kitchen": indoor.kitchen,
    "office": indoor.office,
    "bedroom": indoor.bedroom,
    "garden": countryside.garden,
    "market": town.market,
    "station": town.station,
    "night_sky": countryside.night_sky,
    "studio": indoor.studio,
}
_INDOOR = ("living_room", "kitchen", "office", "bedroom", "studio")
_ORDER: tuple[Layer, ...] = ("sky", "wall", "floor")
_FLIGHT_LINE = 52.0
"""Outdoors a bird whose foot is above this percent flies, and no thing casts a shadow."""
_WALL_LINE = 63.0
"""Indoors a thing whose foot is above this percent hangs on the wall."""
_COUNTER_LINE = 46.0
"""The same in the kitchen, where things stand on the counter."""


def draw_scene(spec: Scene) -> Image.Image:
    """Draws the setting, then its objects from back to front."""
    canvas = Canvas(LANDSCAPE, WHITE)
    SETTINGS[spec.setting](canvas, spec.season)
    closeness = _closeness(spec)
    for thing in sorted(spec.objects, key=lambda thing: depth(thing, spec.objects, closeness)):
        _draw_thing(canvas, thing, spec, closeness)
    if spec.season == "winter" and spec.setting not in _INDOOR:
        snowfall(canvas)
    return canvas.finish()


def depth(thing: Thing, things: list[Thing], closeness: float = 1.0) -> tuple[int, float, int]:
    """Sort key from back to front.

    Sky, wall and floor things come first, air things last; the rest by their foot. A small thing
    whose foot lies inside a larger thing (a cup on a table, a cat on a sofa) follows the larger
    one.
    """
    layer = OBJECTS[thing.what].layer
    if layer in _ORDER:
        return _ORDER.index(layer), thing.y, 0
    if layer == "air":
        return len(_ORDER) + 1, thing.y, 0
    if layer == "ground":
        return len(_ORDER), thing.y, 0
    below = [other.y for other in things if _carries(other, thing, closeness)]
    return len(_ORDER), max([thing.y, *below]), 1


def _carries(other: Thing, thing: Thing, closeness: float = 1.0) -> bool:
    art = OBJECTS[other.what]
    if art.layer != "ground":
        return False
    size = other.size * art.scale * closeness
    reach = art.width * size / 2 / LANDSCAPE[0] * 100
    top = other.y - art.height * size / LANDSCAPE[1] * 100
    return abs(thing.x - other.x) <= reach and top - 2 <= thing.y <= other.y


def _draw_thing(canvas: Canvas, thing: Thing, spec: Scene, closeness: float) -> None:
    art = OBJECTS[thing.what]
    size = thing.size * art.scale * closeness
    pen = Pen(canvas, thing.x * 6.4, thing.y * 4.8, size)
    carried = any(_carries(other, thing, closeness) for other in spec.objects)
    flies = (
        thing.what == "bird"
        and spec.setting not in _INDOOR
        and thing.y < _FLIGHT_LINE
        and not carried
    )
    if art.layer in ("ground", "small") and (carried or thing.y >= _shadow_line(spec.setting)):
        pen.shadow(art.width * (0.7 if carried else 0.94), alpha=70)
    (flying_bird if flies else art.draw)(pen, COLORS[thing.color])


def _shadow_line(setting: SettingName) -> float:
    if setting == "kitchen":
        return _COUNTER_LINE
    return _WALL_LINE if setting in _INDOOR and setting != "studio" else _FLIGHT_LINE


def _closeness(spec: Scene) -> float:
    """Product pictures bring small things closer, all by the same factor."""
    if spec.setting != "studio" or not spec.objects:
        return 1.0
    arts = [OBJECTS[thing.what] for thing in spec.objects]
    largest = max(art.scale * max(art.width, art.height) for art in arts)
    return min(2.4, max(1.0, min(210.0, 520 / len(arts)) / largest))
