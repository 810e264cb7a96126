"""Text that fits: shrunk first, then wrapped, refused when it still does not fit."""

from __future__ import annotations

import math
from typing import Literal

from ffr_core.dataset.drawing.canvas import SCALE, Box, Canvas
from ffr_core.dataset.drawing.fonts import font_for, is_cjk
from ffr_core.dataset.drawing.palette import INK, Paint
from ffr_core.dataset.drawing.specs import SpecError

Align = Literal["left", "center", "right"]
SMALLEST = 11.0
"""Below this many pixels a text is not readable in the picture."""
_LEADING = 1.28


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of one line in pixels of the finished picture."""
    return font_for(text, round(size * SCALE), bold=bold).getlength(text) / SCALE


def put_text(
    canvas: Canvas,
    x: float,
    y: float,
    text: str,
    size: float,
    *,
    paint: Paint = INK,
    bold: bool = False,
    align: Align = "left",
    halo: Paint | None = None,
) -> None:
    """Writes one line whose vertical middle is `y`, on a `halo` where the ground is busy."""
    font = font_for(text, round(size * SCALE), bold=bold)
    anchor = {"left": "lm", "center": "mm", "right": "rm"}[align]
    canvas.draw.text(
        (x * SCALE, y * SCALE),
        text,
        fill=paint,
        font=font,
        anchor=anchor,
        stroke_width=3 * SCALE if halo else 0,
        stroke_fill=halo,
    )


def wrap(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """Breaks `text` into lines of at most `width`, at spaces and between Chinese characters."""
    lines: list[str] = []
    current = ""
    for piece in _pieces(text):
        if current and text_width((current + piece).rstrip(), size, bold=bold) > width:
            lines.append(current.rstrip())
            current = piece.lstrip()
        else:
            current += piece
    return [*lines, current.rstrip()]


def _pieces(text: str) -> list[str]:
    """Unbreakable parts; closing punctuation stays with the character before it."""
    pieces: list[str] = []
    for char in text:
        previous = pieces[-1] if pieces else ""
        breaks = previous.endswith(" ") or (is_cjk(char) or is_cjk(previous[-1:]))
        if not previous or (breaks and char not in " ，。、；：！？）》」”,.;:!?)%"):
            pieces.append(char)
        else:
            pieces[-1] += char
    return pieces


def fit_lines(
    text: str,
    width: float,
    size: float,
    *,
    height: float = math.inf,
    max_lines: int = 1,
    smallest: float = SMALLEST,
    bold: bool = False,
) -> tuple[list[str], float]:
    """The lines and the largest font size up to `size` at which `text` fits.

    Raises:
        SpecError: it does not fit at the smallest readable size.
    """
    current = size
    while current >= min(smallest, size):
        lines = wrap(text, current, width, bold=bold) if max_lines > 1 else [text]
        widest = max(text_width(line, current, bold=bold) for line in lines)
        tall = current * (1 + _LEADING * (len(lines) - 1))
        if len(lines) <= max_lines and widest <= width and tall <= height:
            return lines, current
        current -= 0.5
    raise SpecError(
        f"{text!r} is too long for its {width:.0f} pixels in {max_lines} line(s); shorten it."
    )


def put_block(
    canvas: Canvas,
    box: Box,
    text: str,
    size: float,
    *,
    max_lines: int = 1,
    smallest: float = SMALLEST,
    paint: Paint = INK,
    bold: bool = False,
    align: Align = "left",
) -> float:
    """Writes `text` inside left, top, right, bottom, vertically centered.

    Returns:
        The height used, in pixels.
    """
    left, top, right, bottom = box
    lines, fitted = fit_lines(
        text,
        right - left,
        size,
        height=bottom - top,
        max_lines=max_lines,
        smallest=smallest,
        bold=bold,
    )
    step = fitted * _LEADING
    x = {"left": left, "center": (left + right) / 2, "right": right}[align]
    y = (top + bottom) / 2 - step * (len(lines) - 1) / 2
    for line in lines:
        put_text(canvas, x, y, line, fitted, paint=paint, bold=bold, align=align)
        y += step
    return step * len(lines)
