"""The drawing surface: an enlarged image in final-pixel coordinates, and pens upon it.

`Canvas` has its origin at the top left, y downward, in pixels of the finished picture. `Pen` has
its origin at an object's foot, y upward, so that an object is written once and drawn anywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ffr_core.dataset.drawing.palette import RGB, Paint, mix

SCALE = 3
"""The picture is drawn this many times too large and scaled down, which smooths its edges."""
LANDSCAPE = (640, 480)
PORTRAIT = (480, 640)

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Canvas:
    """An image under construction; all measures in pixels of the finished picture."""

    def __init__(self, size: tuple[int, int], background: RGB) -> None:
        """Starts an image of `size` (width, height) in one color."""
        self.width, self.height = size
        self._image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), background)
        # Mode RGBA on an RGB image blends translucent paint instead of replacing pixels.
        self.draw = ImageDraw.Draw(self._image, "RGBA")

    def finish(self) -> Image.Image:
        """The picture in its final size."""
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)

    def rect(
        self,
        box: Box,
        fill: Paint | None,
        *,
        radius: float = 0,
        edge: Paint | None = None,
        width: float = 1,
    ) -> None:
        """Fills (and outlines) the rectangle left, top, right, bottom."""
        left, top, right, bottom = box
        # Pillow refuses inverted boxes; its right and bottom are inclusive.
        scaled = (
            round(min(left, right) * SCALE),
            round(min(top, bottom) * SCALE),
            max(round(max(left, right) * SCALE) - 1, round(min(left, right) * SCALE)),
            max(round(max(top, bottom) * SCALE) - 1, round(min(top, bottom) * SCALE)),
        )
        stroke = max(1, round(width * SCALE)) if edge else 0
        limit = min(scaled[2] - scaled[0], scaled[3] - scaled[1]) / 2
        self.draw.rounded_rectangle(scaled, min(radius * SCALE, limit), fill, edge, stroke)

    def ellipse(
        self,
        box: Box,
        fill: Paint | None,
        *,
        edge: Paint | None = None,
        width: float = 1,
    ) -> None:
        """Fills (and outlines) the ellipse inside left, top, right, bottom."""
        left, top, right, bottom = box
        scaled = (
            min(left, right) * SCALE,
            min(top, bottom) * SCALE,
            max(left, right) * SCALE,
            max(top, bottom) * SCALE,
        )
        self.draw.ellipse(scaled, fill, edge, max(1, round(width * SCALE)) if edge else 0)

    def polygon(self, points: Sequence[Point], fill: Paint) -> None:
        """Fills a closed outline."""
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill)

    def line(self, points: Sequence[Point], paint: Paint, width: float = 1) -> None:
        """Draws a stroke with round joints and ends."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        stroke = max(1, round(width * SCALE))
        self.draw.line(scaled, paint, stroke, joint="curve")
        # Round ends would show twice on translucent strokes, and thin ones do not need them.
        if stroke >= 2 * SCALE and len(paint) == 3:
            for x, y in (scaled[0], scaled[-1]):
                r = (stroke - 1) / 2
                self.draw.ellipse((x - r, y - r, x + r, y + r), paint)

    def pie(self, box: Box, start: float, end: float, fill: Paint) -> None:
        """Fills a sector; degrees clockwise from the right."""
        scaled = tuple(v * SCALE for v in box)
        self.draw.pieslice((scaled[0], scaled[1], scaled[2], scaled[3]), start, end, fill)

    def wave(self, x: float, y: float, half: float, paint: RGB) -> None:
        """Draws a small double wave of 2 x `half` around `x`."""
        heights = (0, -4, 0, -4, 0)
        points = [(x + half * (i - 2) / 2, y + rise) for i, rise in enumerate(heights)]
        self.line(smooth(points, closed=False), paint, 2.2)

    def gradient(self, box: Box, top: RGB, bottom: RGB, steps: int = 14) -> None:
        """Fills with a few flat bands; few, so that the palettised PNG stays small."""
        left, upper, right, lower = box
        for step in range(steps):
            y = upper + (lower - upper) * step / steps
            end = upper + (lower - upper) * (step + 1) / steps
            self.rect((left, y, right, end), mix(top, bottom, step / max(1, steps - 1)))


