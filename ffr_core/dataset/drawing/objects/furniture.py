"""Furniture."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import COLORS, RGB, WHITE, WOOD, darker, lighter, outline


def chair(pen: Pen, color: RGB) -> None:
    """A wooden chair, seat and back in the color."""
    dark = darker(color, 0.3)
    for x in (-26, 22):
        pen.rect(x + 8, 12, 7, 50, darker(dark, 0.2), 2)
    pen.rect(-34, 58, 8, 86, dark, 3)
    pen.rect(28, 58, 8, 86, dark, 3)
    for y in (76, 98, 120):
        pen.rect(-28, y, 58, 13, color, 4)
    pen.poly([(-34, 66), (36, 66), (44, 52), (-42, 52)], lighter(color, 0.16))
    pen.rect(-42, 44, 86, 9, color, 3)
    for x in (-40, 34):
        pen.rect(x, 0, 8, 46, dark, 2)
    pen.rect(-34, 22, 70, 6, dark, 2)


def table(pen: Pen, color: RGB) -> None:
    """A table with four legs; its top can carry things."""
    dark = darker(color, 0.28)
    for x in (-78, 68):
        pen.rect(x, 16, 10, 66, darker(dark, 0.18), 2)
    for x in (-104, 92):
        pen.rect(x, 0, 13, 84, dark, 3)
    pen.rect(-104, 72, 208, 13, dark, 2)
    pen.poly([(-92, 104), (92, 104), (116, 86), (-116, 86)], lighter(color, 0.2))
    pen.rect(-116, 79, 232, 9, color, 3)


def sofa(pen: Pen, color: RGB) -> None:
    """A two-seat sofa with cushions."""
    dark = darker(color, 0.2)
    for x in (-96, 84):
        pen.rect(x, 0, 12, 16, (104, 74, 54), 3)
    pen.rect(-98, 40, 196, 72, dark, 18)
    for x in (-84, 2):
        pen.rect(x, 50, 82, 56, color, 12)
    pen.rect(-96, 12, 192, 30, dark, 6)
    for x in (-86, 2):
        pen.rect(x, 36, 84, 22, lighter(color, 0.14), 9)
    for x in (-116, 86):
        pen.rect(x, 12, 30, 66, color, 13)
        pen.rect(x + 5, 60, 20, 13, lighter(color, 0.14), 6)
    accent = COLORS["yellow"] if color != COLORS["yellow"] else COLORS["teal"]
    pen.poly([(-78, 60), (-70, 94), (-38, 88), (-44, 54)], accent)


def lamp(pen: Pen, color: RGB) -> None:
    """A floor lamp that is switched on; the shade has the color."""
    pen.poly([(-30, 112), (30, 112), (64, 0), (-64, 0)], (255, 232, 140, 34))
    pen.oval(0, 5, 28, 6, (88, 84, 88))
    pen.rect(-3, 4, 6, 116, (88, 84, 88))
    pen.poly([(-22, 164), (22, 164), (42, 112), (-42, 112)], color)
    pen.poly([(4, 164), (22, 164), (42, 112), (12, 112)], darker(color, 0.1))
    pen.oval(0, 112, 42, 6, (255, 240, 178))
    pen.line([(-22, 164), (22, 164)], outline(color), 3)


def shelf(pen: Pen, color: RGB) -> None:
    """A bookcase with three boards of books and a plant."""
    dark = darker(color, 0.3)
    pen.rect(-62, 0, 124, 178, color, 3)
    pen.rect(-54, 6, 108, 164, darker(color, 0.5))
    spines = ("red", "teal", "yellow", "navy", "orange", "green", "white", "purple", "blue")
    for board in range(3):
        y = 8 + board * 55
        pen.rect(-54, y - 2, 108, 6, dark)
        x, index = -50.0, board * 4
        while x < (18 if board == 1 else 42):
            width = 9 + index * 5 % 6
            height = 32 + index * 7 % 13
            pen.rect(x, y + 4, width, height, COLORS[spines[index % 9]], 1)
            x += width + 1
            index += 1
    pen.poly([(28, 82), (46, 82), (43, 67), (31, 67)], (206, 120, 84))
    for dx in (-9, 0, 9):
        pen.blob([(37, 80), (35 + dx, 94), (37 + dx * 1.3, 104), (40 + dx, 92)], (104, 170, 96))


def bed(pen: Pen, color: RGB) -> None:
    """A bed from the side; the blanket has the color."""
    wood = WOOD if color != COLORS["brown"] else darker(WOOD, 0.35)
    pen.rect(-128, 0, 12, 104, wood, 4)
    pen.rect(-128, 40, 16, 62, darker(wood, 0.14), 5)
    pen.rect(116, 0, 12, 62, wood, 4)
    pen.rect(-118, 14, 236, 20, darker(wood, 0.1), 2)
    pen.rect(-116, 32, 232, 24, (246, 244, 240), 8)
    pen.blob([(-108, 56), (-106, 76), (-76, 82), (-50, 74), (-50, 56)], WHITE)
    pen.blob([(-104, 57), (-90, 60), (-66, 58), (-52, 57), (-52, 55), (-104, 54)], (214, 220, 228))
    pen.blob([(-44, 54), (-40, 70), (20, 76), (90, 70), (118, 58), (119, 24), (60, 20), (-36, 22)],
             color)  # fmt: skip
    pen.blob([(-46, 54), (-42, 71), (-14, 74), (-16, 22), (-38, 22)], lighter(color, 0.42))
    for x in (24, 64, 98):
        pen.curve([(x, 68), (x + 4, 46), (x - 2, 24)], darker(color, 0.14), 2.4)


def rug(pen: Pen, color: RGB) -> None:
    """A fringed rug lying on the floor, in perspective."""
    pen.poly([(-118, 0), (118, 0), (86, 44), (-86, 44)], color)
    pen.poly([(-98, 6), (98, 6), (75, 38), (-75, 38)], lighter(color, 0.4))
    pen.poly([(-90, 9), (90, 9), (70, 35), (-70, 35)], color)
    for x in (-46, 0, 46):
        pen.poly([(x - 20, 22), (x, 31), (x + 20, 22), (x, 13)], lighter(color, 0.55))
        pen.poly([(x - 9, 22), (x, 26), (x + 9, 22), (x, 18)], darker(color, 0.25))
    for step in range(12):
        y = step * 4
        for side in (-1, 1):
            edge = side * (118 - 32 * y / 44)
            pen.line([(edge, y), (edge + side * 9, y - 1)], lighter(color, 0.55), 1.8)
