"""Town settings: city, street, market and station."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Canvas, Pen
from ffr_core.dataset.drawing.ground import heaven, leaves
from ffr_core.dataset.drawing.objects.nature import tree
from ffr_core.dataset.drawing.palette import GLASS, RGB, SNOW, WHITE, darker, lighter
from ffr_core.dataset.drawing.specs import Season


def _skyline(canvas: Canvas, base: float, *, light: bool) -> None:
    """A row of high buildings with lit or sky-colored windows."""
    heights = (150, 214, 120, 186, 240, 134, 200, 160)
    tints: tuple[RGB, ...] = ((164, 178, 200), (186, 172, 178), (150, 170, 184), (196, 186, 168))
    x = 0.0
    for index, height in enumerate(heights):
        width = 70.0 + index * 13 % 28
        color = tints[index % 4] if light else darker(tints[index % 4], 0.72)
        canvas.rect((x, base - height, x + width, base), color)
        glass = lighter(color, 0.42) if light else (250, 214, 120)
        for row in range(int(height // 24)):
            for column in range(int(width // 20)):
                if not light and (row * 7 + column * 5 + index * 3) % 4:
                    continue
                left, top = x + 9 + column * 19, base - height + 10 + row * 24
                canvas.rect((left, top, left + 9, top + 12), glass)
        x += width + 2


def city(canvas: Canvas, season: Season | None) -> None:
    """A skyline behind a square."""
    heaven(canvas, 324, season, clouds=1)
    _skyline(canvas, 312, light=True)
    green = leaves(season)
    for x in range(20, 640, 86):
        tree(Pen(canvas, x, 330, 0.32), green[x % 2])
    pavement = SNOW if season == "winter" else (208, 206, 204)
    canvas.rect((0, 322, 640, 480), pavement)
    canvas.rect((0, 322, 640, 330), darker(pavement, 0.16))
    for y in (358, 396, 440):
        canvas.line([(0, y), (640, y)], darker(pavement, 0.07), 1.6)
    for x in range(-400, 1100, 120):
        canvas.line([(320 + (x - 320) * 0.45, 330), (x, 480)], darker(pavement, 0.07), 1.6)


def street(canvas: Canvas, season: Season | None) -> None:
    """Town houses and shops along a road with a sidewalk."""
    heaven(canvas, 320, season, clouds=1)
    walls: tuple[RGB, ...] = ((232, 200, 160), (206, 142, 122), (196, 206, 214), (236, 220, 190))
    for index, color in enumerate(walls):
        x = index * 162.0 - 4
        top = (96, 70, 108, 84)[index]
        canvas.rect((x, top, x + 160, 322), color)
        roof = SNOW if season == "winter" else darker(color, 0.4)
        canvas.rect((x - 2, top - 10, x + 162, top + 4), roof)
        for row in range(2):
            for column in range(3):
                left, upper = x + 18 + column * 46, top + 22 + row * 64
                canvas.rect((left - 3, upper - 3, left + 31, upper + 43), WHITE)
                canvas.rect((left, upper, left + 28, upper + 40), darker(GLASS, 0.12))
        _shop_front(
            canvas, x, ((196, 80, 72), (70, 140, 120), (84, 110, 170), (220, 160, 70))[index]
        )
    sidewalk = SNOW if season == "winter" else (214, 210, 204)
    canvas.rect((0, 318, 640, 366), sidewalk)
    for x in range(0, 640, 54):
        canvas.line([(x + 10, 318), (x - 8, 366)], darker(sidewalk, 0.08), 1.6)
    canvas.rect((0, 362, 640, 370), darker(sidewalk, 0.25))
    road: RGB = (186, 192, 200) if season == "winter" else (120, 124, 132)
    canvas.rect((0, 370, 640, 480), road)
    for x in range(14, 640, 92):
        canvas.rect((x, 424, x + 50, 430), (244, 242, 232))


def _shop_front(canvas: Canvas, x: float, awning: RGB) -> None:
    canvas.rect((x + 10, 246, x + 150, 318), (112, 92, 84))
    canvas.rect((x + 16, 262, x + 100, 310), lighter(GLASS, 0.1))
    canvas.rect((x + 110, 256, x + 142, 318), (88, 70, 64))
    canvas.rect((x + 114, 262, x + 138, 300), lighter(GLASS, 0.1))
    for index in range(10):
        left = x + 6 + index * 14.8
        paint = awning if index % 2 == 0 else (250, 246, 238)
        canvas.polygon(
            [(left + 1.5, 230), (left + 13.5, 230), (left + 14.8, 254), (left, 254)], paint
        )


def market(canvas: Canvas, season: Season | None) -> None:
    """Three stalls with striped roofs and crates of produce."""
    heaven(canvas, 200, season, clouds=1)
    canvas.rect((0, 150, 640, 310), (226, 212, 194))
    for x in range(20, 640, 74):
        canvas.rect((x, 160, x + 36, 204), (206, 190, 172))
    ground = SNOW if season == "winter" else (212, 196, 176)
    canvas.rect((0, 306, 640, 480), ground)
    for row, y in enumerate((330, 360, 396, 438)):
        for x in range(-20 + row % 2 * 36, 640, 72):
            canvas.rect((x, y, x + 60, y + 16 + row * 4), darker(ground, 0.05), radius=6)
    fruit: tuple[RGB, ...] = ((216, 66, 56), (246, 156, 54), (110, 170, 80), (250, 208, 80),
                              (140, 84, 150), (190, 214, 96))  # fmt: skip
    for index, awning in enumerate(((204, 72, 66), (64, 130, 170), (86, 154, 96))):
        _stall(canvas, 14 + index * 210, awning, [fruit[(index * 2 + i) % 6] for i in range(3)])


def _stall(canvas: Canvas, x: float, awning: RGB, crates: list[RGB]) -> None:
    for post in (x + 8, x + 184):
        canvas.rect((post, 150, post + 7, 318), (140, 104, 76))
    canvas.rect((x, 262, x + 198, 318), (176, 132, 92))
    for number, fruit in enumerate(crates):
        left = x + 6 + number * 64
        canvas.rect((left, 240, left + 58, 264), (206, 164, 116))
        for piece in range(5):
            middle = left + 7 + piece * 11
            canvas.ellipse((middle - 7, 230, middle + 7, 244), fruit)
    for stripe in range(9):
        left = x - 6 + stripe * 23.4
        right = left + 23.4
        paint = awning if stripe % 2 == 0 else (250, 246, 238)
        canvas.polygon([(left + 4, 116), (right, 116), (right, 160), (left, 160)], paint)
        canvas.pie((left, 149, right, 171), 0, 180, paint)


def station(canvas: Canvas, season: Season | None) -> None:
    """A railway platform with a roof, a clock, a track and a safety line."""
    heaven(canvas, 230, season, clouds=1)
    canvas.rect((0, 120, 640, 306), (214, 196, 176))
    for x in range(24, 640, 104):
        canvas.rect((x, 160, x + 62, 276), WHITE)
        canvas.rect((x + 4, 164, x + 58, 276), darker(GLASS, 0.08))
        canvas.line([(x + 31, 164), (x + 31, 276)], WHITE, 3)
    canvas.polygon([(0, 76), (640, 76), (640, 120), (0, 120)], (104, 120, 138))
    for x in range(0, 640, 32):
        canvas.line([(x, 78), (x, 118)], (122, 138, 156), 2)
    for x in (96, 320, 544):
        canvas.rect((x - 6, 118, x + 6, 330), (84, 96, 112))
    canvas.rect((246, 128, 394, 160), (34, 62, 120), radius=4)
    for x, y in ((262, 139), (262, 149)):
        canvas.line([(x, y), (x + (90 if y == 139 else 60), y)], (250, 210, 100), 3.4)
    canvas.ellipse((362, 132, 386, 156), WHITE)
    canvas.line([(374, 144), (374, 136)], (40, 40, 50), 2)
    canvas.line([(374, 144), (380, 147)], (40, 40, 50), 2)
    platform = SNOW if season == "winter" else (204, 202, 200)
    canvas.rect((0, 306, 640, 420), platform)
    canvas.rect((0, 396, 640, 406), (246, 204, 76))
    canvas.rect((0, 412, 640, 424), darker(platform, 0.3))
    canvas.rect((0, 424, 640, 480), (132, 124, 118))
    for x in range(-10, 660, 46):
        canvas.polygon([(x + 8, 432), (x + 28, 432), (x + 22, 472), (x, 472)], (104, 82, 66))
    for y in (440, 462):
        canvas.rect((0, y, 640, y + 5), (186, 190, 196))
