"""Parts of a house, appliances and useful things."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import COLORS, METAL, RGB, SOFT_INK, darker, lighter, outline


def window(pen: Pen, color: RGB) -> None:
    """A four-pane window with a view of sky and hill; the frame has the color."""
    pen.rect(-58, 6, 116, 124, outline(color), 3)
    pen.rect(-56, 8, 112, 120, color, 3)
    pen.rect(-48, 16, 96, 104, (176, 216, 242))
    pen.poly([*pen.arc(0, 4, 60, 44, 37, 143), (-48, 16), (48, 16)], (140, 190, 120))
    pen.rect(22, 16, 26, 16, (140, 190, 120))
    pen.rect(-34, 84, 30, 10, (250, 252, 255), 5)
    pen.disc(-20, 94, 9, (250, 252, 255))
    pen.rect(-3.5, 12, 7, 112, color)
    pen.rect(-52, 64, 104, 7, color)
    pen.line([(14, 82), (38, 112)], (255, 255, 255, 150), 5)
    pen.rect(-66, 0, 132, 11, outline(color), 3)
    pen.rect(-66, 3, 132, 8, lighter(color, 0.2), 3)


def door(pen: Pen, color: RGB) -> None:
    """A closed panel door with a handle."""
    pen.rect(-52, 0, 104, 196, lighter(outline(color), 0.35), 2)
    pen.rect(-44, 0, 88, 188, color, 2)
    for y, height in ((16, 66), (98, 76)):
        for x in (-34, 5):
            pen.rect(x, y, 29, height, darker(color, 0.2), 2)
            pen.rect(x + 2, y, 27, height - 3, lighter(color, 0.07), 2)
    pen.disc(35, 92, 6, (240, 200, 96))
    pen.rect(18, 90, 18, 4.6, (240, 200, 96), 2)


def picture(pen: Pen, color: RGB) -> None:
    """A framed landscape painting; the frame has the color."""
    pen.rect(-64, -3, 128, 96, (0, 0, 0, 40), 2)
    pen.rect(-62, 0, 124, 94, outline(color), 2)
    pen.rect(-60, 2, 120, 90, color, 2)
    pen.rect(-50, 12, 100, 70, (250, 247, 238))
    pen.rect(-44, 17, 88, 60, (180, 216, 236))
    pen.disc(24, 62, 8, (250, 206, 90))
    pen.poly([(-44, 28), (-16, 62), (8, 32), (18, 42), (44, 24), (44, 17), (-44, 17)],
             (120, 146, 168))  # fmt: skip
    pen.poly([(-22, 55), (-16, 62), (-10, 55), (-16, 51)], (250, 250, 250))
    pen.poly([(-44, 30), (-10, 22), (44, 30), (44, 17), (-44, 17)], (126, 178, 104))


def fridge(pen: Pen, color: RGB) -> None:
    """A fridge with a freezer compartment, handles and magnets."""
    pen.rect(-46, 0, 14, 10, SOFT_INK, 2)
    pen.rect(32, 0, 14, 10, SOFT_INK, 2)
    pen.rect(-54, 5, 108, 194, outline(color), 9)
    pen.rect(-52, 7, 104, 190, color, 8)
    pen.rect(36, 7, 16, 190, darker(color, 0.08), 8)
    pen.rect(-52, 126, 104, 4, outline(color))
    handle = darker(METAL, 0.2)
    pen.rect(-43, 138, 7, 36, handle, 3)
    pen.rect(-43, 76, 7, 42, handle, 3)
    pen.rect(2, 84, 24, 28, (252, 246, 210), 1)
    for y in (104, 98, 92):
        pen.rect(5, y, 17, 2, (160, 160, 160))
    pen.disc(14, 113, 4, COLORS["red"])
    pen.disc(-14, 106, 5, COLORS["blue"])
    pen.rect(-8, 152, 10, 10, COLORS["green"], 2)


def washing_machine(pen: Pen, color: RGB) -> None:
    """A front loader with its round door and dials."""
    pen.rect(-58, 0, 116, 132, outline(color), 8)
    pen.rect(-56, 3, 112, 127, color, 7)
    pen.rect(-56, 104, 112, 4, outline(color))
    pen.rect(-46, 112, 34, 12, lighter(outline(color), 0.3), 3)
    pen.disc(18, 118, 8, outline(color))
    pen.rect(16.6, 118, 3, 7, (250, 250, 250))
    for x in (34, 45):
        pen.disc(x, 118, 3.6, COLORS["teal"])
    pen.disc(0, 54, 43, darker(METAL, 0.25))
    pen.disc(0, 54, 39, (222, 226, 232))
    pen.disc(0, 54, 31, (92, 128, 160))
    pen.poly(pen.arc(0, 54, 31, 31, 190, 350), (150, 196, 224))
    pen.blob([(-22, 42), (-8, 56), (10, 48), (20, 36), (0, 28)], COLORS["orange"])
    pen.blob([(-16, 36), (2, 46), (14, 34), (-2, 26)], COLORS["pink"])
    pen.curve([(-18, 70), (-8, 78), (4, 79)], (226, 240, 250), 4)
    pen.rect(36, 48, 9, 13, darker(METAL, 0.35), 3)


def box(pen: Pen, color: RGB) -> None:
    """A taped parcel seen from a corner; beige and brown look like cardboard."""
    pen.poly([(-56, 6), (18, 0), (18, 66), (-56, 70)], color)
    pen.poly([(18, 0), (58, 16), (58, 76), (18, 66)], darker(color, 0.22))
    pen.poly([(-56, 70), (18, 66), (58, 76), (-12, 84)], lighter(color, 0.22))
    tape: RGB = (240, 226, 190)
    pen.poly([(-27, 68.4), (-12, 67.6), (29, 79.3), (16, 80.8)], tape)
    pen.poly([(-27, 68.4), (-12, 67.6), (-12, 46), (-27, 47)], darker(tape, 0.08))
    pen.poly([(-46, 16), (-22, 14), (-22, 32), (-46, 34)], (250, 248, 242))
    for y in (28, 23):
        pen.line([(-43, y), (-29, y - 1)], SOFT_INK, 1.8)


def ladder(pen: Pen, color: RGB) -> None:
    """An open stepladder."""
    back = darker(color, 0.35)
    for x0, x1 in ((52, 10), (84, 24)):
        pen.line([(x0, 3), (x1, 182)], back, 6)
    pen.line([(46, 46), (72, 46)], back, 5)
    for step in range(6):
        y = 24 + step * 27
        left = -52 + (y / 186) * 40
        right = 12 + (y / 186) * 10
        pen.line([(left, y), (right, y)], lighter(color, 0.2), 9)
        pen.line([(left, y - 4), (right, y - 4)], darker(color, 0.2), 3)
    pen.line([(-58, 3), (-14, 184)], color, 9)
    pen.line([(12, 3), (22, 184)], color, 9)
    pen.rect(-24, 180, 56, 10, darker(color, 0.15), 3)


def key(pen: Pen, color: RGB) -> None:
    """A door key on a ring, lying flat."""
    edge = outline(color)
    pen.ring(-72, 34, 22, SOFT_INK, 4)
    pen.ring(-40, 30, 29, edge, 16)
    pen.ring(-40, 30, 27, color, 12)
    for paint, grow in ((edge, 2), (color, 0)):
        pen.rect(-14 - grow, 24 - grow, 88 + 2 * grow, 12 + 2 * grow, paint, 3)
        for x, drop in ((40, 16), (56, 22)):
            pen.rect(x - grow, 26 - drop - grow, 10 + 2 * grow, drop + grow, paint, 1)
    pen.line([(-12, 33), (70, 33)], lighter(color, 0.4), 2)
