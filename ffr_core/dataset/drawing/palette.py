"""The fourteen named colors and the mixing of them."""

from __future__ import annotations

import zlib

RGB = tuple[int, int, int]
Paint = RGB | tuple[int, int, int, int]

COLORS: dict[str, RGB] = {
    "red": (214, 58, 52),
    "orange": (240, 140, 46),
    "yellow": (247, 205, 64),
    "green": (78, 160, 82),
    "blue": (58, 122, 204),
    "purple": (134, 84, 178),
    "pink": (240, 140, 176),
    "brown": (134, 88, 56),
    "black": (46, 46, 52),
    "white": (248, 247, 243),
    "gray": (146, 150, 156),
    "teal": (38, 148, 146),
    "navy": (36, 54, 104),
    "beige": (226, 202, 164),
}

INK: RGB = (48, 50, 58)
SOFT_INK: RGB = (112, 116, 126)
HAIRLINE: RGB = (218, 220, 224)
PAPER: RGB = (253, 252, 248)
WOOD: RGB = (176, 124, 80)
METAL: RGB = (176, 182, 190)
GLASS: RGB = (190, 222, 238)
LEAF: RGB = (98, 166, 92)
SNOW: RGB = (246, 249, 252)
WHITE: RGB = (255, 255, 255)

SERIES: tuple[RGB, ...] = (
    (72, 126, 190), (238, 150, 76), (96, 168, 110), (208, 88, 92), (146, 112, 186),
    (90, 178, 184), (226, 190, 80), (168, 128, 100), (222, 136, 178), (130, 140, 150),
    (60, 92, 140), (160, 196, 96),
)  # fmt: skip


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """The color `share` (0 to 1) of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(color: RGB, share: float = 0.25) -> RGB:
    """`color` in shadow."""
    return mix(color, (24, 22, 40), share)


def lighter(color: RGB, share: float = 0.3) -> RGB:
    """`color` in light."""
    return mix(color, WHITE, share)


def clear(color: RGB, alpha: float) -> tuple[int, int, int, int]:
    """`color` with opacity `alpha` between 0 and 1."""
    return (*color, round(255 * alpha))


def contrast(color: RGB) -> RGB:
    """Black or white ink, whichever reads on `color`."""
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE


def readable(color: RGB) -> RGB:
    """`color` dark enough for text on paper."""
    return darker(color, 0.5 if contrast(color) == INK else 0.15)


def outline(color: RGB) -> RGB:
    """An edge for `color`: darker for light colors, lighter for near-black ones."""
    return lighter(color, 0.28) if sum(color) < 190 else darker(color, 0.3)


def tint_for(text: str) -> RGB:
    """A deep color chosen by `text`, so that different apps and tables look different."""
    tints: tuple[RGB, ...] = (
        (66, 116, 182), (44, 132, 120), (124, 92, 168), (190, 92, 74), (70, 86, 120),
        (60, 138, 84), (176, 84, 128),
    )  # fmt: skip
    return tints[zlib.crc32(text.encode()) % len(tints)]
