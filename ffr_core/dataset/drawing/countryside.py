"""Country settings, quiet enough to leave the stage to the objects."""

from __future__ import annotations

import random

from ffr_core.dataset.drawing.canvas import Canvas, Pen, Point, smooth
from ffr_core.dataset.drawing.ground import WIDTH, grass, ground_marks, heaven, hill, leaves
from ffr_core.dataset.drawing.objects.nature import fir, tree
from ffr_core.dataset.drawing.palette import RGB, WHITE, clear, darker, lighter, mix
from ffr_core.dataset.drawing.specs import Season

_SEA: RGB = (92, 172, 206)


def beach(canvas: Canvas, season: Season | None) -> None:
    """Sky, sea with waves, and sand."""
    heaven(canvas, 210, season)
    canvas.gradient((0, 200, WIDTH, 320), darker(_SEA, 0.06), lighter(_SEA, 0.25), 5)
    for crest in ((90, 226), (300, 238), (540, 222), (190, 262), (440, 266), (600, 250)):
        canvas.wave(*crest, 26, (214, 236, 244))
    shore: list[Point] = [(0, 300), (110, 312), (240, 294), (380, 314), (520, 298), (640, 312)]
    hill(canvas, [(x, y - 7) for x, y in shore], (240, 248, 250))
    sand = (240, 240, 240) if season == "winter" else (244, 222, 172)
    hill(canvas, shore, sand)
    spots = random.Random(5)
    for _ in range(46):
        x, y = spots.uniform(0, 640), spots.uniform(328, 474)
        canvas.ellipse((x - 1.8, y - 1.2, x + 1.8, y + 1.2), darker(sand, 0.12))
    for x, y in ((60, 440), (590, 392)):
        canvas.pie((x - 11, y - 9, x + 11, y + 13), 180, 360, (246, 176, 160))


def mountain(canvas: Canvas, season: Season | None) -> None:
    """Snow-capped peaks behind an alpine meadow."""
    heaven(canvas, 300, season)
    far, near = (156, 172, 194), (122, 140, 166)
    canvas.polygon([(-40, 320), (120, 120), (230, 240), (300, 180), (420, 330)], far)
    canvas.polygon([(120, 120), (84, 165), (108, 158), (124, 176), (140, 158), (158, 162)], WHITE)
    canvas.polygon([(200, 330), (390, 70), (500, 200), (560, 150), (690, 330)], near)
    canvas.polygon([(390, 70), (340, 138), (364, 130), (386, 154), (408, 132), (444, 134)], WHITE)
    canvas.polygon([(560, 150), (530, 175), (552, 172), (564, 186), (586, 184)], WHITE)
    canvas.polygon(
        [(390, 70), (500, 200), (470, 330), (420, 330), (408, 132)], clear((60, 70, 100), 0.12)
    )
    ground = grass(season)
    hill(canvas, [(0, 306), (150, 290), (330, 312), (500, 292), (640, 308)], darker(ground, 0.1))
    for x, size in ((30, 0.42), (70, 0.5), (112, 0.38), (520, 0.44), (560, 0.52), (606, 0.46)):
        fir(Pen(canvas, x, 318, size), (190, 208, 214) if season == "winter" else (84, 134, 104))
    hill(canvas, [(0, 330), (200, 318), (420, 334), (640, 320)], ground)
    ground_marks(canvas, 330, season)


def park(canvas: Canvas, season: Season | None) -> None:
    """A lawn with a path and trees."""
    heaven(canvas, 270, season)
    green, other = leaves(season)
    ground = grass(season)
    hill(
        canvas, [(0, 236), (130, 216), (300, 240), (480, 214), (640, 236)], mix(green, ground, 0.4)
    )
    for x, size, paint in ((50, 0.62, green), (120, 0.5, other), (214, 0.44, green),
                           (430, 0.46, other), (520, 0.56, green), (604, 0.66, other)):  # fmt: skip
        tree(Pen(canvas, x, 286, size), paint)
    hill(canvas, [(0, 276), (220, 266), (430, 280), (640, 268)], ground)
    path = (224, 228, 234) if season == "winter" else (232, 214, 176)
    left = smooth([(372, 272), (352, 310), (250, 370), (60, 480)], closed=False)
    right = smooth([(388, 272), (392, 312), (356, 376), (300, 480)], closed=False)
    canvas.polygon([*left, *reversed(right)], path)
    ground_marks(canvas, 290, season)


