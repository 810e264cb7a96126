"""Indoor settings: wall and floor, a few fixtures, and the plain studio."""

from __future__ import annotations

from ffr_core.dataset.drawing.canvas import Canvas, Pen
from ffr_core.dataset.drawing.objects.home import window
from ffr_core.dataset.drawing.palette import COLORS, GLASS, METAL, RGB, WHITE, darker, lighter
from ffr_core.dataset.drawing.specs import Season

_BASE = 312.0
"""Where the wall meets the floor."""


def _room(canvas: Canvas, wall: RGB, floor: RGB, *, planks: bool) -> None:
    canvas.rect((0, 0, 640, _BASE), wall)
    canvas.rect((0, _BASE, 640, 480), floor)
    line = darker(floor, 0.1)
    if planks:
        for y in (338, 368, 402, 440):
            canvas.line([(0, y), (640, y)], line, 1.6)
        for index, x in enumerate((60, 250, 470, 150, 380, 560, 40, 300, 520, 180, 430)):
            top, bottom = ((_BASE, 338), (338, 368), (368, 402), (402, 440))[index % 4]
            canvas.line([(x, top), (x - (320 - x) * 0.06, bottom)], line, 1.6)
    else:
        for y in (332, 356, 386, 424):
            canvas.line([(0, y), (640, y)], line, 1.6)
        for x in range(-500, 1200, 110):
            canvas.line([(320 + (x - 320) * 0.5, _BASE), (x, 480)], line, 1.6)
    canvas.rect((0, _BASE - 10, 640, _BASE), lighter(wall, 0.55))
    canvas.rect((0, _BASE - 1, 640, _BASE + 3), darker(floor, 0.22))


def living_room(canvas: Canvas, season: Season | None) -> None:
    """A warm wall, a wooden floor, a curtained window."""
    _room(canvas, (240, 226, 206), (206, 162, 118), planks=True)
    _curtained_window(canvas, 524, season, (214, 132, 104))


def bedroom(canvas: Canvas, season: Season | None) -> None:
    """A cool quiet wall, a wooden floor, a curtained window."""
    _room(canvas, (214, 222, 236), (214, 180, 142), planks=True)
    _curtained_window(canvas, 112, season, (150, 146, 196))


def _curtained_window(canvas: Canvas, x: float, season: Season | None, curtain: RGB) -> None:
    window(Pen(canvas, x, 226, 1.05), COLORS["white"])
    if season == "winter":
        canvas.rect((x - 50, 186, x + 50, 210), WHITE)
    for side in (-1, 1):
        outer, inner = x + side * 92, x + side * 50
        hem = [(inner + side * 16, 150), (inner + side * 22, 250), (outer, 250)]
        canvas.polygon([(outer, 70), (inner, 70), *hem], curtain)
        for share in (0.3, 0.6):
            fold = outer + (inner - outer) * share
            canvas.line([(fold, 74), (fold + side * 4, 248)], darker(curtain, 0.14), 2)
    canvas.rect((x - 104, 64, x + 104, 71), darker(curtain, 0.45), radius=3)


def kitchen(canvas: Canvas, _season: Season | None) -> None:
    """Tiles, wall cupboards, and a counter with sink and stove."""
    _room(canvas, (240, 240, 232), (206, 204, 198), planks=False)
    for row, y in enumerate(range(146, 232, 22)):
        for x in range(-20 + row % 2 * 22, 640, 44):
            canvas.rect((x, y, x + 42, y + 20), (226, 234, 232), radius=2)
    cupboard: RGB = (136, 172, 166)
    for x in (10, 112, 214, 428, 530):
        canvas.rect((x, 28, x + 98, 136), cupboard, radius=3)
        canvas.rect((x + 8, 36, x + 90, 128), lighter(cupboard, 0.14), radius=3)
        canvas.rect((x + 44, 116, x + 56, 121), METAL, radius=2)
    canvas.polygon([(336, 20), (404, 20), (418, 108), (322, 108)], METAL)
    canvas.rect((316, 104, 424, 126), darker(METAL, 0.14), radius=3)
    canvas.rect((0, 236, 640, 326), cupboard)
    for x in range(6, 640, 106):
        canvas.rect((x, 252, x + 98, 318), lighter(cupboard, 0.14), radius=3)
        canvas.rect((x + 38, 260, x + 60, 265), METAL, radius=2)
    canvas.rect((322, 246, 418, 324), (84, 88, 96), radius=3)
    canvas.rect((334, 266, 406, 312), (48, 50, 58), radius=4)
    canvas.rect((0, 228, 640, 244), (190, 150, 112))
    canvas.rect((322, 224, 418, 231), (60, 62, 70), radius=2)
    canvas.rect((128, 226, 206, 232), darker(METAL, 0.2), radius=2)
    canvas.line([(166, 226), (166, 196), (188, 196), (188, 208)], darker(METAL, 0.25), 5)


def office(canvas: Canvas, _season: Season | None) -> None:
    """A window front, a pin board and a carpet."""
    _room(canvas, (226, 230, 234), (164, 174, 188), planks=False)
    for x in (26, 168, 310):
        canvas.rect((x, 40, x + 134, 230), WHITE)
        canvas.rect((x + 6, 46, x + 128, 224), GLASS)
        canvas.rect((x + 20, 120, x + 52, 224), (160, 184, 206))
        canvas.rect((x + 58, 90, x + 92, 224), (148, 172, 196))
        canvas.rect((x + 98, 146, x + 126, 224), (166, 190, 210))
    for y in range(46, 84, 7):
        canvas.line([(30, y), (440, y)], (246, 248, 250), 3)
    canvas.rect((474, 60, 618, 180), (150, 116, 84), radius=3)
    canvas.rect((482, 68, 610, 172), (220, 190, 148))
    for x, y, paint in ((494, 78, "yellow"), (536, 84, "white"), (574, 76, "pink"),
                        (500, 126, "white"), (546, 130, "teal")):  # fmt: skip
        canvas.rect((x, y, x + 30, y + 34), COLORS[paint])
        canvas.ellipse((x + 12, y - 2, x + 18, y + 4), COLORS["red"])


def studio(canvas: Canvas, _season: Season | None) -> None:
    """A plain seamless backdrop, for product pictures."""
    canvas.gradient((0, 0, 640, 330), (232, 236, 240), (242, 244, 246), 4)
    canvas.gradient((0, 330, 640, 480), (230, 233, 237), (220, 224, 229), 4)
