"""The twelve places as simple backgrounds; a random generator varies horizon and details."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

RGB = tuple[int, int, int]
Background = Callable[["ImageDraw", int, int, Random], None]


def _halves(pen: ImageDraw, w: int, h: int, horizon: float, top: RGB, bottom: RGB) -> float:
    y = h * horizon
    pen.rectangle((0, 0, w, y), top)
    pen.rectangle((0, y, w, h), bottom)
    return y


def _beach(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.55, 0.65), (160, 215, 250), (240, 215, 155))
    pen.rectangle((0, y - h * 0.2, w, y), (40, 150, 200))
    x, r = w * rng.uniform(0.1, 0.9), w * 0.09
    pen.ellipse((x - r, h * 0.12 - r, x + r, h * 0.12 + r), (255, 245, 170))


def _kitchen(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.62, 0.74), (225, 240, 235), (150, 105, 70))
    step, shift = w / 6, w / 6 * rng.random()
    for i in range(7):
        pen.line((i * step + shift, 0, i * step + shift, y), (120, 160, 160), max(1, w // 60))
        if i * step < y:
            pen.line((0, i * step, w, i * step), (120, 160, 160), max(1, w // 60))


def _street(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.5, 0.6), (205, 215, 225), (95, 97, 102))
    x = -rng.random() * w * 0.2
    while x < w:
        wide = w * rng.uniform(0.16, 0.28)
        tone = rng.choice(((190, 120, 100), (170, 150, 135), (205, 175, 150)))
        pen.rectangle((x, y - h * rng.uniform(0.2, 0.42), x + wide, y), tone)
        x += wide
    shift = rng.random() * w * 0.3
    for i in range(-1, 4):
        left = i * w * 0.34 + shift
        pen.rectangle((left, h * 0.86, left + w * 0.2, h * 0.91), (245, 245, 245))


def _forest(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    _halves(pen, w, h, rng.uniform(0.75, 0.85), (45, 95, 60), (60, 65, 35))
    x = rng.random() * w * 0.1
    while x < w:
        wide = w * rng.uniform(0.05, 0.09)
        pen.rectangle((x, 0, x + wide, h * 0.85), (75, 55, 40))
        x += wide + w * rng.uniform(0.09, 0.16)


def _glacier(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.45, 0.6), (185, 220, 240), (245, 250, 255))
    x = -w * 0.1
    while x < w:
        wide = w * rng.uniform(0.2, 0.35)
        peak = y - h * rng.uniform(0.15, 0.35)
        pen.polygon(((x, y), (x + wide / 2, peak), (x + wide, y)), (130, 190, 225))
        x += wide * 0.8
    for _ in range(18):
        x, top, r = rng.random() * w, rng.random() * h, w * 0.016
        pen.ellipse((x - r, top - r, x + r, top + r), (255, 255, 255))


def _desert(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.5, 0.6), (255, 225, 165), (222, 150, 75))
    for tone in ((235, 170, 95), (205, 130, 60)):
        x, r = w * rng.random(), w * rng.uniform(0.45, 0.7)
        pen.ellipse((x - r, y - h * 0.08, x + r, y + h * 0.75), tone)


def _lake(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.38, 0.5), (215, 235, 245), (45, 115, 165))
    pen.rectangle((0, y - h * 0.09, w, y), (70, 130, 80))
    for _ in range(10):
        x, top = w * rng.uniform(-0.1, 0.95), y + (h - y) * rng.random()
        pen.line((x, top, x + w * 0.2, top), (120, 180, 215), max(1, h // 50))


def _meadow(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.35, 0.5), (140, 200, 255), (130, 205, 90))
    for _ in range(26):
        x, top, r = w * rng.random(), y + (h - y) * rng.random(), w * 0.014
        tone = rng.choice(((255, 255, 255), (255, 230, 90)))
        pen.ellipse((x - r, top - r, x + r, top + r), tone)


def _city(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    pen.rectangle((0, 0, w, h), (18, 22, 60))
    x = -rng.random() * w * 0.1
    while x < w:
        wide, top = w * rng.uniform(0.13, 0.22), h * rng.uniform(0.2, 0.55)
        pen.rectangle((x, top, x + wide, h), (55, 58, 95))
        for i in range(1, 7):
            for j in (0.25, 0.65):
                if rng.random() < 0.6:
                    left, up = x + wide * j, top + h * 0.09 * i
                    pen.rectangle((left, up, left + w * 0.03, up + h * 0.04), (255, 225, 120))
        x += wide + w * 0.02


def _bedroom(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.68, 0.78), (222, 200, 235), (190, 150, 110))
    step, shift = w / 5, w / 5 * rng.random()
    for i in range(-1, 6):
        left = i * step + shift
        pen.rectangle((left, 0, left + step / 2, y), (205, 175, 225))


def _stage(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.78, 0.86), (120, 20, 35), (70, 50, 40))
    step, shift = w / 8, w / 8 * rng.random()
    for i in range(-1, 9):
        left = i * step + shift
        pen.rectangle((left, 0, left + step / 2.5, y), (85, 10, 25))


def _mountain(pen: ImageDraw, w: int, h: int, rng: Random) -> None:
    y = _halves(pen, w, h, rng.uniform(0.75, 0.85), (195, 210, 205), (110, 125, 95))
    for left in (-0.15, 0.3):
        a, b = w * (left + rng.uniform(-0.05, 0.05)), w * 0.85
        top = h * rng.uniform(0.08, 0.2)
        pen.polygon(((a, y), (a + b / 2, top), (a + b, y)), (130, 125, 130))
        cap = (y - top) * 0.25
        pen.polygon(
            ((a + b * 0.375, top + cap), (a + b / 2, top), (a + b * 0.625, top + cap)),
            (250, 250, 250),
        )


BACKGROUNDS: dict[str, Background] = {
    "beach": _beach,
    "kitchen": _kitchen,
    "street": _street,
    "forest": _forest,
    "glacier": _glacier,
    "desert": _desert,
    "lake": _lake,
    "meadow": _meadow,
    "city": _city,
    "bedroom": _bedroom,
    "stage": _stage,
    "mountain": _mountain,
}
