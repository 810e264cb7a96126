"""Food and what it is served in."""

from __future__ import annotations

import math

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import COLORS, LEAF, RGB, darker, lighter, outline


def cake(pen: Pen, color: RGB) -> None:
    """A two-tier cake with lit candles; the frosting has the color."""
    pen.oval(0, 5, 66, 8, (214, 218, 224))
    pen.oval(0, 8, 60, 6, (240, 242, 244))
    sponge: RGB = (238, 206, 158) if color != COLORS["beige"] else (190, 140, 96)
    for bottom, half, height in ((8, 52, 36), (44, 36, 30)):
        pen.rect(-half, bottom, 2 * half, height, sponge, 5)
        pen.rect(-half, bottom + height * 0.3, 2 * half, 5, lighter(color, 0.3))
        pen.rect(-half, bottom + height * 0.62, 2 * half, height * 0.38 + 3, color, 6)
        drops = int(half / 6)
        for index in range(drops):
            x = -half + 6 + index * (2 * half - 12) / (drops - 1)
            pen.oval(x, bottom + height * 0.62, 6, 5 if index % 2 else 9, color)
        pen.rect(-half + 6, bottom + height - 3, 2 * half - 12, 4, lighter(color, 0.4), 2)
    for x, paint in ((-20, "blue"), (0, "yellow"), (20, "green")):
        pen.rect(x - 3, 76, 6, 22, COLORS[paint], 2)
        pen.blob([(x - 5, 103), (x, 116), (x + 5, 103), (x, 98)], (250, 160, 50))
        pen.oval(x, 103, 2.4, 4, (255, 240, 170))
    for x in (-40, -14, 14, 40):
        pen.disc(x, 16, 3.4, outline(color))


def cup(pen: Pen, color: RGB) -> None:
    """A steaming mug on a saucer."""
    pen.oval(0, 5, 46, 6, darker(color, 0.25))
    pen.oval(0, 7, 46, 5.4, lighter(color, 0.3))
    pen.ring(33, 34, 19, outline(color), 8)
    pen.blob([(-34, 58), (-33, 26), (-22, 8), (22, 8), (33, 26), (34, 58)], color)
    pen.blob([(14, 56), (16, 26), (8, 10), (22, 8), (33, 26), (34, 56)], darker(color, 0.1))
    pen.oval(0, 59, 34, 8, lighter(color, 0.35))
    pen.oval(0, 58, 29, 6, (112, 70, 46))
    for x in (-13, 3, 17):
        pen.curve([(x, 72), (x - 5, 82), (x + 4, 92), (x - 1, 102)], (200, 204, 210, 190), 3.4)


def bowl(pen: Pen, color: RGB) -> None:
    """A bowl filled with salad."""
    dark_leaf = darker(LEAF, 0.15)
    for x, y, paint in ((-40, 58, LEAF), (-18, 66, dark_leaf), (8, 68, LEAF), (36, 60, dark_leaf)):
        pen.disc(x, y, 17, paint)
    for x, y in ((-28, 64), (20, 68), (-4, 60)):
        pen.disc(x, y, 9, (218, 70, 58))
        pen.disc(x - 2, y + 2, 3, (240, 140, 124))
    pen.disc(40, 63, 7, (250, 214, 90))
    pen.rect(-22, 0, 44, 8, darker(color, 0.3), 4)
    pen.poly(pen.arc(0, 52, 60, 48, 180, 360), color)
    pen.poly([*pen.arc(0, 52, 60, 48, 290, 360), *pen.arc(0, 52, 44, 44, 360, 290)],
             darker(color, 0.1))  # fmt: skip
    pen.rect(-62, 47, 124, 8, lighter(color, 0.35), 4)


