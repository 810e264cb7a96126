"""Toys, presents, music and devices."""

from __future__ import annotations

import math

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import (
    COLORS,
    INK,
    METAL,
    RGB,
    SOFT_INK,
    WHITE,
    darker,
    lighter,
    outline,
)  # fmt: skip


def ball(pen: Pen, color: RGB) -> None:
    """A striped beach ball."""
    other = WHITE if sum(color) < 690 else COLORS["red"]
    pen.disc(0, 36, 36, outline(color))
    for index in range(6):
        start = 60 * index + 15
        wedge = pen.arc(0, 36, 34.4, 34.4, start, start + 60)
        pen.poly([(-6.0, 44.0), *wedge], color if index % 2 == 0 else other)
    pen.disc(-6, 44, 7, lighter(color, 0.4))
    pen.poly([*pen.arc(0, 36, 34.4, 34.4, 280, 370), *pen.arc(-6, 42, 32, 32, 370, 280)],
             (20, 20, 40, 40))  # fmt: skip


def kite(pen: Pen, color: RGB) -> None:
    """A diamond kite with a tail of bows."""
    pen.curve([(0, 40), (-14, 24), (6, 8), (-10, -14), (8, -34)], SOFT_INK, 2)
    for x, y, paint in ((-11, 22, "yellow"), (2, 4, "red"), (-8, -18, "blue")):
        bow = COLORS[paint]
        pen.poly([(x, y), (x - 11, y + 6), (x - 11, y - 6)], bow)
        pen.poly([(x, y), (x + 11, y + 6), (x + 11, y - 6)], bow)
    top, left, bottom, right = (0, 142), (-44, 96), (0, 38), (44, 96)
    pen.poly([top, left, bottom, right], color)
    pen.poly([top, (0, 96), right], lighter(color, 0.35))
    pen.poly([left, (0, 96), bottom], lighter(color, 0.35))
    pen.line([top, bottom], outline(color), 2.4)
    pen.line([left, right], outline(color), 2.4)


def balloon(pen: Pen, color: RGB) -> None:
    """A party balloon on a string."""
    pen.curve([(0, 64), (7, 44), (-6, 22), (2, 0)], SOFT_INK, 2)
    pen.blob([(0, 68), (-26, 92), (-35, 122), (-24, 150), (0, 160), (24, 150), (35, 122),
              (26, 92)], color)  # fmt: skip
    pen.poly([(-7, 60), (7, 60), (0, 71)], outline(color))
    pen.blob([(-22, 118), (-18, 138), (-8, 146), (-12, 126)], lighter(color, 0.55))


def gift(pen: Pen, color: RGB) -> None:
    """A wrapped box with a ribbon."""
    ribbon = COLORS["yellow"] if color[1] < 150 or color[2] > 170 else COLORS["red"]
    pen.rect(-42, 0, 84, 62, color, 3)
    pen.rect(20, 0, 22, 62, darker(color, 0.12), 3)
    pen.rect(-48, 58, 96, 20, lighter(color, 0.14), 3)
    pen.rect(-48, 56, 96, 4, darker(color, 0.2))
    pen.rect(-9, 0, 18, 78, ribbon)
    for side in (-1, 1):
        pen.blob([(0, 78), (side * 14, 100), (side * 38, 104), (side * 34, 84)], ribbon)
        pen.blob([(side * 8, 82), (side * 18, 95), (side * 30, 96), (side * 26, 86)],
                 darker(ribbon, 0.22))  # fmt: skip
    pen.disc(0, 81, 8, darker(ribbon, 0.1))


def guitar(pen: Pen, color: RGB) -> None:
    """An acoustic guitar standing upright; the body has the color."""
    pen.blob([(0, 0), (-38, 8), (-44, 38), (-26, 60), (-32, 84), (-16, 100), (0, 100), (16, 100),
              (32, 84), (26, 60), (44, 38), (38, 8)], darker(color, 0.35))  # fmt: skip
    pen.blob([(0, 4), (-34, 11), (-40, 38), (-22, 60), (-28, 83), (-14, 96), (0, 96), (14, 96),
              (28, 83), (22, 60), (40, 38), (34, 11)], color)  # fmt: skip
    pen.disc(0, 64, 16, lighter(color, 0.45))
    pen.disc(0, 64, 13, (46, 34, 30))
    pen.rect(-7, 64, 14, 112, (96, 64, 46), 2)
    for y in range(92, 172, 13):
        pen.line([(-7, y), (7, y)], METAL, 1.2)
    pen.poly([(-9, 174), (9, 174), (13, 206), (-13, 206)], (74, 50, 40))
    for y in (182, 192, 201):
        for side in (-1, 1):
            pen.disc(side * 15, y, 3.4, METAL)
    pen.rect(-18, 26, 36, 8, (74, 50, 40), 3)
    for x in (-4, -1.4, 1.4, 4):
        pen.line([(x, 30), (x, 180)], (236, 232, 220), 0.8)