class Pen:
    """Draws one object around its foot: x to the right, y upward, scaled by `size`."""

    def __init__(self, canvas: Canvas, x: float, y: float, size: float = 1.0) -> None:
        """Puts the origin on the canvas position `x`, `y`."""
        self.canvas, self.x, self.y, self.size = canvas, x, y, size

    def at(self, x: float, y: float, size: float = 1.0) -> Pen:
        """A pen whose origin is the point `x`, `y` of this one."""
        px, py = self.place(x, y)
        return Pen(self.canvas, px, py, self.size * size)

    def place(self, x: float, y: float) -> Point:
        """The canvas position of a point of the object."""
        return self.x + x * self.size, self.y - y * self.size

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: Paint,
        radius: float = 0,
    ) -> None:
        """Fills a rectangle whose lower left corner is `x`, `y`."""
        left, bottom = self.place(x, y)
        right, top = self.place(x + width, y + height)
        self.canvas.rect((left, top, right, bottom), fill, radius=radius * self.size)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Paint) -> None:
        """Fills an ellipse around `x`, `y`."""
        cx, cy = self.place(x, y)
        rx, ry = rx * self.size, ry * self.size
        self.canvas.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill)

    def disc(self, x: float, y: float, radius: float, fill: Paint) -> None:
        """Fills a circle around `x`, `y`."""
        self.oval(x, y, radius, radius, fill)

    def ring(self, x: float, y: float, radius: float, paint: Paint, width: float) -> None:
        """Draws a circle of the outer `radius` around `x`, `y`."""
        cx, cy = self.place(x, y)
        r = radius * self.size
        box = (cx - r, cy - r, cx + r, cy + r)
        self.canvas.ellipse(box, None, edge=paint, width=width * self.size)

    def poly(self, points: Sequence[Point], fill: Paint) -> None:
        """Fills a closed outline."""
        self.canvas.polygon([self.place(x, y) for x, y in points], fill)

    def line(self, points: Sequence[Point], paint: Paint, width: float = 2) -> None:
        """Draws a stroke with round ends."""
        self.canvas.line([self.place(x, y) for x, y in points], paint, width * self.size)

    def blob(self, points: Sequence[Point], fill: Paint) -> None:
        """Fills a smooth closed outline through `points`."""
        self.poly(smooth([*points], closed=True), fill)

    def curve(self, points: Sequence[Point], paint: Paint, width: float = 2) -> None:
        """Draws a smooth stroke through `points`."""
        self.line(smooth([*points], closed=False), paint, width)

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, end: float
    ) -> list[Point]:
        """Points of an elliptic arc, degrees counterclockwise from the right."""
        angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
        return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]

    def shadow(self, width: float, x: float = 0, alpha: int = 46) -> None:
        """Lays a soft shadow of `width` on the ground under the object."""
        for share in (1.0, 0.84):
            r = width / 2 * share
            self.oval(x, 0, r, max(3.0, r * 0.16), (30, 30, 50, alpha // 2))


def barcode(canvas: Canvas, x: float, y: float, width: float, height: float, seed: str) -> None:
    """Draws a made-up bar code; the same `seed` gives the same bars."""
    bars = random.Random(seed)
    right = x + width
    while x < right - 5:
        bar = bars.choice((1.2, 1.2, 2.2, 3.4))
        canvas.rect((x, y, x + bar, y + height), (48, 50, 58))
        x += bar + bars.choice((1.4, 2.2, 3.0))


def smooth(points: list[Point], *, closed: bool, steps: int = 8) -> list[Point]:
    """A Catmull-Rom curve through `points`, as a polyline."""
    count = len(points)
    ring = (
        [points[-1], *points, points[0], points[1 % count]]
        if closed
        else [points[0], *points, points[-1]]
    )
    curve: list[Point] = []
    for i in range(count if closed else count - 1):
        p0, p1, p2, p3 = ring[i : i + 4]
        for step in range(steps):
            t = step / steps
            curve.append((_spline(p0[0], p1[0], p2[0], p3[0], t),
                          _spline(p0[1], p1[1], p2[1], p3[1], t)))  # fmt: skip
    return curve if closed else [*curve, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    cubic = (-a + 3 * b - 3 * c + d) * t**3 + (2 * a - 5 * b + 4 * c - d) * t**2
    return 0.5 * (2 * b + (c - a) * t + cubic)
