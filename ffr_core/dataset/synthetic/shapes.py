"""Silhouettes of the objects: a few polygons and strokes each, clear at 56 x 56 pixels.

Coordinates run from -1 to 1, x to the right, y downward. `MAIN` parts take the color of the
object, `DARK` ones are details in a dark gray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A filled polygon, or with a width a stroke along its points."""

    points: tuple[Point, ...]
    width: float = 0.0
    dark: bool = False


def _poly(*values: float, dark: bool = False) -> Part:
    return Part(tuple(zip(values[::2], values[1::2], strict=True)), 0.0, dark)


def _line(width: float, *values: float, dark: bool = False) -> Part:
    return Part(tuple(zip(values[::2], values[1::2], strict=True)), width, dark)


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> tuple[Point, ...]:
    steps = 20
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def _oval(x: float, y: float, rx: float, ry: float, dark: bool = False) -> Part:
    return Part(_arc(x, y, rx, ry, 0, 360), 0.0, dark)


def _ring(x: float, y: float, radius: float, width: float, dark: bool = False) -> Part:
    return Part(_arc(x, y, radius, radius, 0, 360), width, dark)


def _wedge(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Part:
    return Part(((x, y), *_arc(x, y, rx, ry, start, end)))


SHAPES: dict[str, tuple[Part, ...]] = {
    "bicycle": (
        _ring(-0.55, 0.35, 0.4, 0.15),
        _ring(0.55, 0.35, 0.4, 0.15),
        _line(0.15, -0.55, 0.35, -0.2, -0.25, 0.4, -0.25, 0.0, 0.35, -0.55, 0.35),
        _line(0.15, 0.0, 0.35, -0.25, -0.45),
        _line(0.15, 0.55, 0.35, 0.35, -0.5, 0.6, -0.6),
        _line(0.15, -0.45, -0.48, -0.1, -0.48, dark=True),
    ),
    "car": (
        _poly(
            -0.95,
            0.35,
            -0.95,
            0.0,
            -0.6,
            -0.05,
            -0.35,
            -0.5,
            0.35,
            -0.5,
            0.6,
            -0.05,
            0.95,
            0.05,
            0.95,
            0.35,
        ),
        _oval(-0.5, 0.38, 0.22, 0.22, True),
        _oval(0.5, 0.38, 0.22, 0.22, True),
        _poly(-0.4, -0.05, -0.25, -0.38, 0.25, -0.38, 0.42, -0.05, dark=True),
    ),
    "boat": (
        _poly(-0.95, 0.3, 0.95, 0.3, 0.6, 0.75, -0.6, 0.75),
        _poly(0.08, -0.9, 0.75, 0.15, 0.08, 0.15),
        _poly(-0.08, -0.6, -0.08, 0.15, -0.6, 0.15),
        _line(0.08, 0.0, -0.9, 0.0, 0.3, dark=True),
    ),
    "plane": (
        _oval(0.0, 0.0, 0.95, 0.17),
        _poly(0.2, 0.0, -0.35, -0.85, -0.05, -0.85, 0.5, 0.0),
        _poly(0.2, 0.0, -0.35, 0.85, -0.05, 0.85, 0.5, 0.0),
        _poly(-0.6, 0.0, -0.95, -0.4, -0.75, -0.4, -0.4, 0.0, -0.75, 0.4, -0.95, 0.4),
    ),
    "cat": (
        _oval(0.0, 0.1, 0.72, 0.62),
        _poly(-0.7, 0.0, -0.68, -0.85, -0.15, -0.4),
        _poly(0.7, 0.0, 0.68, -0.85, 0.15, -0.4),
        _oval(-0.28, 0.0, 0.12, 0.15, True),
        _oval(0.28, 0.0, 0.12, 0.15, True),
        _poly(-0.1, 0.28, 0.1, 0.28, 0.0, 0.42, dark=True),
    ),
    "fish": (
        _oval(0.15, 0.0, 0.72, 0.42),
        _poly(-0.4, 0.0, -0.95, -0.5, -0.95, 0.5),
        _oval(0.55, -0.1, 0.1, 0.1, True),
        _line(0.07, 0.3, -0.3, 0.2, 0.0, 0.3, 0.3, dark=True),
    ),
    "bird": (
        _oval(-0.05, 0.15, 0.6, 0.42),
        _oval(0.5, -0.35, 0.28, 0.28),
        _poly(-0.5, 0.1, -1.0, -0.15, -0.9, 0.3),
        _poly(-0.3, 0.1, -0.45, -0.75, 0.25, 0.0),
        _poly(0.72, -0.42, 1.0, -0.3, 0.72, -0.22, dark=True),
        _line(0.08, -0.05, 0.55, -0.05, 0.9, dark=True),
        _line(0.08, 0.2, 0.5, 0.2, 0.9, dark=True),
    ),
    "tree": (
        _poly(0.0, -0.95, 0.55, -0.2, -0.55, -0.2),
        _poly(0.0, -0.55, 0.8, 0.5, -0.8, 0.5),
        _poly(-0.15, 0.5, 0.15, 0.5, 0.15, 0.95, -0.15, 0.95, dark=True),
    ),
    "flower": (
        *(
            _oval(0.36 * math.cos(a), -0.35 + 0.36 * math.sin(a), 0.27, 0.27)
            for a in (i * math.tau / 6 for i in range(6))
        ),
        _oval(0.0, -0.35, 0.2, 0.2, True),
        _line(0.1, 0.0, 0.2, 0.0, 0.95, dark=True),
    ),
    "cup": (
        _poly(-0.65, -0.6, 0.35, -0.6, 0.25, 0.65, -0.55, 0.65),
        Part(_arc(0.35, -0.05, 0.42, 0.36, -90, 90), 0.17),
        _oval(-0.15, -0.6, 0.5, 0.12, True),
    ),
    "bottle": (
        _poly(
            -0.14,
            -0.75,
            0.14,
            -0.75,
            0.14,
            -0.4,
            0.4,
            -0.1,
            0.4,
            0.95,
            -0.4,
            0.95,
            -0.4,
            -0.1,
            -0.14,
            -0.4,
        ),
        _poly(-0.18, -0.97, 0.18, -0.97, 0.18, -0.75, -0.18, -0.75, dark=True),
    ),
    "chair": (
        _poly(-0.6, -0.95, -0.35, -0.95, -0.35, 0.0, -0.6, 0.0),
        _poly(-0.6, 0.0, 0.6, 0.0, 0.6, 0.25, -0.6, 0.25),
        _poly(-0.6, 0.25, -0.4, 0.25, -0.4, 0.95, -0.6, 0.95),
        _poly(0.4, 0.25, 0.6, 0.25, 0.6, 0.95, 0.4, 0.95),
    ),
    "lamp": (
        _poly(-0.32, -0.9, 0.32, -0.9, 0.75, 0.0, -0.75, 0.0),
        _line(0.12, 0.0, 0.0, 0.0, 0.8, dark=True),
        _poly(-0.45, 0.75, 0.45, 0.75, 0.45, 0.92, -0.45, 0.92, dark=True),
    ),
    "hat": (
        _wedge(0.0, 0.3, 0.58, 0.85, 180, 360),
        _oval(0.0, 0.35, 0.98, 0.2),
        _poly(-0.57, 0.08, 0.57, 0.08, 0.58, 0.24, -0.58, 0.24, dark=True),
    ),
    "shoe": (
        _poly(-0.85, -0.55, -0.3, -0.6, -0.1, -0.2, 0.6, 0.0, 0.92, 0.25, 0.92, 0.42, -0.85, 0.42),
        _poly(-0.85, 0.42, 0.95, 0.42, 0.95, 0.58, -0.85, 0.58, dark=True),
        _line(0.07, -0.1, -0.3, 0.1, -0.05, dark=True),
        _line(0.07, 0.15, -0.2, 0.3, 0.0, dark=True),
    ),
    "umbrella": (
        _wedge(0.0, -0.05, 0.95, 0.8, 180, 360),
        _line(0.1, 0.0, -0.05, 0.0, 0.75, 0.15, 0.9, 0.32, 0.75, dark=True),
    ),
    "guitar": (
        _oval(-0.35, 0.5, 0.46, 0.42),
        _oval(-0.05, 0.12, 0.34, 0.32),
        _line(0.18, 0.0, 0.1, 0.75, -0.75),
        _oval(-0.25, 0.38, 0.14, 0.14, True),
        _line(0.22, 0.65, -0.65, 0.88, -0.9, dark=True),
    ),
    "kite": (
        _poly(0.1, -0.95, 0.65, -0.3, 0.1, 0.45, -0.45, -0.3),
        _line(0.06, 0.1, -0.95, 0.1, 0.45, dark=True),
        _line(0.06, -0.45, -0.3, 0.65, -0.3, dark=True),
        _line(0.08, 0.1, 0.45, -0.2, 0.6, 0.05, 0.75, -0.3, 0.95),
    ),
    "key": (
        _ring(-0.55, 0.0, 0.3, 0.2),
        _line(0.2, -0.28, 0.0, 0.92, 0.0),
        _line(0.18, 0.8, 0.0, 0.8, 0.38),
        _line(0.18, 0.45, 0.0, 0.45, 0.3),
    ),
    "clock": (
        _oval(0.0, 0.0, 0.85, 0.85),
        _ring(0.0, 0.0, 0.8, 0.1, True),
        _line(0.11, 0.0, 0.0, 0.0, -0.55, dark=True),
        _line(0.11, 0.0, 0.0, 0.4, 0.15, dark=True),
    ),
    "ball": (
        _oval(0.0, 0.0, 0.8, 0.8),
        Part(_arc(-0.95, 0.0, 0.75, 0.75, -55, 55), 0.09, True),
        Part(_arc(0.95, 0.0, 0.75, 0.75, 125, 235), 0.09, True),
    ),
    "tent": (
        _poly(0.0, -0.75, 0.98, 0.7, -0.98, 0.7),
        _poly(0.0, -0.2, 0.3, 0.7, -0.3, 0.7, dark=True),
    ),
    "house": (
        _poly(-0.65, -0.1, 0.65, -0.1, 0.65, 0.85, -0.65, 0.85),
        _poly(0.0, -0.95, 0.95, -0.05, -0.95, -0.05),
        _poly(-0.15, 0.35, 0.2, 0.35, 0.2, 0.85, -0.15, 0.85, dark=True),
        _poly(-0.5, 0.1, -0.25, 0.1, -0.25, 0.32, -0.5, 0.32, dark=True),
    ),
    "ladder": (
        _line(0.17, -0.35, -0.95, -0.45, 0.95),
        _line(0.17, 0.35, -0.95, 0.45, 0.95),
        *(_line(0.15, -0.38, y, 0.38, y) for y in (-0.65, -0.25, 0.15, 0.55)),
    ),
}
