"""Screens and sheets: the table, the screenshot, the calendar and the weather forecast."""

from __future__ import annotations

from PIL import Image

from ffr_core.dataset.drawing.canvas import LANDSCAPE, PORTRAIT, Box, Canvas, Pen
from ffr_core.dataset.drawing.fonts import is_cjk
from ffr_core.dataset.drawing.objects.sky import sun_disc, weather_cloud
from ffr_core.dataset.drawing.palette import (
    HAIRLINE,
    INK,
    RGB,
    SOFT_INK,
    WHITE,
    darker,
    lighter,
    tint_for,
)  # fmt: skip
from ffr_core.dataset.drawing.specs import Calendar, Screen, Sky, Table, Weather
from ffr_core.dataset.drawing.text import fit_lines, put_block, put_text, text_width

_WEEKDAYS_EN = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEKDAYS_ZH = ("一", "二", "三", "四", "五", "六", "日")


def draw_table(spec: Table) -> Image.Image:
    """A titled table with a colored header and striped rows."""
    canvas = Canvas(LANDSCAPE, (244, 246, 248))
    put_block(canvas, (30, 14, 610, 58), spec.title, 25, bold=True)
    height = min(66.0, 392 / (len(spec.rows) + 1))
    widths = _column_widths(spec, 580, height)
    canvas.rect((33, 67, 613, 67 + height * (len(spec.rows) + 1)), (0, 0, 0, 30), radius=4)
    for number, row in enumerate([spec.header, *spec.rows]):
        y = 64 + number * height
        fill = tint_for(spec.title) if number == 0 else (WHITE, (236, 240, 245))[number % 2]
        canvas.rect((30, y, 610, y + height), fill)
        x = 30.0
        for cell, width in zip(row, widths, strict=True):
            if cell:
                put_block(
                    canvas,
                    (x + 9, y, x + width - 7, y + height),
                    cell,
                    min(20.0, height * 0.5),
                    max_lines=2 if height >= 30 else 1,
                    bold=number == 0,
                    paint=WHITE if number == 0 else INK,
                    smallest=10,
                )
            x += width
    bottom = 64 + height * (len(spec.rows) + 1)
    for index in range(1, len(widths)):
        x = 30 + sum(widths[:index])
        canvas.line([(x, 64 + height), (x, bottom)], HAIRLINE, 1)
    canvas.rect((30, 64, 610, bottom), None, edge=(186, 196, 208), width=1.2)
    return canvas.finish()


def _column_widths(spec: Table, total: float, height: float) -> list[float]:
    """Shares the width by the longest cell of each column, none below a tenth."""
    size = min(20.0, height * 0.5)
    wanted = []
    for column in range(len(spec.header)):
        cells = [row[column] for row in [spec.header, *spec.rows]]
        longest = max(text_width(cell, size, bold=True) for cell in cells)
        wanted.append(min(260.0, max(48.0, longest + 18)))
    return [total * width / sum(wanted) for width in wanted]


def draw_screen(spec: Screen) -> Image.Image:
    """A phone screenshot: status bar, app bar, optional alert, rows of label and value."""
    canvas = Canvas(PORTRAIT, (240, 242, 246))
    canvas.rect((0, 0, 480, 92), tint_for(spec.app))
    _status_bar(canvas)
    put_block(canvas, (58, 34, 420, 88), spec.app, 24, bold=True, paint=WHITE)
    canvas.line([(34, 51), (24, 61), (34, 71)], WHITE, 3.2)
    for dot in (52, 61, 70):
        canvas.ellipse((447, dot - 2.4, 452, dot + 2.6), WHITE)
    put_block(canvas, (26, 100, 454, 152), spec.title, 25, bold=True, max_lines=2, smallest=15)
    y = 160.0
    if spec.alert:
        lines, _ = fit_lines(spec.alert, 364, 18, max_lines=3, smallest=13)
        height = 30 + 24.0 * len(lines)
        _alert(canvas, y, height, spec.alert)
        y += height + 14
    if spec.rows:
        _screen_rows(canvas, spec, y)
    canvas.rect((180, 626, 300, 631), (150, 154, 162), radius=3)
    return canvas.finish()


def _status_bar(canvas: Canvas) -> None:
    put_text(canvas, 24, 18, "9:41", 15, bold=True, paint=WHITE)
    for index in range(4):
        x = 372 + index * 8
        canvas.rect((x, 22 - index * 3, x + 5, 25), WHITE)
    canvas.rect((418, 11, 448, 25), None, radius=4, edge=WHITE, width=1.6)
    canvas.rect((421, 14, 440, 22), WHITE, radius=2)
    canvas.rect((449, 15, 452, 21), WHITE, radius=1)


def _alert(canvas: Canvas, y: float, height: float, text: str) -> None:
    red: RGB = (206, 66, 60)
    canvas.rect((20, y, 460, y + height), (253, 230, 226), radius=10, edge=red, width=1.6)
    middle = y + height / 2
    canvas.polygon([(44, middle - 15), (62, middle + 14), (26 + 2, middle + 14)], red)
    put_text(canvas, 45, middle + 4, "!", 18, bold=True, paint=WHITE, align="center")
    put_block(
        canvas, (78, y + 4, 446, y + height - 4), text, 18,
        max_lines=3, smallest=13, paint=darker(red, 0.3)
    )  # fmt: skip


