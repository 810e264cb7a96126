"""Maps and floor plans."""

from __future__ import annotations

import random
from itertools import pairwise

from PIL import Image

from ffr_core.dataset.drawing.canvas import LANDSCAPE, Box, Canvas, Pen, Point, smooth
from ffr_core.dataset.drawing.palette import INK, RGB, SOFT_INK, WHITE, darker, lighter
from ffr_core.dataset.drawing.specs import FloorPlan, Map, Place
from ffr_core.dataset.drawing.text import fit_lines, put_block, put_text, text_width

_LAND: RGB = (240, 236, 226)
_STREET: RGB = (255, 255, 255)
_WATER: RGB = (158, 204, 230)
_GREEN: RGB = (196, 222, 178)
_ROUTE: RGB = (50, 110, 220)
_PIN: RGB = (96, 104, 120)
_HIGHLIGHT: RGB = (216, 54, 48)
_TOP = 56.0
_FLOORS: tuple[RGB, ...] = (
    (246, 232, 208), (220, 234, 244), (226, 240, 218), (250, 222, 216), (236, 226, 246),
    (252, 242, 204), (220, 240, 236),
)  # fmt: skip


def draw_map(spec: Map) -> Image.Image:
    """Streets, parks and water; pins with names; the route as a thick blue line."""
    canvas = Canvas(LANDSCAPE, _LAND)
    _ground(canvas, spec)
    spots = {place.name: _spot(place) for place in spec.places}
    if len(spec.route) > 1:
        route = [spots[name] for name in spec.route]
        canvas.line(route, WHITE, 11)
        canvas.line(route, _ROUTE, 7)
        for leg in pairwise(route):
            _arrow(canvas, *leg)
    taken: list[Box] = [(x - 15, y - 34, x + 15, y + 4) for x, y in spots.values()]
    for start, end in pairwise(spec.route):
        (x0, y0), (x1, y1) = spots[start], spots[end]
        for step in range(1, 12):
            x, y = x0 + (x1 - x0) * step / 12, y0 + (y1 - y0) * step / 12
            taken.append((x - 8, y - 8, x + 8, y + 8))
    for place in sorted(spec.places, key=lambda place: (place.name == spec.highlight, place.y)):
        _pin(canvas, spots[place.name], highlighted=place.name == spec.highlight)
    for place in spec.places:
        taken.append(_place_name(canvas, place, taken, place.name == spec.highlight))
    canvas.rect((0, 0, 640, 48), (250, 250, 250))
    canvas.rect((0, 48, 640, 50), (200, 204, 210))
    put_block(canvas, (20, 2, 560, 48), spec.title, 24, bold=True)
    _compass(canvas)
    canvas.rect((0, 0, 640, 480), None, edge=(150, 156, 164), width=2)
    return canvas.finish()


def _spot(place: Place) -> Point:
    return 34 + place.x * 5.72, _TOP + 44 + place.y * 3.56


def _ground(canvas: Canvas, spec: Map) -> None:
    """A street grid with parks; the same title always gives the same town."""
    town = random.Random(spec.title)
    if spec.water:
        shore = [(0.0, 480.0), (0.0, 392.0), (120.0, 412.0), (250.0, 378.0), (400.0, 410.0),
                 (520.0, 384.0), (640.0, 420.0), (640.0, 480.0)]  # fmt: skip
    columns = [60 + 130 * i + town.randint(-26, 26) for i in range(5)]
    rows = [100 + 92 * i + town.randint(-16, 16) for i in range(5)]
    for _ in range(3):
        i, j = town.randrange(4), town.randrange(3)
        box = (columns[i] + 9, rows[j] + 9, columns[i + 1] - 9, rows[j + 1] - 9)
        canvas.rect(box, _GREEN, radius=8)
        for _ in range(5):
            x, y = town.uniform(box[0] + 10, box[2] - 10), town.uniform(box[1] + 10, box[3] - 10)
            canvas.ellipse((x - 6, y - 6, x + 6, y + 6), darker(_GREEN, 0.14))
    for i in range(4):
        for j in range(4):
            if town.random() < 0.5:
                x, y = columns[i] + 14, rows[j] + 12
                canvas.rect((x, y, x + town.randint(26, 60), y + town.randint(20, 46)),
                            (226, 219, 206), radius=2)  # fmt: skip
    for index, x in enumerate(columns):
        _street(canvas, [(x, 40), (x + town.randint(-20, 20), 490)], 13 if index == 2 else 8)
    for index, y in enumerate(rows):
        _street(canvas, [(-10, y), (650, y + town.randint(-18, 18))], 13 if index == 1 else 8)
    if spec.water:
        bank = smooth(shore[1:-1], closed=False)
        canvas.polygon([shore[0], *bank, shore[-1]], _WATER)
        canvas.line(bank, darker(_WATER, 0.1), 2)
        for x, y in ((90, 446), (300, 432), (470, 452), (580, 440), (200, 462)):
            canvas.wave(x, y, 18, lighter(_WATER, 0.5))


def _street(canvas: Canvas, points: list[Point], width: float) -> None:
    canvas.line(points, (222, 216, 204), width + 2.4)
    canvas.line(points, _STREET, width)


