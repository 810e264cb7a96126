"""House, bridge, tent and fence."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import COLORS, GLASS, RGB, WHITE, darker, lighter, outline


def house(pen: Pen, color: RGB) -> None:
    """A detached house; the walls have the color."""
    roof: RGB = (150, 72, 58) if color != COLORS["red"] else (88, 82, 92)
    pen.rect(48, 150, 24, 62, (164, 120, 100))
    pen.rect(44, 206, 32, 9, (120, 84, 70))
    pen.rect(-100, 0, 200, 124, color)
    pen.rect(60, 0, 40, 124, darker(color, 0.08))
    pen.poly([(-120, 120), (120, 120), (76, 198), (-76, 198)], roof)
    for y in (140, 160, 180):
        half = 120 - 44 * (y - 120) / 78
        pen.line([(-half, y), (half, y)], darker(roof, 0.16), 2)
    pen.rect(-122, 115, 244, 9, darker(roof, 0.3), 3)
    pen.rect(-20, 0, 40, 74, outline(color), 2)
    door = (122, 82, 58) if color != COLORS["brown"] else (70, 110, 120)
    pen.rect(-17, 0, 34, 71, door)
    pen.disc(10, 34, 3, (244, 204, 100))
    for x in (-80, 40):
        pen.rect(x, 42, 40, 44, WHITE, 2)
        pen.rect(x + 4, 46, 32, 36, GLASS)
        pen.rect(x + 18, 46, 4, 36, WHITE)
        pen.rect(x + 4, 62, 32, 4, WHITE)
        pen.rect(x - 3, 38, 46, 6, lighter(outline(color), 0.4), 2)


def bridge(pen: Pen, color: RGB) -> None:
    """A stone bridge with two arches over water."""
    water: RGB = (126, 184, 218)
    pen.rect(-176, 0, 352, 18, water, 9)
    deck = [(-190, 74), *pen.arc(0, 60, 190, 44, 176, 4), (190, 74), (190, 0), (150, 0),
            *pen.arc(75, 0, 62, 66, 0, 180), (13, 0), (-13, 0), *pen.arc(-75, 0, 62, 66, 0, 180),
            (-150, 0), (-190, 0)]  # fmt: skip
    pen.poly(deck, color)
    for middle in (-75, 75):
        pen.line(pen.arc(middle, 0, 66, 70, 4, 176), darker(color, 0.24), 6)
    top = pen.arc(0, 60, 190, 44, 176, 4)
    pen.line(top, darker(color, 0.28), 9)
    rail = [(x, y + 26) for x, y in top]
    pen.line(rail, darker(color, 0.28), 6)
    for (x, y), (_, high) in zip(top[::2], rail[::2], strict=True):
        pen.line([(x, y), (x, high)], darker(color, 0.28), 4.4)
    for left, low in ((-159, 50), (-173, 26), (-9, 70), (-1, 40), (-15, 20), (141, 50), (151, 26)):
        pen.rect(left, low, 18, 7, darker(color, 0.1), 2)
    for mid in (-96, -40, 44, 100):
        ripple = [(mid - 18, 7), (mid - 6, 10), (mid + 6, 6), (mid + 18, 9)]
        pen.curve(ripple, (226, 240, 248), 2.4)


def tent(pen: Pen, color: RGB) -> None:
    """A ridge tent with an open entrance and guy lines."""
    rope: RGB = (206, 196, 176)
    pen.line([(-30, 116), (-116, 0)], rope, 2.4)
    pen.line([(64, 108), (132, 4)], rope, 2.4)
    pen.poly([(-30, 118), (64, 110), (118, 6), (44, 0)], darker(color, 0.22))
    pen.poly([(64, 110), (118, 6), (104, 5), (58, 110.4)], darker(color, 0.34))
    pen.poly([(-30, 118), (-100, 0), (44, 0)], color)
    pen.poly([(-30, 96), (-62, 0), (4, 0)], (62, 52, 60))
    pen.poly([(-30, 98), (-62, 0), (-80, 0)], lighter(color, 0.3))
    pen.poly([(-30, 98), (4, 0), (20, 0)], lighter(color, 0.3))
    pen.line([(-30, 118), (64, 110)], lighter(color, 0.35), 3.4)
    pen.line([(-30, 112), (-30, 124)], (120, 96, 76), 4)


def fence(pen: Pen, color: RGB) -> None:
    """Seven pickets on two rails."""
    edge = outline(color)
    for y in (22, 54):
        pen.rect(-120, y, 240, 10, edge, 2)
        pen.rect(-120, y + 2, 240, 8, darker(color, 0.1), 2)
    for index in range(7):
        x = -110 + index * 35
        for paint, grow in ((edge, 1.6), (color, 0.0)):
            pen.poly([(x - 10 - grow, 0), (x - 10 - grow, 72), (x, 86 + grow), (x + 10 + grow, 72),
                      (x + 10 + grow, 0)], paint)  # fmt: skip
        pen.disc(x, 27, 2, edge)
        pen.disc(x, 59, 2, edge)