def forest(canvas: Canvas, season: Season | None) -> None:
    """Rows of trunks and firs around a clearing."""
    green, other = leaves(season)
    canvas.gradient((0, 0, WIDTH, 320), lighter(green, 0.55), lighter(green, 0.3), 5)
    for x in range(10, 660, 58):
        fir(Pen(canvas, x, 300 + x % 3 * 4, 1.25), mix(green, (210, 226, 214), 0.34))
    far, close = (88, 148, 100), (70, 128, 88)
    if season == "winter":
        far, close = (150, 178, 178), (124, 156, 158)
    for x, size in ((-6, 1.9), (84, 1.6), (560, 1.66), (646, 1.95)):
        if season == "autumn":
            tree(Pen(canvas, x, 344, size * 0.9), green if size < 1.8 else other)
        else:
            fir(Pen(canvas, x, 344, size), far)
    ground = mix(grass(season), (120, 140, 84), 0.0 if season == "winter" else 0.35)
    hill(canvas, [(0, 318), (200, 306), (440, 318), (640, 306)], ground)
    for x, size in ((20, 2.1), (628, 2.15)):
        fir(Pen(canvas, x, 384, size), close)
    ground_marks(canvas, 330, season)


def lake(canvas: Canvas, season: Season | None) -> None:
    """A lake between wooded hills, with a near bank."""
    heaven(canvas, 230, season)
    green, other = leaves(season)
    hill(
        canvas,
        [(0, 190), (120, 150), (280, 196), (430, 140), (640, 194)],
        mix(green, (170, 190, 210), 0.55),
    )
    hill(canvas, [(0, 216), (180, 200), (340, 220), (520, 196), (640, 214)], mix(green, other, 0.5))
    water = (196, 216, 230) if season == "winter" else (112, 176, 212)
    canvas.gradient((0, 226, WIDTH, 440), lighter(water, 0.24), water, 8)
    glints = ((110, 250, 46), (380, 262, 60), (560, 290, 44), (220, 306, 56), (470, 334, 60))
    for x, y, half in glints:
        canvas.line([(x - half, y), (x + half, y)], lighter(water, 0.55), 2.6)
    hill(
        canvas,
        [(0, 392), (160, 404), (330, 420), (500, 402), (640, 388)],
        darker(grass(season), 0.14),
    )
    hill(canvas, [(0, 400), (160, 412), (330, 428), (500, 410), (640, 396)], grass(season))
    for x in (24, 40, 600, 616, 628):
        canvas.line([(x, 410), (x - 3, 356)], (120, 150, 92), 3)
        canvas.rect((x - 6, 352, x, 374), (132, 92, 60), radius=3)
    ground_marks(canvas, 410, season)


def garden(canvas: Canvas, season: Season | None) -> None:
    """A lawn before a hedge, with flower beds."""
    heaven(canvas, 230, season)
    green, _ = leaves(season)
    hedge = darker(green, 0.06)
    canvas.rect((0, 196, 640, 300), hedge)
    for x in range(-6, 660, 40):
        canvas.ellipse((x - 28, 174, x + 28, 224), hedge)
        canvas.ellipse((x - 20, 214, x + 4, 232), lighter(hedge, 0.14))
    canvas.rect((0, 288, 640, 480), grass(season))
    canvas.rect((0, 286, 640, 318), (236, 240, 244) if season == "winter" else (146, 108, 80))
    petals: tuple[RGB, ...] = ((232, 96, 110), (250, 204, 84), (176, 128, 206), (250, 250, 246))
    for index, x in enumerate(range(14, 640, 34)):
        if season == "winter":
            canvas.ellipse((x - 16, 286, x + 16, 312), WHITE)
            continue
        y = 290 + index % 3 * 6
        canvas.line([(x, y), (x, y + 16)], (84, 144, 82), 2.4)
        canvas.ellipse((x - 8, y - 9, x + 8, y + 7), petals[index % 4])
        canvas.ellipse((x - 3, y - 4, x + 3, y + 2), (250, 214, 110) if index % 4 != 1 else WHITE)
    ground_marks(canvas, 320, season)


def night_sky(canvas: Canvas, season: Season | None) -> None:
    """Stars over dark hills."""
    canvas.gradient((0, 0, WIDTH, 380), (18, 24, 58), (58, 66, 116), 9)
    spots = random.Random(2)
    for index in range(90):
        x, y, r = spots.uniform(0, 640), spots.uniform(0, 320), spots.uniform(0.8, 2.0)
        if index % 12 == 0:
            for dx, dy in ((6, 0), (0, 6)):
                canvas.line([(x - dx, y - dy), (x + dx, y + dy)], (250, 246, 220), 1.4)
            r = 2.4
        canvas.ellipse((x - r, y - r, x + r, y + r), (250, 246, 220))
    white = season == "winter"
    hill(canvas, [(0, 340), (140, 300), (300, 344), (470, 296), (640, 336)],
          (96, 108, 150) if white else (34, 44, 78))  # fmt: skip
    for x, size in ((40, 0.6), (76, 0.8), (560, 0.76), (604, 0.6)):
        fir(Pen(canvas, x, 378, size), (74, 88, 130) if white else (28, 38, 66))
    hill(canvas, [(0, 372), (220, 360), (430, 376), (640, 362)],
          (150, 164, 196) if white else (46, 62, 84))  # fmt: skip
