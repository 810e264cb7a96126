"""Printed cards in six styles."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from ffr_core.dataset.drawing.canvas import LANDSCAPE, Box, Canvas, Pen, barcode
from ffr_core.dataset.drawing.objects.leisure import balloon
from ffr_core.dataset.drawing.objects.vehicles import plane
from ffr_core.dataset.drawing.palette import (
    COLORS,
    HAIRLINE,
    INK,
    PAPER,
    RGB,
    SOFT_INK,
    WHITE,
    clear,
    contrast,
    darker,
    lighter,
    readable,
)
from ffr_core.dataset.drawing.specs import Card
from ffr_core.dataset.drawing.text import put_block, put_text


def draw_card(spec: Card) -> Image.Image:
    """A printed card in one of six styles."""
    styles: dict[str, Callable[[Canvas, Card, RGB], Box]] = {
        "ticket": _ticket, "invitation": _invitation, "business": _business,
        "membership": _membership, "boarding": _boarding, "label": _label,
    }  # fmt: skip
    canvas = Canvas(LANDSCAPE, (222, 218, 212))
    accent = COLORS[spec.accent]
    left, top, right, bottom = styles[spec.style](canvas, spec, accent)
    centered = spec.style == "invitation"
    dark = spec.style == "membership"
    step = min(42.0, (bottom - top) / len(spec.lines))
    y = top + ((bottom - top) - step * len(spec.lines)) / 2
    for number, line in enumerate(spec.lines):
        put_block(
            canvas,
            (left, y, right, y + step),
            line,
            min(22.0, step * 0.66),
            max_lines=2 if step > 34 else 1,
            align="center" if centered else "left",
            bold=number == 0 and not centered,
            paint=contrast(accent) if dark else INK,
        )
        y += step
    return canvas.finish()


def _sheet(canvas: Canvas, box: Box, fill: RGB, radius: float) -> None:
    left, top, right, bottom = box
    canvas.rect((left + 5, top + 8, right + 5, bottom + 8), (0, 0, 0, 44), radius=radius)
    canvas.rect(box, fill, radius=radius)


def _ticket(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    _sheet(canvas, (40, 110, 600, 370), lighter(accent, 0.82), 10)
    canvas.rect((40, 110, 600, 172), accent, radius=10)
    canvas.rect((40, 150, 600, 172), accent)
    put_block(canvas, (64, 112, 576, 170), spec.title, 28, bold=True, paint=contrast(accent))
    for y in range(180, 364, 14):
        canvas.line([(470, y), (470, y + 6)], darker(accent), 2)
    for y in (110, 370):
        canvas.ellipse((458, y - 12, 482, y + 12), (222, 218, 212))
    barcode(canvas, 496, 200, 82, 140, spec.title)
    return 66, 182, 456, 362


def _invitation(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    _sheet(canvas, (70, 36, 570, 444), PAPER, 6)
    canvas.rect((84, 50, 556, 430), None, radius=4, edge=accent, width=2.4)
    canvas.rect((92, 58, 548, 422), None, radius=3, edge=lighter(accent, 0.5), width=1)
    string = [(92.0 + 19 * i, 60 + 24 * (1 - ((i - 12) / 12) ** 2)) for i in range(25)]
    canvas.line(string, SOFT_INK, 1.4)
    for index, ((x0, y0), (x1, y1)) in enumerate(zip(string[1:-1:2], string[2::2], strict=True)):
        flag = (accent, lighter(accent, 0.5), (246, 206, 110))[index % 3]
        canvas.polygon([(x0, y0), (x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2 + 22)], flag)
    for x, size in ((128, 0.62), (158, 0.48), (512, 0.62), (482, 0.48)):
        paint = accent if size > 0.5 else lighter(accent, 0.35)
        balloon(Pen(canvas, x, 412, size), paint)
    put_block(
        canvas, (110, 108, 530, 168), spec.title, 32,
        max_lines=2, bold=True, align="center", paint=readable(accent), smallest=16,
    )  # fmt: skip
    canvas.line([(250, 174), (390, 174)], accent, 1.6)
    return 180, 184, 460, 412


def _business(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    _sheet(canvas, (80, 92, 560, 388), PAPER, 6)
    canvas.rect((80, 92, 200, 388), accent, radius=6)
    canvas.rect((190, 92, 200, 388), accent)
    canvas.ellipse((104, 190, 176, 262), None, edge=contrast(accent), width=4)
    put_text(
        canvas, 140, 226, spec.title[:1], 38, bold=True, paint=contrast(accent), align="center"
    )
    put_block(canvas, (224, 116, 544, 172), spec.title, 28, bold=True, max_lines=2, smallest=15)
    canvas.line([(224, 182), (330, 182)], accent, 3)
    return 224, 194, 544, 372


def _membership(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    _sheet(canvas, (76, 84, 564, 396), accent, 22)
    canvas.ellipse((400, 100, 550, 250), clear(lighter(accent, 0.4), 0.25))
    canvas.ellipse((340, 200, 540, 390), clear(lighter(accent, 0.4), 0.18))
    canvas.rect((106, 178, 156, 214), (226, 196, 110), radius=6)
    canvas.line([(106, 196), (156, 196)], (176, 146, 70), 1.4)
    canvas.line([(131, 178), (131, 214)], (176, 146, 70), 1.4)
    put_block(canvas, (106, 104, 534, 164), spec.title, 30, bold=True, paint=contrast(accent))
    return 106, 226, 534, 382


def _boarding(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    _sheet(canvas, (30, 104, 610, 376), WHITE, 16)
    canvas.rect((30, 104, 610, 166), accent, radius=16)
    canvas.rect((30, 148, 610, 166), accent)
    put_block(canvas, (56, 106, 440, 164), spec.title, 27, bold=True, paint=contrast(accent))
    plane(Pen(canvas, 540, 146, 0.5), COLORS["white"])
    for dash in range(174, 370, 12):
        canvas.line([(462, dash), (462, dash + 5)], SOFT_INK, 2)
    for row in range(9):  # a made-up matrix code
        dots = random.Random(f"{spec.title}{row}")
        for column in range(9):
            if dots.random() < 0.55 or row in (0, 8) or column in (0, 8):
                x, y = 482 + column * 11.0, 214 + row * 11.0
                canvas.rect((x, y, x + 10.6, y + 10.6), INK)
    return 56, 178, 448, 366


def _label(canvas: Canvas, spec: Card, accent: RGB) -> Box:
    shape = [(150.0, 70.0), (580.0, 70.0), (580.0, 410.0), (150.0, 410.0), (60.0, 240.0)]
    canvas.polygon([(x + 6, y + 8) for x, y in shape], (0, 0, 0, 44))
    canvas.polygon(shape, (238, 222, 190))
    canvas.polygon([(566, 70), (580, 70), (580, 410), (566, 410)], accent)
    canvas.ellipse((100, 222, 136, 258), (222, 218, 212), edge=(150, 116, 70), width=4)
    canvas.line([(118, 240), (60, 190), (0, 214)], (190, 160, 110), 4)
    put_block(
        canvas, (176, 86, 548, 146), spec.title, 32,
        bold=True, max_lines=2, smallest=16, paint=readable(accent),
    )  # fmt: skip
    canvas.line([(176, 154), (548, 154)], HAIRLINE, 2)
    return 176, 164, 548, 396
