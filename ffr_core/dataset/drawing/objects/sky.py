"""What hangs in the sky: sun, moon and clouds."""

from __future__ import annotations

import math

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import RGB, WHITE, darker, lighter


def sun_disc(pen: Pen, color: RGB, radius: float) -> None:
    """A sun around the pen's origin, with pointed rays."""
    for index in range(12):
        angle = math.tau * index / 12
        spread = 0.13
        tip = radius * 1.62
        base = radius * 1.16
        pen.poly(
            [
                (base * math.cos(angle - spread), base * math.sin(angle - spread)),
                (tip * math.cos(angle), tip * math.sin(angle)),
                (base * math.cos(angle + spread), base * math.sin(angle + spread)),
            ],
            color,
        )
    pen.disc(0, 0, radius, color)
    pen.disc(-radius * 0.12, radius * 0.12, radius * 0.78, lighter(color, 0.28))


def sun(pen: Pen, color: RGB) -> None:
    """A sun standing on its lowest ray."""
    sun_disc(pen.at(0, 58), color, 36)


def moon(pen: Pen, color: RGB) -> None:
    """A crescent moon."""
    outer = pen.arc(0, 40, 40, 40, 50, 310)
    inner = pen.arc(18, 40, 33, 33, 292, 68)
    pen.poly([*outer, *inner], color)
    for x, y, radius in ((-26, 48, 5), (-16, 22, 4), (-10, 66, 3.6)):
        pen.disc(x, y, radius, darker(color, 0.12))


def weather_cloud(pen: Pen, color: RGB) -> None:
    """A puffy cloud around the pen's origin."""
    shade = darker(color, 0.1)
    pen.rect(-46, -16, 92, 26, shade, 13)
    for x, y, radius in ((-24, 4, 19), (4, 14, 26), (30, 4, 18)):
        pen.disc(x, y - 2, radius, shade)
    for x, y, radius in ((-24, 6, 18), (4, 17, 25), (30, 6, 17)):
        pen.disc(x, y, radius, color)
    pen.rect(-42, -10, 84, 18, color, 9)


def cloud(pen: Pen) -> None:
    """A background cloud."""
    pen.rect(-60, 0, 120, 22, WHITE, 11)
    for x, y, radius in ((-28, 20, 20), (4, 28, 28), (34, 18, 17)):
        pen.disc(x, y, radius, WHITE)
