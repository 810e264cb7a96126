"""Charts: bars, a line and a pie."""

from __future__ import annotations

import math

from PIL import Image

from ffr_core.dataset.drawing.canvas import LANDSCAPE, Canvas
from ffr_core.dataset.drawing.palette import HAIRLINE, INK, SERIES, SOFT_INK, WHITE, darker
from ffr_core.dataset.drawing.specs import Chart
from ffr_core.dataset.drawing.text import put_block, put_text, text_width

_LEFT, _TOP, _RIGHT, _BOTTOM = 84.0, 92.0, 612.0, 402.0


def draw_chart(spec: Chart) -> Image.Image:
    """The chart of the spec's kind, with its title and values."""
    canvas = Canvas(LANDSCAPE, (252, 252, 253))
    put_block(canvas, (24, 12, 616, 58), spec.title, 25, bold=True, align="center")
    if spec.kind == "pie_chart":
        _pie(canvas, spec)
        return canvas.finish()
    low, high, step = axis_range(spec.values, from_zero=spec.kind == "bar_chart")
    _axes(canvas, spec, low, high, step)
    slot = (_RIGHT - _LEFT) / len(spec.labels)
    points = [
        (_LEFT + slot * (index + 0.5), _level(value, low, high))
        for index, value in enumerate(spec.values)
    ]
    if spec.kind == "bar_chart":
        _bars(canvas, points, slot)
    else:
        _line(canvas, points)
    size = min(15.0, slot * 0.3)
    for (x, y), value in zip(points, spec.values, strict=True):
        put_text(canvas, x, y - 15, f"{value:g}", max(11.0, size), bold=True, align="center",
                 halo=(252, 252, 253))  # fmt: skip
    return canvas.finish()


def axis_range(values: list[float], *, from_zero: bool) -> tuple[float, float, float]:
    """Round axis limits and the step between grid lines.

    Example: values 3 and 47 from zero give (0, 50, 10).
    """
    low = 0.0 if from_zero else min(values)
    high = max(max(values), low)
    if not from_zero and (low > 0 and low < 0.4 * high):
        low = 0.0
    rough = (high - low or abs(high) or 1.0) / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * f for f in (1, 2, 2.5, 5, 10) if magnitude * f >= rough * 0.999)
    bottom = math.floor(low / step) * step
    top = math.ceil(high / step - 1e-9) * step
    return bottom, top if top > bottom else bottom + step, step


def _level(value: float, low: float, high: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)


def _axes(canvas: Canvas, spec: Chart, low: float, high: float, step: float) -> None:
    for index in range(round((high - low) / step) + 1):
        value = low + index * step
        y = _level(value, low, high)
        canvas.line([(_LEFT, y), (_RIGHT, y)], HAIRLINE, 1)
        put_text(canvas, _LEFT - 10, y, f"{value:g}", 13, paint=SOFT_INK, align="right")
    canvas.line([(_LEFT, _TOP - 8), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], SOFT_INK, 1.6)
    if spec.unit:
        put_block(canvas, (14, 60, 320, 80), spec.unit, 14, paint=SOFT_INK)
    slot = (_RIGHT - _LEFT) / len(spec.labels)
    for index, label in enumerate(spec.labels):
        x = _LEFT + slot * index
        put_block(
            canvas, (x + 2, _BOTTOM + 8, x + slot - 2, _BOTTOM + 62), label, 16,
            max_lines=3, smallest=9, align="center",
        )  # fmt: skip


def _bars(canvas: Canvas, points: list[tuple[float, float]], slot: float) -> None:
    half = min(42.0, slot * 0.32)
    for (x, y), color in zip(points, SERIES, strict=False):
        canvas.rect((x - half, y, x + half, _BOTTOM), color)
        canvas.rect((x + half * 0.72, y, x + half, _BOTTOM), darker(color, 0.12))
    canvas.line([(_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], SOFT_INK, 1.6)


def _line(canvas: Canvas, points: list[tuple[float, float]]) -> None:
    color = SERIES[0]
    area = [(points[0][0], _BOTTOM), *points, (points[-1][0], _BOTTOM)]
    if len(points) > 1:
        canvas.polygon(area, (*color, 40))
        canvas.line(points, color, 4)
    for x, y in points:
        canvas.ellipse((x - 7, y - 7, x + 7, y + 7), color)
        canvas.ellipse((x - 3.6, y - 3.6, x + 3.6, y + 3.6), WHITE)


def _pie(canvas: Canvas, spec: Chart) -> None:
    total = sum(spec.values)
    box = (36.0, 92.0, 366.0, 422.0)
    canvas.ellipse((40, 98, 372, 430), (0, 0, 0, 30))
    angle = -90.0
    for value, color in zip(spec.values, SERIES, strict=False):
        end = angle + 360 * value / total
        if value > 0:
            canvas.pie(box, angle, end, color)
        angle = end
    angle = -90.0
    for value in spec.values:
        middle = math.radians(angle + 180 * value / total)
        edge = (
            201 + 165 * math.cos(math.radians(angle)),
            257 + 165 * math.sin(math.radians(angle)),
        )
        canvas.line([(201, 257), edge], WHITE, 2.4)
        if value / total >= 0.06:
            x, y = 201 + 112 * math.cos(middle), 257 + 112 * math.sin(middle)
            share = f"{100 * value / total:.0f}%"
            put_text(canvas, x, y, share, 17, bold=True, paint=WHITE, align="center")
        angle += 360 * value / total
    _legend(canvas, spec)


def _legend(canvas: Canvas, spec: Chart) -> None:
    height = min(42.0, 340 / len(spec.labels))
    y = 257 - height * len(spec.labels) / 2
    for label, value, color in zip(spec.labels, spec.values, SERIES, strict=False):
        middle = y + height / 2
        canvas.rect((394, middle - 8, 410, middle + 8), color, radius=3)
        amount = f"{value:g} {spec.unit}".strip()
        used = text_width(amount, 15, bold=True)
        put_text(canvas, 622, middle, amount, 15, bold=True, paint=INK, align="right")
        put_block(
            canvas, (418, y, 614 - used, y + height), label, 16,
            max_lines=2 if height >= 34 else 1, smallest=9,
        )  # fmt: skip
        y += height
