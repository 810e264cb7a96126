"""Ground, sky and weather shared by the outdoor settings."""

from __future__ import annotations

import random

from ffr_core.dataset.drawing.canvas import Canvas, Pen, Point, smooth
from ffr_core.dataset.drawing.objects.sky import cloud
from ffr_core.dataset.drawing.palette import RGB, SNOW, darker, mix
from ffr_core.dataset.drawing.specs import Season

WIDTH, HEIGHT = 640.0, 480.0
_SKY: tuple[RGB, RGB] = ((150, 204, 236), (222, 240, 248))


def grass(season: Season | None) -> RGB:
    """The ground's color through the year."""
    if season == "winter":
        return SNOW
    return (186, 178, 104) if season == "autumn" else (158, 204, 124)


def leaves(season: Season | None) -> tuple[RGB, RGB]:
    """Two foliage colors through the year."""
    if season == "winter":
        return (206, 220, 230), (224, 234, 242)
    if season == "autumn":
        return (222, 140, 62), (202, 98, 58)
    return (104, 170, 98), (124, 184, 106)


def heaven(canvas: Canvas, horizon: float, season: Season | None, clouds: int = 2) -> None:
    """The sky down to `horizon`, with `clouds` clouds."""
    top, bottom = _SKY
    if season == "winter":
        top, bottom = mix(top, (196, 208, 220), 0.7), (232, 238, 244)
    elif season == "autumn":
        top, bottom = mix(top, (238, 214, 180), 0.35), (248, 234, 210)
    canvas.gradient((0, 0, WIDTH, horizon), top, bottom)
    for x, y, size in ((130, 92, 0.95), (520, 70, 0.8), (330, 52, 0.6))[:clouds]:
        cloud(Pen(canvas, x, y, size))


def hill(canvas: Canvas, points: list[Point], fill: RGB) -> None:
    """Fills below a smooth ridge that runs from the left to the right edge."""
    canvas.polygon([(0, HEIGHT), *smooth(points, closed=False), (WIDTH, HEIGHT)], fill)


def _tufts(canvas: Canvas, top: float, color: RGB, count: int = 16) -> None:
    """Scatters small marks, always the same, that turn a flat ground into grass or snow."""
    spots = random.Random(7)
    for _ in range(count):
        x, y = spots.uniform(10, 630), spots.uniform(top + 24, 470)
        for dx in (-4, 0, 4):
            canvas.line([(x, y), (x + dx, y - 7 - abs(4 - abs(dx)) / 2)], color, 1.8)


def ground_marks(canvas: Canvas, top: float, season: Season | None) -> None:
    """Blades, fallen leaves or drifts of snow below `top`."""
    ground = grass(season)
    if season == "winter":
        for left, middle, right in ((30, 400, 210), (320, 360, 540), (450, 446, 630)):
            if middle > top + 20:
                canvas.ellipse((left, middle - 7, right, middle + 7), (230, 238, 246))
        return
    _tufts(canvas, top, darker(ground, 0.16))
    if season == "autumn":
        spots = random.Random(11)
        for _ in range(26):
            x, y = spots.uniform(6, 634), spots.uniform(top + 16, 474)
            paint = spots.choice(((214, 120, 52), (226, 170, 70), (190, 82, 52)))
            canvas.ellipse((x - 5, y - 2.6, x + 5, y + 2.6), paint)


def snowfall(canvas: Canvas) -> None:
    """Flakes in front of everything."""
    spots = random.Random(3)
    for _ in range(70):
        x, y, r = spots.uniform(0, 640), spots.uniform(0, 480), spots.uniform(1.4, 3.2)
        canvas.ellipse((x - r, y - r, x + r, y + r), (255, 255, 255, 230))
