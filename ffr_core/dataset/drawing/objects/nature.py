"""Plants and the campfire."""

from __future__ import annotations

import math

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import LEAF, RGB, WOOD, darker, lighter

_STEM: RGB = (82, 140, 78)


def tree(pen: Pen, color: RGB) -> None:
    """A broad tree; the leaves have the color."""
    trunk: RGB = (122, 84, 58) if color != (134, 88, 56) else (92, 62, 44)
    pen.poly([(-20, 0), (-11, 40), (-10, 110), (12, 110), (11, 40), (21, 0)], trunk)
    pen.line([(0, 84), (-34, 122)], trunk, 9)
    pen.line([(2, 90), (36, 126)], trunk, 9)
    shade = darker(color, 0.2)
    for x, y, radius in ((-50, 128, 38), (50, 128, 38), (0, 118, 40), (0, 170, 56)):
        pen.disc(x, y, radius, shade)
    for x, y, radius in ((-48, 136, 35), (44, 138, 34), (-4, 182, 50), (2, 134, 36)):
        pen.disc(x, y, radius, color)
    light = lighter(color, 0.22)
    for x, y, radius in ((-58, 150, 13), (-20, 204, 16), (30, 152, 12), (-24, 160, 9)):
        pen.disc(x, y, radius, light)


def fir(pen: Pen, color: RGB) -> None:
    """A conifer for the background of forests and mountains."""
    pen.rect(-6, 0, 12, 24, (112, 80, 58))
    for bottom, half, top in ((18, 44, 84), (56, 36, 118), (92, 27, 150)):
        pen.poly([(-half, bottom), (half, bottom), (0, top)], color)
        pen.poly([(0, bottom), (half, bottom), (0, top)], darker(color, 0.1))


def flower(pen: Pen, color: RGB) -> None:
    """One flower with a stem and two leaves."""
    pen.curve([(0, 0), (3, 34), (0, 72)], _STEM, 5)
    pen.blob([(1, 18), (18, 38), (40, 40), (26, 22)], LEAF)
    pen.blob([(1, 12), (-16, 30), (-38, 30), (-24, 14)], darker(LEAF, 0.12))
    for index in range(6):
        angle = math.tau * index / 6 + 0.26
        x, y = 21 * math.cos(angle), 86 + 21 * math.sin(angle)
        pen.disc(x, y, 15.5, darker(color, 0.13))
        pen.disc(x, y, 14, color)
    pen.disc(0, 86, 12, (250, 206, 74) if color[1] < 190 or color[2] > 120 else (150, 96, 56))


def plant(pen: Pen, color: RGB) -> None:
    """A leafy house plant; the pot has the color, unless it is green: then the leaves do."""
    green = color[1] > color[0] + 20 and color[1] > color[2]
    pot: RGB = (196, 112, 78) if green else color
    leaf: RGB = color if green else LEAF
    for tip, width in (((-54, 88), 12), ((54, 90), 12), ((-32, 124), 13), ((34, 126), 13),
                       ((0, 142), 14)):  # fmt: skip
        x, y = tip
        mid_x, mid_y = x * 0.62, 46 + (y - 46) * 0.5
        pen.blob([(0, 44), (mid_x - width, mid_y), (x, y), (mid_x + width, mid_y - 4)],
                 darker(leaf, 0.14) if x else leaf)  # fmt: skip
        pen.line([(0, 44), (mid_x, mid_y), (x * 0.9, y * 0.95)], lighter(leaf, 0.25), 1.8)
    pen.poly([(-32, 46), (32, 46), (23, 0), (-23, 0)], pot)
    pen.poly([(10, 46), (32, 46), (23, 0), (8, 0)], darker(pot, 0.12))
    pen.rect(-36, 40, 72, 13, darker(pot, 0.08), 3)


def campfire(pen: Pen, color: RGB) -> None:
    """Flames over crossed logs; the outer flame has a fiery color in any case."""
    outer = color if color[0] > 190 and color[2] < 120 else (240, 120, 44)
    pen.oval(0, 34, 92, 50, (255, 190, 90, 40))
    for x in range(-56, 64, 16):
        pen.oval(x, 3 if x % 32 else 7, 9, 7, (140, 142, 148))
    pen.blob([(-34, 14), (-42, 46), (-20, 72), (-18, 100), (2, 128), (8, 96), (22, 84), (26, 104),
              (42, 62), (36, 16), (0, 8)], outer)  # fmt: skip
    pen.blob([(-24, 14), (-24, 42), (-8, 62), (0, 92), (12, 62), (26, 46), (24, 14), (0, 8)],
             (250, 180, 60))  # fmt: skip
    pen.blob([(-13, 14), (-12, 34), (0, 60), (12, 36), (13, 14), (0, 8)], (255, 236, 150))
    pen.line([(-50, 6), (44, 24)], darker(WOOD, 0.3), 13)
    pen.line([(50, 6), (-44, 24)], WOOD, 13)
    pen.disc(-44, 24, 6.4, lighter(WOOD, 0.4))
    pen.disc(44, 24, 6.4, lighter(WOOD, 0.25))