def _arrow(canvas: Canvas, start: Point, end: Point) -> None:
    """A white arrow head in the middle of a leg, which shows the direction."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = (dx * dx + dy * dy) ** 0.5
    if length < 60:
        return
    ux, uy = dx / length, dy / length
    x, y = start[0] + dx * 0.52, start[1] + dy * 0.52
    head = [(x + ux * 11, y + uy * 11), (x - ux * 8 - uy * 10, y - uy * 8 + ux * 10),
            (x - ux * 8 + uy * 10, y - uy * 8 - ux * 10)]  # fmt: skip
    canvas.polygon(head, darker(_ROUTE, 0.25))


def _pin(canvas: Canvas, spot: Point, *, highlighted: bool) -> None:
    color = _HIGHLIGHT if highlighted else _PIN
    pen = Pen(canvas, *spot, 1.35 if highlighted else 1.0)
    pen.oval(0, 0, 8, 3, (0, 0, 0, 60))
    pen.poly([(0, 0), (-10, 15), (10, 15)], color)
    pen.disc(0, 20, 11.2, color)
    pen.disc(0, 20, 4.6, WHITE)


def _place_name(
    canvas: Canvas,
    place: Place,
    taken: list[Box],
    highlighted: bool,
) -> Box:
    """Writes the name beside the pin where it covers least, and returns its box."""
    x, y = _spot(place)
    size = 17.0 if highlighted else 15.0
    _, size = fit_lines(place.name, 250, size)
    width, height = text_width(place.name, size, bold=highlighted) + 12, size + 8
    spots = [(x + 15, y - 30), (x - 15 - width, y - 30), (x - width / 2, y + 5),
             (x - width / 2, y - 46 - height / 2)]  # fmt: skip
    boxes = []
    for left, top in spots:
        left, top = min(max(left, 4), 636 - width), min(max(top, 54), 476 - height)
        boxes.append((left, top, left + width, top + height))
    best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
    canvas.rect(best, (255, 255, 255, 226), radius=5)
    color = darker(_HIGHLIGHT, 0.15) if highlighted else INK
    put_text(canvas, best[0] + 6, (best[1] + best[3]) / 2, place.name, size,
             paint=color, bold=highlighted)  # fmt: skip
    return best


def _overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


def _compass(canvas: Canvas) -> None:
    canvas.polygon([(612, 8), (604, 30), (612, 25)], _HIGHLIGHT)
    canvas.polygon([(612, 8), (620, 30), (612, 25)], darker(_HIGHLIGHT, 0.3))
    put_text(canvas, 612, 38, "N", 12, bold=True, paint=SOFT_INK, align="center")


def draw_floor_plan(spec: FloorPlan) -> Image.Image:
    """Rooms as tinted rectangles with thick walls, doors, names and a grid sheet below."""
    canvas = Canvas(LANDSCAPE, (250, 251, 252))
    for x in range(0, 640, 20):
        canvas.line([(x, 54), (x, 480)], (234, 239, 245), 1)
    for y in range(60, 480, 20):
        canvas.line([(0, y), (640, y)], (234, 239, 245), 1)
    put_block(canvas, (28, 6, 612, 52), spec.title, 25, bold=True)
    boxes = []
    for room in spec.rooms:
        left, top = 34 + room.x * 5.72, 64 + room.y * 3.92
        boxes.append((left, top, min(606, left + room.w * 5.72), min(456, top + room.h * 3.92)))
    for number, box in enumerate(boxes):
        canvas.rect(box, _FLOORS[number % len(_FLOORS)])
    for left, top, right, bottom in boxes:
        canvas.rect((left - 3, top - 3, right + 3, bottom + 3), None, edge=INK, width=6)
    hull = (min(b[0] for b in boxes), min(b[1] for b in boxes),
            max(b[2] for b in boxes), max(b[3] for b in boxes))  # fmt: skip
    for room, box in zip(spec.rooms, boxes, strict=True):
        left, top, right, bottom = box
        _door(canvas, box)
        _windows(canvas, box, hull)
        lines = 3 if bottom - top > 64 else 2 if bottom - top > 40 else 1
        put_block(
            canvas, (left + 8, top + 6, right - 8, bottom - 6), room.name, 19,
            max_lines=lines, smallest=9, bold=True, align="center",
        )  # fmt: skip
    return canvas.finish()


def _door(canvas: Canvas, box: Box) -> None:
    """An opening with its swing, at the lower left corner of a room that has space for one."""
    left, top, right, bottom = box
    width = min(34.0, (right - left) * 0.34, (bottom - top) * 0.4)
    if width < 14:
        return
    x = left + 12
    canvas.rect((x, bottom - 3.4, x + width, bottom + 3.4), (250, 251, 252))
    pen = Pen(canvas, x, bottom)
    canvas.line([(x, bottom), (x, bottom - width)], SOFT_INK, 2)
    pen.line(pen.arc(0, 0, width, width, 0, 90), SOFT_INK, 1.2)


def _windows(
    canvas: Canvas,
    box: Box,
    hull: Box,
) -> None:
    """Panes in the upper and side walls that face outward."""
    left, top, right, bottom = box
    pane: RGB = (150, 206, 238)
    half = min(44.0, (right - left) * 0.26)
    if top - hull[1] < 2 and half > 10:
        middle = (left + right) / 2
        canvas.rect((middle - half, top - 3, middle + half, top + 3), WHITE, edge=INK, width=1)
        canvas.rect((middle - half, top - 1.2, middle + half, top + 1.2), pane)
    half = min(44.0, (bottom - top) * 0.26)
    middle = (top + bottom) / 2
    for x, edge in ((left, hull[0]), (right, hull[2])):
        if abs(x - edge) < 2 and half > 10:
            canvas.rect((x - 3, middle - half, x + 3, middle + half), WHITE, edge=INK, width=1)
            canvas.rect((x - 1.2, middle - half, x + 1.2, middle + half), pane)