def _screen_rows(canvas: Canvas, spec: Screen, top: float) -> None:
    height = min(62.0, (612 - top) / len(spec.rows))
    bottom = top + height * len(spec.rows)
    canvas.rect((20, top + 3, 460, bottom + 3), (0, 0, 0, 24), radius=12)
    canvas.rect((20, top, 460, bottom), WHITE, radius=12)
    size = min(19.0, height * 0.42)
    for number, (label, value) in enumerate(spec.rows):
        y = top + number * height
        if number:
            canvas.line([(38, y), (442, y)], HAIRLINE, 1.2)
        used = min(text_width(value, size, bold=True), 240.0) if value else 0.0
        label_width = min(text_width(label, size), 404.0 - 100)
        value_left = max(442 - used - 2, 38 + label_width + 14) if value else 442.0
        value_left = min(value_left, 442 - used * 0.55)
        lines = 2 if height >= 34 else 1
        put_block(
            canvas, (38, y, value_left - 10, y + height), label, size,
            max_lines=lines, paint=SOFT_INK,
        )  # fmt: skip
        if value:
            put_block(
                canvas, (value_left, y, 442.5, y + height), value, size,
                max_lines=lines, bold=True, align="right",
            )  # fmt: skip


def draw_calendar(spec: Calendar) -> Image.Image:
    """A month sheet whose marked days carry a colored note."""
    canvas = Canvas(LANDSCAPE, (236, 232, 226))
    canvas.rect((21, 25, 629, 475), (0, 0, 0, 36), radius=10)
    canvas.rect((16, 18, 624, 468), WHITE, radius=10)
    canvas.rect((16, 18, 624, 70), (200, 72, 66), radius=10)
    canvas.rect((16, 56, 624, 70), (200, 72, 66))
    for ring in range(60, 600, 74):
        canvas.rect((ring, 8, ring + 7, 32), (120, 124, 132), radius=3)
    put_block(canvas, (40, 28, 600, 70), spec.title, 24, bold=True, align="center", paint=WHITE)
    chinese = is_cjk(spec.title + "".join(spec.marked.values()))
    weeks = (spec.first_weekday + spec.days_in_month + 6) // 7
    width, height = 600 / 7, 366 / weeks
    for column, weekday in enumerate(_WEEKDAYS_ZH if chinese else _WEEKDAYS_EN):
        x = 20 + (column + 0.5) * width
        put_text(canvas, x, 84, weekday, 14, bold=True, paint=SOFT_INK, align="center")
    for day in range(1, spec.days_in_month + 1):
        slot = spec.first_weekday + day - 1
        left, top = 20 + slot % 7 * width, 98 + slot // 7 * height
        _day(canvas, (left, top, left + width, top + height), day, spec.marked.get(str(day)))
    return canvas.finish()


def _day(canvas: Canvas, box: Box, day: int, mark: str | None) -> None:
    left, top, right, bottom = box
    canvas.rect((left, top, right - 1, bottom - 1), None, edge=HAIRLINE, width=1)
    if mark:
        canvas.rect((left + 2, top + 2, right - 3, bottom - 3), (255, 226, 170), radius=5)
        canvas.ellipse((left + 4, top + 3, left + 25, top + 24), (200, 72, 66))
        put_block(
            canvas, (left + 4, top + 23, right - 4, bottom - 3), mark, 15,
            max_lines=3, smallest=9, align="center", bold=False,
        )  # fmt: skip
    paint = WHITE if mark else INK
    put_text(canvas, left + 14.5, top + 13.5, str(day), 13, bold=bool(mark), paint=paint,
             align="center")  # fmt: skip


def draw_weather(spec: Weather) -> Image.Image:
    """A forecast: one column with a weather picture for each day."""
    canvas = Canvas(LANDSCAPE, (96, 152, 206))
    canvas.gradient((0, 0, 640, 480), (74, 134, 196), (158, 202, 232))
    put_block(canvas, (30, 24, 610, 84), spec.place, 34, bold=True, align="center", paint=WHITE)
    count = len(spec.days)
    gap = 12.0
    width = min(190.0, (592 - gap * (count - 1)) / count)
    left = (640 - width * count - gap * (count - 1)) / 2
    for day, sky, temperature in spec.days:
        canvas.rect((left, 108, left + width, 440), (255, 255, 255, 222), radius=16)
        put_block(
            canvas, (left + 5, 116, left + width - 5, 164), day, 22,
            bold=True, align="center", max_lines=2,
        )  # fmt: skip
        _sky_picture(Pen(canvas, left + width / 2, 268, min(1.0, width / 128)), sky)
        put_block(
            canvas, (left + 5, 358, left + width - 5, 424), temperature, 26,
            bold=True, align="center", max_lines=2,
        )  # fmt: skip
        left += width + gap
    return canvas.finish()


def _sky_picture(pen: Pen, sky: Sky) -> None:
    blue: RGB = (70, 130, 200)
    if sky == "sun":
        sun_disc(pen, (247, 196, 60), 34)
        return
    if sky == "cloud":
        sun_disc(pen.at(20, 22), (247, 206, 96), 22)
    gray: RGB = (122, 130, 144) if sky == "storm" else (172, 182, 194)
    weather_cloud(pen, lighter(gray, 0.45) if sky in ("cloud", "snow") else gray)
    if sky == "rain":
        for x, y in ((-28, -26), (-6, -26), (16, -26), (-18, -46), (4, -46), (26, -46)):
            pen.line([(x + 4, y), (x - 2, y - 14)], blue, 4)
    elif sky == "snow":
        for x, y in ((-24, -34), (2, -34), (28, -34), (-12, -54), (16, -54)):
            for dx, dy in ((7, 0), (3.5, 6), (3.5, -6)):
                pen.line([(x - dx, y - dy), (x + dx, y + dy)], (104, 160, 214), 2.4)
    elif sky == "storm":
        bolt = [(4, -18), (-16, -48), (-2, -48), (-10, -74), (18, -40), (4, -40), (16, -18)]
        pen.poly(bolt, (246, 194, 46))
