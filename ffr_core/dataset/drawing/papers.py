"""Paper things: the receipt and the handwritten note."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from ffr_core.dataset.drawing.canvas import LANDSCAPE, PORTRAIT, Box, Canvas, barcode
from ffr_core.dataset.drawing.palette import (
    COLORS,
    PAPER,
    RGB,
    SOFT_INK,
    clear,
    darker,
    lighter,
    mix,
)  # fmt: skip
from ffr_core.dataset.drawing.specs import Note, Receipt, SpecError
from ffr_core.dataset.drawing.text import fit_lines, put_block, put_text, text_width

_DESK: RGB = (196, 160, 124)
_PEN_INK: RGB = (44, 58, 110)
_PAPERS: dict[str, RGB] = {
    "yellow": (253, 232, 128),
    "white": (252, 252, 250),
    "blue": (190, 220, 244),
    "pink": (250, 200, 214),
}


def draw_receipt(spec: Receipt) -> Image.Image:
    """A till receipt with a torn edge, on a wooden desk."""
    canvas = Canvas(PORTRAIT, _DESK)
    _wood_grain(canvas)
    room = min(44.0, 380 / (len(spec.lines) + 1))
    if room < 19:
        raise SpecError(f"{spec.name}: {len(spec.lines)} receipt lines; allowed are 1 to 19.")
    height = 178 + room * (len(spec.lines) + 1.3)
    top = max(16.0, (640 - height) / 2)
    bottom = top + height
    _torn_paper(canvas, 70, top, 410, bottom)
    put_block(canvas, (92, top + 14, 388, top + 54), spec.shop, 24, bold=True, align="center")
    put_block(canvas, (92, top + 56, 388, top + 78), spec.date, 15, paint=SOFT_INK, align="center")
    y = top + 92
    _dashes(canvas, 92, 388, y)
    y += 6 + room / 2
    size = min(18.0, room * 0.58)
    for item, price in spec.lines:
        _leader_line(canvas, y, item, price, size, bold=False)
        y += room
    _dashes(canvas, 92, 388, y - room / 2 + 4)
    total = (
        "合计" if any("\u4e00" <= c <= "\u9fff" for c in spec.shop + str(spec.lines)) else "TOTAL"
    )
    _leader_line(canvas, y + 14, total, spec.total, 21, bold=True)
    barcode(canvas, 150, bottom - 58, 180, 32, spec.shop)
    return canvas.finish()


def _leader_line(
    canvas: Canvas, y: float, item: str, price: str, size: float, *, bold: bool
) -> None:
    used = text_width(price, size, bold=bold)
    put_text(canvas, 388, y, price, size, bold=bold, align="right")
    put_block(canvas, (92, y - 15, 376 - used, y + 15), item, size, bold=bold, smallest=9)


def _dashes(canvas: Canvas, left: float, right: float, y: float) -> None:
    for x in range(int(left), int(right), 9):
        canvas.line([(x, y), (x + 5, y)], SOFT_INK, 1.2)


def _torn_paper(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    teeth = [(left + (right - left) * i / 34, bottom + (6 if i % 2 else 0)) for i in range(35)]
    outline = [(left, top), (right, top), *reversed(teeth)]
    canvas.polygon([(x + 7, y + 8) for x, y in outline], clear((40, 24, 10), 0.25))
    canvas.polygon(outline, PAPER)


def _wood_grain(canvas: Canvas) -> None:
    for y in range(0, canvas.height, 80):
        shade = lighter(_DESK, 0.07) if y % 160 else _DESK
        canvas.rect((0, y, canvas.width, y + 78), shade)
        canvas.rect((0, y + 78, canvas.width, y + 80), darker(_DESK, 0.16))


def draw_note(spec: Note) -> Image.Image:
    """A sticky note, a lined sheet or a whiteboard with handwriting."""
    papers: dict[str, Callable[[Canvas, RGB], Box]] = {
        "sticky": _sticky, "lined": _lined, "whiteboard": _whiteboard,
    }  # fmt: skip
    size = LANDSCAPE if spec.style == "whiteboard" else PORTRAIT
    canvas = Canvas(size, (226, 229, 232) if spec.style == "whiteboard" else _DESK)
    if spec.style != "whiteboard":
        _wood_grain(canvas)
    left, top, right, bottom = papers[spec.style](canvas, _PAPERS[spec.paper])
    step = 34.0 if spec.style == "lined" else min(58.0, (bottom - top) / len(spec.lines))
    lines, font = _handwriting(spec, right - left, bottom - top, step)
    if spec.style != "lined":
        step = min(font * 1.75, (bottom - top) / len(lines))
        top += ((bottom - top) - step * len(lines)) / 2
    inks = ((38, 70, 150), (38, 70, 150), (178, 48, 48), (30, 112, 70))
    for number, line in enumerate(lines):
        ink = inks[number % 4] if spec.style == "whiteboard" else _PEN_INK
        put_text(canvas, left, top + step * (number + 0.5), line, font, paint=ink)
    return canvas.finish()


def _handwriting(spec: Note, width: float, height: float, step: float) -> tuple[list[str], float]:
    """The wrapped lines and the largest font at which all of them fit the paper."""
    font = min(36.0 if spec.style == "whiteboard" else 30.0, step * 0.62)
    while font >= 12:
        lines: list[str] = []
        for text in spec.lines:
            lines += fit_lines(text, width, font, max_lines=4, smallest=font)[0]
        needed = step if spec.style == "lined" else font * 1.4
        if needed * len(lines) <= height:
            return lines, font
        font -= 1
    raise SpecError(f"{spec.name}: the {len(spec.lines)} note lines do not fit; shorten them.")


def _sticky(canvas: Canvas, paper: RGB) -> Box:
    shape = [(50.0, 110.0), (430.0, 110.0), (430.0, 530.0), (50.0, 530.0)]
    canvas.polygon([(x + 6, y + 9) for x, y in shape], clear((40, 24, 10), 0.28))
    canvas.polygon(shape, paper)
    canvas.polygon([(50, 110), (430, 110), (430, 146), (50, 146)], darker(paper, 0.05))
    canvas.polygon([(430, 478), (430, 530), (372, 530)], _DESK)
    canvas.polygon([(430, 478), (372, 530), (380, 486)], darker(paper, 0.14))
    return 78, 154, 408, 480


def _lined(canvas: Canvas, paper: RGB) -> Box:
    canvas.rect((47, 28, 449, 628), clear((40, 24, 10), 0.25), radius=4)
    canvas.rect((40, 20, 440, 620), paper, radius=4)
    for row in range(1, 17):
        y = 54 + row * 34
        if y < 612:
            canvas.line([(40, y), (440, y)], mix(paper, (120, 160, 210), 0.5), 1.2)
    canvas.line([(92, 20), (92, 620)], (226, 130, 130), 1.6)
    for y in (90, 320, 550):
        canvas.ellipse((56, y - 9, 74, y + 9), _DESK)
    return 104, 54, 428, 598


def _whiteboard(canvas: Canvas, _paper: RGB) -> Box:
    canvas.rect((24, 20, 616, 436), (150, 156, 164), radius=6)
    canvas.rect((34, 30, 606, 424), (252, 253, 253), radius=2)
    canvas.rect((200, 436, 440, 450), (150, 156, 164), radius=3)
    for x, color in ((220, "red"), (270, "blue"), (320, "green")):
        canvas.rect((x, 428, x + 40, 437), COLORS[color], radius=3)
    canvas.rect((376, 420, 424, 437), (70, 74, 84), radius=2)
    return 66, 44, 580, 414