def book(pen: Pen, color: RGB) -> None:
    """A thick book standing at an angle, its cover in the color."""
    pen.poly([(-34, 0), (-34, 88), (-22, 98), (-22, 8)], darker(color, 0.3))
    pen.poly([(-34, 88), (-22, 98), (44, 98), (34, 88)], (250, 246, 234))
    pen.line([(-29, 92), (39, 92)], (206, 200, 184), 1.4)
    pen.rect(-34, 0, 70, 88, color, 3)
    pen.rect(-34, 0, 10, 88, darker(color, 0.22), 2)
    ink = lighter(color, 0.75) if sum(color) < 600 else SOFT_INK
    pen.rect(-14, 58, 40, 8, ink, 2)
    pen.rect(-14, 46, 28, 5, ink, 2)
    pen.disc(6, 24, 10, ink)
    pen.disc(6, 24, 6, color)


def phone(pen: Pen, color: RGB) -> None:
    """A smartphone with app icons on its screen."""
    pen.rect(-29, 0, 58, 110, outline(color), 11)
    pen.rect(-27, 2, 54, 106, color, 10)
    pen.rect(-22, 7, 44, 96, (36, 44, 70), 6)
    icons = ("red", "yellow", "green", "teal", "orange", "pink", "blue", "purple", "white")
    for index, name in enumerate(icons):
        x, y = -18 + index % 3 * 13, 80 - index // 3 * 15
        pen.rect(x, y, 10, 10, COLORS[name], 3)
    pen.rect(-17, 12, 34, 14, (70, 80, 112), 5)
    pen.rect(-8, 98, 16, 4, (16, 18, 26), 2)


def laptop(pen: Pen, color: RGB) -> None:
    """An open laptop; the lid and base have the color."""
    pen.rect(-66, 12, 132, 90, outline(color), 7)
    pen.rect(-64, 14, 128, 86, color, 6)
    pen.rect(-57, 20, 114, 73, (44, 60, 96), 2)
    pen.rect(-57, 84, 114, 9, (232, 236, 242))
    pen.rect(-50, 30, 40, 46, (240, 244, 248), 2)
    for y, width in ((66, 28), (58, 20), (50, 30), (42, 16)):
        pen.rect(-45, y, width, 3.4, (140, 160, 190), 1)
    for x, height in ((2, 20), (16, 34), (30, 26), (44, 42)):
        pen.rect(x, 32, 9, height, COLORS["orange"], 1)
    pen.poly([(-70, 12), (70, 12), (86, 0), (-86, 0)], lighter(color, 0.16))
    pen.poly([(-58, 10), (58, 10), (66, 4), (-66, 4)], darker(color, 0.35))
    pen.rect(-86, -3, 172, 5, darker(color, 0.25), 2)


def clock(pen: Pen, color: RGB) -> None:
    """A round wall clock with a rim of the color."""
    pen.disc(0, 48, 48, outline(color))
    pen.disc(0, 48, 46, color)
    pen.disc(0, 48, 37, (252, 251, 247))
    for index in range(12):
        angle = math.tau * index / 12
        inner, outer = (26, 33) if index % 3 == 0 else (29, 33)
        pen.line([(inner * math.cos(angle), 48 + inner * math.sin(angle)),
                  (outer * math.cos(angle), 48 + outer * math.sin(angle))], INK,
                 3.4 if index % 3 == 0 else 1.6)  # fmt: skip
    pen.line([(0, 48), (-14, 60)], INK, 4.4)
    pen.line([(0, 48), (16, 66)], INK, 3)
    pen.disc(0, 48, 4, (206, 60, 54))