def pizza(pen: Pen, color: RGB) -> None:
    """A whole pizza from above with one slice drawn apart; `color` tints the plate."""
    pen.disc(0, 64, 64, outline(color))
    pen.disc(0, 64, 62, color)
    pen.disc(0, 64, 57, lighter(color, 0.5))
    crust, sauce, cheese = (206, 146, 84), (206, 74, 48), (250, 214, 120)
    for paint, radius in ((crust, 53), (sauce, 46), (cheese, 43.4)):
        wedge = [(0.0, 64.0), *pen.arc(0, 64, radius, radius, 20, 320)]
        pen.poly(wedge, paint)
        slice_pen = pen.at(9, -4)
        slice_pen.poly([(0, 64), *pen.arc(0, 64, radius, radius, 323, 377)], paint)
    for angle, reach in ((60, 28), (110, 34), (160, 22), (205, 34), (255, 26), (300, 34)):
        x = reach * math.cos(math.radians(angle))
        y = 64 + reach * math.sin(math.radians(angle))
        pen.disc(x, y, 8.6, (170, 46, 40))
        pen.disc(x, y, 7, (204, 66, 52))
    pen.disc(38, 56, 7.6, (204, 66, 52))
    for x, y in ((-8, 84), (14, 92), (-30, 60), (-6, 40), (24, 70)):
        pen.oval(x, y, 5, 3, LEAF)
    for angle in (80, 140, 200, 260):
        x, y = 43 * math.cos(math.radians(angle)), 64 + 43 * math.sin(math.radians(angle))
        pen.line([(0, 64), (x, y)], (232, 184, 96), 1.8)


def bottle(pen: Pen, color: RGB) -> None:
    """A bottle with a paper label."""
    pen.blob([(-22, 2), (-23, 40), (-22, 72), (-9, 92), (-8, 118), (8, 118), (9, 92), (22, 72),
              (23, 40), (22, 2), (0, 0)], color)  # fmt: skip
    pen.rect(-10, 114, 20, 14, outline(color), 3)
    pen.rect(-23, 26, 46, 34, (250, 246, 234), 2)
    pen.rect(-16, 46, 32, 5, outline(color), 2)
    pen.rect(-16, 36, 22, 3.6, (180, 176, 168), 1)
    pen.line([(-14, 66), (-6, 84)], lighter(color, 0.55), 4)
    pen.rect(-17, 6, 5, 16, lighter(color, 0.45), 2)


def bread(pen: Pen, color: RGB) -> None:
    """A scored loaf of bread; only brown, beige and black change its crust."""
    crusts: dict[RGB, RGB] = {
        COLORS["brown"]: (150, 96, 54), COLORS["black"]: (84, 62, 50),
        COLORS["beige"]: (226, 184, 124), COLORS["white"]: (240, 214, 170),
    }  # fmt: skip
    crust = crusts.get(color, (204, 146, 82))
    pen.blob([(-74, 8), (-78, 34), (-52, 58), (0, 66), (52, 58), (78, 34), (74, 8), (0, 2)], crust)
    pen.blob([(-70, 8), (-40, 16), (40, 16), (70, 8), (0, 2)], darker(crust, 0.2))
    for x in (-38, -2, 34):
        pen.blob([(x - 12, 26), (x - 2, 42), (x + 16, 58), (x + 10, 40)], lighter(crust, 0.5))


def apple(pen: Pen, color: RGB) -> None:
    """An apple with a stalk and a leaf."""
    pen.blob([(0, 60), (-24, 70), (-42, 48), (-34, 16), (-14, 1), (0, 5), (14, 1), (34, 16),
              (42, 48), (24, 70)], color)  # fmt: skip
    pen.blob([(14, 4), (33, 18), (40, 48), (28, 62), (30, 34)], darker(color, 0.14))
    pen.blob([(-32, 46), (-26, 60), (-18, 58), (-24, 40)], lighter(color, 0.5))
    pen.curve([(0, 58), (2, 72), (9, 84)], (112, 76, 50), 4.6)
    pen.blob([(6, 74), (20, 88), (40, 84), (26, 72)], LEAF)
    pen.oval(0, 61, 9, 3, darker(color, 0.3))
