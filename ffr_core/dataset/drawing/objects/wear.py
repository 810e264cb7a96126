"""Clothes and what people carry."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import METAL, RGB, SOFT_INK, WHITE, darker, lighter, outline


def umbrella(pen: Pen, color: RGB) -> None:
    """An open umbrella with a hooked handle."""
    pen.line([(0, 10), (0, 150)], (116, 84, 62), 5)
    pen.line([(0, 12), *pen.arc(-10, 12, 10, 10, 0, -180)], (116, 84, 62), 6)
    pen.line([(0, 150), (0, 168)], SOFT_INK, 4)
    dome = pen.arc(0, 92, 84, 66, 0, 180)
    scallops = [
        point for x in (-63.0, -21.0, 21.0, 63.0) for point in pen.arc(x, 92, 21, 10, 180, 0)
    ]
    pen.poly([*dome, *scallops], color)
    pen.poly([*pen.arc(0, 92, 84, 66, 0, 90), *pen.arc(0, 92, 42, 66, 90, 0),
              *pen.arc(63, 92, 21, 10, 180, 0)], darker(color, 0.14))  # fmt: skip
    pen.poly([*pen.arc(0, 92, 84, 66, 180, 90), *pen.arc(0, 92, 42, 66, 90, 180),
              *pen.arc(-63, 92, 21, 10, 0, 180)], lighter(color, 0.18))  # fmt: skip
    pen.line(pen.arc(0, 92, 42, 66, 0, 180), outline(color), 1.6)
    pen.line([(0, 96), (0, 158)], outline(color), 1.6)


def suitcase(pen: Pen, color: RGB) -> None:
    """A trolley case with ribs and an extended handle."""
    for x in (-16, 11):
        pen.rect(x, 112, 5, 44, METAL)
    pen.rect(-19, 150, 38, 10, SOFT_INK, 5)
    for x in (-30, 20):
        pen.disc(x + 5, 7, 7, (52, 52, 58))
    pen.rect(-44, 9, 88, 108, outline(color), 12)
    pen.rect(-42, 11, 84, 104, color, 11)
    for x in (-24, -2, 20):
        pen.rect(x, 20, 5, 86, darker(color, 0.2), 2)
        pen.rect(x - 3, 20, 2.6, 86, lighter(color, 0.25), 1)
    for x in (-42, 36):
        for y in (11, 105):
            pen.rect(x, y, 7, 10, darker(color, 0.4), 2)


def shoe(pen: Pen, color: RGB) -> None:
    """A sneaker with laces and a white sole."""
    pen.blob([(-62, 14), (-64, 46), (-58, 62), (-30, 60), (-12, 48), (14, 38), (56, 32), (70, 20),
              (66, 10), (0, 8)], color)  # fmt: skip
    pen.blob([(-62, 48), (-58, 64), (-30, 62), (-26, 54), (-44, 50)], darker(color, 0.35))
    pen.blob([(42, 34), (60, 31), (72, 18), (64, 10), (44, 12)], lighter(color, 0.45))
    pen.poly([(-64, 46), (-52, 46), (-48, 12), (-64, 12)], darker(color, 0.2))
    for index in range(4):
        x, y = -22 + index * 14, 53 - index * 5.6
        pen.line([(x - 4, y - 9), (x + 9, y + 3)], WHITE if sum(color) < 690 else SOFT_INK, 3.4)
    pen.curve([(-40, 18), (-14, 30), (30, 18)], lighter(color, 0.6), 4)
    pen.rect(-70, 0, 146, 13, (206, 206, 204), 6)
    pen.rect(-70, 4, 146, 10, (250, 250, 248), 5)


def shirt(pen: Pen, color: RGB) -> None:
    """A T-shirt laid out flat."""
    edge = outline(color)
    shape = [(-44, 0), (-42, 74), (-66, 58), (-86, 88), (-44, 124), (-20, 128), (20, 128),
             (44, 124), (86, 88), (66, 58), (42, 74), (44, 0)]  # fmt: skip
    pen.poly([(x * 1.03, y * 1.015 - 1) for x, y in shape], edge)
    pen.poly(shape, color)
    pen.poly([(24, 0), (26, 90), (42, 78), (44, 0)], darker(color, 0.09))
    pen.poly(pen.arc(0, 129, 21, 17, 180, 360), edge)
    pen.poly(pen.arc(0, 130, 16, 12, 180, 360), darker(color, 0.5))
    for side in (-1, 1):
        pen.line([(side * 42, 74), (side * 46, 106)], edge, 2)
        pen.line([(side * 81, 86), (side * 64, 62)], edge, 2)


def dress(pen: Pen, color: RGB) -> None:
    """A summer dress with straps and a wide skirt."""
    edge = outline(color)
    for side in (-1, 1):
        pen.line([(side * 18, 120), (side * 15, 158)], edge, 6)
    pen.blob([(-24, 126), (-12, 122), (0, 128), (12, 122), (24, 126), (26, 104), (20, 86),
              (-20, 86), (-26, 104)], color)  # fmt: skip
    skirt = [(-20, 84), (20, 84), (42, 46), (64, 8), (44, 2), (22, 8), (0, 2), (-22, 8), (-44, 2),
             (-64, 8), (-42, 46)]  # fmt: skip
    pen.blob(skirt, color)
    for x in (-22, 0, 22):
        pen.line([(x * 0.5, 78), (x * 1.5, 10)], edge, 1.8)
    pen.rect(-22, 82, 44, 9, edge, 3)
    dot = lighter(color, 0.55) if sum(color) < 640 else darker(color, 0.18)
    for x, y in ((-34, 24), (-12, 34), (12, 26), (36, 26), (-18, 58), (14, 56), (-10, 106),
                 (11, 106)):  # fmt: skip
        pen.disc(x, y, 3.4, dot)


def bag(pen: Pen, color: RGB) -> None:
    """A handbag with a flap, a clasp and one arched handle."""
    pen.line(pen.arc(0, 66, 34, 46, 0, 180), darker(color, 0.4), 8)
    pen.blob([(-54, 4), (-50, 40), (-42, 74), (42, 74), (50, 40), (54, 4), (0, 0)], color)
    pen.blob([(-43, 76), (43, 76), (46, 48), (22, 34), (-22, 34), (-46, 48)], darker(color, 0.17))
    pen.rect(-10, 30, 20, 14, (242, 204, 100), 3)
    pen.rect(-4, 34, 8, 5, darker(color, 0.5), 2)
    pen.line([(-50, 10), (50, 10)], lighter(color, 0.3), 2)
    for x in (-34, 34):
        pen.disc(x, 68, 5, (242, 204, 100))


def backpack(pen: Pen, color: RGB) -> None:
    """A hiking backpack with pockets and a top loop."""
    pen.line(pen.arc(0, 122, 14, 16, 0, 180), darker(color, 0.45), 6)
    for side in (-1, 1):
        pen.rect(-62 if side < 0 else 42, 10, 20, 54, darker(color, 0.28), 8)
    pen.blob([(-48, 4), (-52, 60), (-42, 112), (0, 130), (42, 112), (52, 60), (48, 4), (0, 0)],
             color)  # fmt: skip
    pen.blob([(-46, 84), (-40, 114), (0, 131), (40, 114), (46, 84), (0, 78)], darker(color, 0.15))
    pen.rect(-36, 10, 72, 52, lighter(color, 0.16), 11)
    pen.line([(-34, 48), (34, 48)], darker(color, 0.4), 3)
    pen.rect(-3, 38, 6, 13, METAL, 2)
    for x in (-22, 14):
        pen.rect(x, 58, 8, 34, darker(color, 0.42), 2)
        pen.rect(x - 2, 68, 12, 9, METAL, 2)


def hat(pen: Pen, color: RGB) -> None:
    """A sun hat with a wide brim and a ribbon."""
    ribbon = darker(color, 0.45) if sum(color) > 240 else (196, 70, 64)
    pen.oval(0, 15, 76, 15, outline(color))
    pen.oval(0, 17, 75, 14, color)
    pen.blob([(-40, 18), (-38, 50), (-24, 68), (0, 66), (24, 68), (38, 50), (40, 18), (0, 12)],
             lighter(color, 0.12))  # fmt: skip
    pen.blob([(16, 15), (18, 64), (26, 67), (38, 50), (40, 18)], darker(color, 0.08))
    pen.blob([(-40, 22), (-39, 34), (0, 29), (39, 34), (40, 22), (0, 15)], ribbon)
