"""Animals, the person and the snowman."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import INK, RGB, WHITE, darker, lighter, outline

_CORAL: RGB = (214, 88, 76)


def _eye(pen: Pen, x: float, y: float, radius: float, coat: RGB) -> None:
    """A dark eye, ringed in light on a dark coat."""
    if sum(coat) < 240:
        pen.disc(x, y, radius * 1.5, (236, 226, 180))
    pen.disc(x, y, radius, (30, 28, 32))
    pen.disc(x + radius * 0.3, y + radius * 0.35, radius * 0.35, WHITE)


def dog(pen: Pen, color: RGB) -> None:
    """A dog from the side: floppy ear, long snout, wagging tail, collar."""
    far, near = darker(color, 0.22), color
    pen.curve([(-58, 66), (-78, 82), (-84, 108)], near, 12)
    for x in (-42, 24):
        pen.rect(x, 0, 14, 44, far, 6)
    pen.blob([(-64, 60), (-56, 80), (-10, 78), (26, 88), (48, 80), (46, 52), (20, 38), (-20, 42),
              (-54, 38)], near)  # fmt: skip
    for x in (-62, 30):
        pen.rect(x, 0, 16, 52, near, 6)
        pen.rect(x, 0, 21, 9, near, 4)
    pen.blob([(24, 74), (30, 106), (58, 112), (62, 84), (46, 66)], near)
    pen.blob([(32, 104), (38, 126), (60, 132), (76, 120), (102, 112), (104, 98), (84, 92),
              (56, 90)], near)  # fmt: skip
    pen.blob([(70, 98), (88, 92), (104, 98), (102, 108), (86, 108)], lighter(color, 0.35))
    pen.blob([(40, 128), (30, 108), (32, 86), (46, 86), (54, 108), (54, 126)], darker(color, 0.42))
    pen.oval(103, 111, 7, 6, (36, 32, 36))
    pen.curve([(100, 99), (88, 97), (78, 100)], darker(color, 0.55), 2)
    _eye(pen, 70, 117, 4.4, color)
    pen.line([(31, 82), (60, 76)], (206, 56, 52) if color[0] < 200 else (50, 96, 176), 8)
    pen.disc(48, 71, 5, (244, 200, 80))


def cat(pen: Pen, color: RGB) -> None:
    """A sitting cat from the front: pointed ears, whiskers, curled tail."""
    shade, light = darker(color, 0.25), lighter(color, 0.4)
    pen.curve([(26, 8), (58, 8), (66, 34), (52, 58), (62, 72)], shade, 13)
    pen.blob([(-36, 4), (-38, 34), (-22, 78), (22, 78), (38, 34), (36, 4), (0, 0)], color)
    pen.oval(0, 36, 17, 28, light)
    for x in (-14, 14):
        pen.rect(x - 9, 0, 18, 40, color, 9)
        pen.oval(x, 6, 12, 7, light)
        pen.line([(x, 3), (x, 8)], shade, 1.6)
    for side in (-1, 1):
        pen.poly([(side * 38, 96), (side * 34, 138), (side * 8, 120)], color)
        pen.poly([(side * 33, 104), (side * 31, 128), (side * 16, 118)], (238, 168, 170))
    pen.oval(0, 98, 40, 32, color)
    for x in (-6, 6):
        pen.line([(x, 128), (x * 0.8, 116)], shade, 3.4)
    pen.line([(0, 129), (0, 114)], shade, 3.4)
    for x in (-16, 16):
        pen.oval(x, 101, 8.5, 9.5, (186, 208, 92) if sum(color) < 620 else (110, 170, 200))
        pen.oval(x, 101, 3, 8, (28, 28, 32))
    pen.oval(0, 84, 14, 9, light)
    pen.poly([(-5, 91), (5, 91), (0, 85)], (222, 120, 124))
    pen.curve([(-10, 81), (-5, 78), (0, 81), (5, 78), (10, 81)], INK, 1.6)
    pen.line([(0, 86), (0, 81)], INK, 1.6)
    whisker = lighter(color, 0.6) if sum(color) < 300 else darker(color, 0.55)
    for side in (-1, 1):
        for y in (90, 85, 79):
            pen.line([(side * 18, 85), (side * 52, y + (y - 85))], whisker, 1.4)


def bird(pen: Pen, color: RGB) -> None:
    """A songbird standing on two thin legs."""
    for x in (-6, 10):
        pen.line([(x, 26), (x + 1, 1)], (206, 140, 60), 3)
        pen.line([(x - 6, 1), (x + 10, 1)], (206, 140, 60), 3)
    pen.poly([(-34, 48), (-82, 54), (-80, 38), (-36, 34)], darker(color, 0.3))
    pen.blob([(-44, 44), (-26, 70), (4, 84), (34, 66), (34, 40), (12, 22), (-22, 26)], color)
    pen.blob([(-2, 30), (20, 30), (34, 48), (26, 58), (8, 46)], lighter(color, 0.55))
    pen.disc(28, 78, 23, color)
    pen.poly([(48, 84), (74, 76), (48, 70)], (242, 170, 50))
    pen.blob([(-50, 42), (-28, 66), (6, 64), (4, 44), (-18, 36)], darker(color, 0.24))
    _eye(pen, 35, 83, 4.4, color)


def flying_bird(pen: Pen, color: RGB) -> None:
    """A bird in flight with raised wings."""
    pen.poly([(-30, 30), (-74, 44), (-70, 26), (-34, 20)], darker(color, 0.25))
    pen.blob([(-4, 34), (-30, 70), (-22, 96), (6, 76), (20, 40)], darker(color, 0.3))
    pen.blob([(-40, 30), (-6, 42), (36, 42), (48, 28), (24, 14), (-14, 16)], color)
    pen.blob([(-12, 32), (8, 74), (40, 92), (38, 62), (24, 34)], darker(color, 0.14))
    pen.disc(44, 38, 15, color)
    pen.poly([(56, 43), (78, 37), (57, 32)], (242, 170, 50))
    _eye(pen, 48, 42, 3.4, color)


def fish(pen: Pen, color: RGB) -> None:
    """A fish from the side."""
    fin = darker(color, 0.2)
    pen.poly([(-42, 34), (-84, 66), (-74, 34), (-84, 4)], fin)
    pen.blob([(-20, 58), (-6, 78), (26, 70), (30, 56)], fin)
    pen.blob([(-14, 14), (-20, -4), (8, 2), (12, 12)], fin)
    pen.blob([(-54, 34), (-24, 58), (20, 64), (58, 48), (68, 34), (54, 20), (18, 6), (-24, 12)],
             color)  # fmt: skip
    pen.blob([(-34, 18), (14, 7), (54, 21), (30, 22), (0, 20)], lighter(color, 0.5))
    for x, reach in ((-34, 7), (-18, 10), (-2, 11)):
        for y in (34 - reach, 34 + reach):
            pen.curve([(x, y + 7), (x + 6, y), (x, y - 7)], fin, 2.2)
    pen.curve([(33, 57), (25, 36), (33, 14)], fin, 3)
    pen.disc(48, 41, 7, WHITE)
    pen.disc(50, 41, 4, (28, 28, 32))
    pen.line([(66, 31), (57, 27)], darker(color, 0.5), 2)
    pen.blob([(22, 34), (4, 22), (6, 38)], darker(color, 0.32))


def _looks(color: RGB) -> tuple[RGB, RGB, bool]:
    """Hair, skin and hair length; they follow the jersey, so that persons of a scene differ."""
    looks: tuple[tuple[RGB, RGB, bool], ...] = (
        ((74, 50, 38), (240, 196, 160), False),
        ((44, 38, 40), (198, 142, 104), True),
        ((176, 112, 58), (246, 208, 178), True),
        ((40, 36, 40), (150, 102, 74), False),
        ((60, 46, 44), (236, 190, 150), True),
    )
    return looks[sum(color) % len(looks)]


def person(pen: Pen, color: RGB) -> None:
    """A standing person; the jersey has the color."""
    trousers: RGB = (64, 76, 112) if color[2] < 140 or color[0] > 150 else (120, 104, 88)
    hair, skin, long_hair = _looks(color)
    for x in (-21, 3):
        pen.rect(x, 6, 18, 84, trousers, 6)
        pen.rect(x - 3 if x < 0 else x, 0, 23, 11, (58, 48, 46), 5)
    for side in (-1, 1):
        pen.line([(side * 26, 138), (side * 40, 108), (side * 39, 86)], darker(color, 0.16), 14)
        pen.disc(side * 39, 80, 8, skin)
    if long_hair:
        pen.blob([(-26, 186), (-34, 156), (-30, 134), (0, 128), (30, 134), (34, 156), (26, 186)],
                 hair)  # fmt: skip
    pen.rect(-9, 144, 18, 18, darker(skin, 0.12))
    pen.blob([(-28, 84), (-30, 120), (-33, 142), (-16, 152), (16, 152), (33, 142), (30, 120),
              (28, 84)], color)  # fmt: skip
    pen.poly([(-10, 152), (10, 152), (0, 142)], skin)
    pen.rect(-28, 82, 56, 7, outline(color), 3)
    pen.disc(0, 180, 27, hair)
    pen.oval(0, 175, 22, 24, skin)
    pen.blob([(-24, 180), (-22, 202), (0, 208), (22, 202), (24, 180), (14, 192), (-6, 193)], hair)
    for x in (-8, 8):
        pen.disc(x, 176, 2.8, (44, 36, 40))
        pen.disc(x * 1.7, 167, 4, (240, 170, 150))
    pen.curve([(-7, 166), (0, 162), (7, 166)], (168, 84, 76), 2.2)


def snowman(pen: Pen, color: RGB) -> None:
    """Three snowballs with a hat; the scarf has the color."""
    snow, shade = (250, 252, 254), (206, 220, 234)
    for side in (-1, 1):
        pen.line([(side * 28, 92), (side * 62, 112), (side * 72, 128)], (112, 78, 54), 4.6)
        pen.line([(side * 62, 112), (side * 76, 112)], (112, 78, 54), 3.6)
    for y, radius in ((44, 46), (98, 34), (142, 26)):
        pen.disc(0, y, radius, shade)
        pen.disc(-2, y + 2, radius - 3, snow)
    scarf = color if sum(color) < 640 else _CORAL
    pen.poly([(10, 118), (30, 118), (34, 82), (18, 80)], darker(scarf, 0.16))
    pen.rect(-27, 114, 54, 13, scarf, 6)
    pen.rect(-32, 158, 64, 8, (52, 50, 58), 4)
    pen.rect(-21, 162, 42, 34, (52, 50, 58), 4)
    pen.rect(-21, 166, 42, 8, scarf)
    for x in (-9, 9):
        pen.disc(x, 149, 3.6, (40, 40, 46))
    pen.poly([(-2, 144), (-2, 136), (32, 138)], (240, 140, 50))
    for y in (108, 94, 56):
        pen.disc(0, y, 4, (52, 52, 58))
