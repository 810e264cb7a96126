"""Bicycle, car, bus, boat, scooter, train and plane, seen from the side."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Pen
from ffr_core.dataset.drawing.palette import (
    GLASS,
    INK,
    METAL,
    RGB,
    SOFT_INK,
    WHITE,
    darker,
    lighter,
    outline,
)  # fmt: skip

_TIRE: RGB = (54, 54, 60)
_LAMP: RGB = (255, 226, 140)


def _wheel(pen: Pen, x: float, radius: float) -> None:
    pen.disc(x, radius, radius, _TIRE)
    pen.disc(x, radius, radius * 0.56, METAL)
    pen.disc(x, radius, radius * 0.2, SOFT_INK)


def bicycle(pen: Pen, color: RGB) -> None:
    """Two spoked wheels and a diamond frame of the color."""
    for x in (-56, 56):
        for dx, dy in ((0, 34), (24, 24), (34, 0), (24, -24)):
            pen.line([(x - dx, 38 - dy), (x + dx, 38 + dy)], (158, 162, 170), 1.4)
        pen.ring(x, 38, 38, _TIRE, 6.5)
        pen.disc(x, 38, 6, SOFT_INK)
    rear, crank, seat, head, front = (-56, 38), (-8, 36), (-24, 92), (38, 94), (56, 38)
    if sum(color) > 660:  # a white frame needs an edge on snow and paper
        for path in ([seat, rear, crank, seat, head, crank], [(34, 108), front]):
            pen.line(path, SOFT_INK, 10)
    pen.line([seat, rear, crank], color, 6.5)
    pen.line([crank, seat, head, crank], color, 7.5)
    pen.line([(34, 108), front], color, 7.5)
    pen.line([(-24, 92), (-28, 106)], SOFT_INK, 5)
    pen.line([(-44, 108), (-14, 107)], INK, 9)
    pen.line([(34, 108), (36, 118), (50, 122), (58, 114)], SOFT_INK, 5)
    pen.line([(50, 122), (58, 114)], INK, 7)
    pen.disc(-8, 36, 11, SOFT_INK)
    pen.disc(-8, 36, 5, METAL)
    pen.line([(-8, 36), (4, 18)], SOFT_INK, 4)
    pen.line([(-4, 17), (13, 17)], INK, 6)


def car(pen: Pen, color: RGB) -> None:
    """A compact car."""
    edge = outline(color)
    cabin = [(-74, 56), (-50, 92), (34, 94), (66, 58)]
    pen.blob([(-108, 22), (-108, 52), (-76, 60), (-54, 92), (-10, 98), (34, 94), (64, 62),
              (102, 52), (110, 36), (108, 20), (0, 18)], color)  # fmt: skip
    pen.poly([(-66, 58), (-48, 86), (-12, 89), (-12, 58)], GLASS)
    pen.poly([(-4, 58), (-4, 89), (30, 86), (52, 58)], GLASS)
    pen.poly([(-40, 58), (-26, 87), (-16, 88), (-30, 58)], lighter(GLASS, 0.5))
    pen.line([(-8, 24), (-8, 58)], edge, 2)
    pen.line([cabin[0], cabin[3]], edge, 1.6)
    pen.rect(-30, 46, 16, 4, edge, 2)
    pen.rect(18, 46, 16, 4, edge, 2)
    pen.rect(-112, 20, 224, 9, darker(color, 0.45), 4)
    pen.oval(101, 43, 8, 6, _LAMP)
    pen.oval(-104, 46, 5, 7, (208, 60, 52))
    for x in (-62, 62):
        pen.disc(x, 22, 26, darker(color, 0.55))
        _wheel(pen, x, 22)


def bus(pen: Pen, color: RGB) -> None:
    """A city bus with a row of windows."""
    pen.rect(-140, 18, 280, 112, color, 14)
    pen.rect(-140, 18, 280, 22, darker(color, 0.35), 8)
    pen.rect(-140, 120, 280, 10, lighter(color, 0.25), 6)
    for x in range(-128, 70, 40):
        pen.rect(x, 72, 34, 38, GLASS, 4)
        pen.poly([(x + 6, 72), (x + 16, 110), (x + 24, 110), (x + 14, 72)], lighter(GLASS, 0.5))
    pen.rect(76, 28, 32, 82, lighter(GLASS, 0.25), 4)
    pen.line([(92, 28), (92, 110)], darker(color, 0.3), 2.4)
    pen.rect(116, 66, 24, 46, GLASS, 6)
    pen.rect(-128, 52, 196, 7, lighter(color, 0.55), 2)
    pen.rect(-60, 113, 120, 14, INK, 3)
    for x in range(-44, 46, 16):
        pen.rect(x, 118, 10, 4, (250, 190, 70), 1)
    pen.oval(134, 50, 6, 7, _LAMP)
    for x in (-84, 58):
        pen.disc(x, 22, 26, darker(color, 0.6))
        _wheel(pen, x, 22)


def boat(pen: Pen, color: RGB) -> None:
    """A sailing boat; the hull has the color."""
    pen.line([(0, 36), (0, 188)], (140, 100, 70), 5)
    main = [(6, 182), (6, 52), (70, 52), (44, 110)]
    pen.poly(main, (252, 250, 244))
    pen.poly([(6, 52), (70, 52), (60, 72), (6, 72)], lighter(color, 0.25))
    pen.poly([(-6, 172), (-6, 52), (-58, 52)], (236, 234, 228))
    pen.poly([(0, 190), (0, 176), (24, 183)], color)
    pen.poly([(-88, 40), (92, 40), (66, 6), (-62, 6)], color)
    pen.poly([(-88, 40), (92, 40), (87, 33), (-83, 33)], outline(color))
    pen.poly([(-67, 14), (73, 14), (66, 4), (-60, 4)], darker(color, 0.35))
    for x in (-36, -8, 20):
        pen.disc(x, 24, 4.4, WHITE)
    for x in (-70, -24, 24, 70):
        pen.curve([(x - 22, 3), (x - 11, 8), (x, 3), (x + 11, 8), (x + 22, 3)],
                  (226, 240, 248), 3)  # fmt: skip


def scooter(pen: Pen, color: RGB) -> None:
    """A motor scooter with a front shield and a seat."""
    for x in (-52, 54):
        _wheel(pen, x, 20)
    pen.line([(54, 20), (38, 92)], SOFT_INK, 6)
    pen.blob([(-84, 34), (-78, 64), (-40, 66), (-14, 60), (-8, 34), (-30, 26), (-66, 28)], color)
    pen.poly([(-30, 30), (26, 30), (30, 20), (-34, 20)], darker(color, 0.3))
    pen.blob([(26, 24), (22, 60), (30, 92), (42, 94), (46, 60), (40, 28)], color)
    pen.blob([(36, 38), (54, 46), (76, 36), (56, 38)], color)
    pen.blob([(-82, 64), (-78, 76), (-44, 76), (-14, 72), (-14, 62), (-46, 66)], (70, 56, 50))
    pen.line([(34, 92), (26, 108)], SOFT_INK, 5)
    pen.line([(14, 108), (34, 112)], INK, 6.5)
    pen.line([(24, 110), (14, 124)], SOFT_INK, 2.4)
    pen.disc(13, 127, 6, METAL)
    pen.disc(42, 98, 8.4, METAL)
    pen.disc(44, 98, 5.6, _LAMP)
    pen.oval(-84, 52, 4, 7, (208, 60, 52))


def train(pen: Pen, color: RGB) -> None:
    """A locomotive nose and a coach on rails."""
    pen.rect(-180, 2, 360, 5, (128, 120, 114))
    for x in range(-172, 176, 24):
        pen.rect(x, -2, 12, 4, (120, 88, 64))
    for x in (-144, -104, -38, 4, 62, 104):
        _wheel(pen.at(x, 7, 0.9), 0, 14)
    pen.rect(-174, 22, 132, 92, color, 6)
    pen.blob([(-34, 24), (-34, 112), (60, 114), (118, 100), (158, 58), (160, 28), (120, 22)],
             color)  # fmt: skip
    pen.rect(-40, 34, 8, 60, SOFT_INK)
    for x in (-164, -134, -104, -74, -22, 10, 42):
        pen.rect(x, 68, 24, 28, GLASS, 3)
    pen.poly([(84, 66), (84, 97), (106, 96), (134, 66)], GLASS)
    pen.rect(-174, 44, 132, 9, lighter(color, 0.7))
    pen.rect(-32, 44, 188, 9, lighter(color, 0.7), 3)
    pen.oval(150, 38, 6, 5, _LAMP)
    pen.rect(-174, 20, 132, 8, darker(color, 0.5))
    pen.rect(-30, 20, 168, 8, darker(color, 0.5), 3)


def plane(pen: Pen, color: RGB) -> None:
    """An airliner in flight; tail, engine and stripe have the color."""
    hull = (244, 246, 248)
    pen.poly([(-92, 44), (-112, 92), (-88, 92), (-54, 46)], color)
    pen.poly([(6, 48), (-30, 84), (-12, 84), (44, 48)], darker(hull, 0.16))
    pen.blob([(-112, 46), (-80, 54), (40, 58), (92, 50), (108, 36), (88, 24), (20, 20), (-60, 26)],
             hull)  # fmt: skip
    pen.poly([(-106, 44), (-84, 38), (96, 34), (106, 36), (100, 42), (-80, 47)], color)
    for x in range(-58, 70, 14):
        pen.rect(x, 46, 7, 6, (120, 160, 196), 2)
    pen.poly([(80, 46), (88, 52), (98, 44), (92, 43)], (120, 160, 196))
    pen.oval(14, 12, 18, 7, darker(color, 0.2))
    pen.poly([(26, 32), (-50, -8), (-30, -8), (62, 32)], darker(hull, 0.26))
    pen.poly([(-92, 40), (-124, 24), (-108, 24), (-66, 38)], darker(hull, 0.26))
