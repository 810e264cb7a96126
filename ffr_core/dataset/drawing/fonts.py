"""Finding the fonts: DejaVu for Latin text, Noto Sans CJK for Chinese."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

from ffr_core.dataset.drawing.specs import SpecError
from ffr_core.errors import NotFoundError

_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("/Library/Fonts"),
    Path.home() / ".local/share/fonts",
    Path.home() / "Library/Fonts",
)
_LATIN = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_CJK = {False: "NotoSansCJK-Regular.ttc", True: "NotoSansCJK-Bold.ttc"}
_SIMPLIFIED_CHINESE = 2
"""Face of the Noto collection: 0 Japanese, 1 Korean, 2 Simplified Chinese."""


class FontMissingError(NotFoundError):
    """A needed font is not installed on this machine."""


def is_cjk(text: str) -> bool:
    """Whether any character needs the Chinese font (ideographs, kana, full-width signs)."""
    return any(0x2E80 <= ord(c) <= 0x9FFF or 0xF900 <= ord(c) <= 0xFFEF for c in text)


@cache
def font_for(text: str, size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that has every glyph of `text`, in pixels of the enlarged canvas.

    Raises:
        FontMissingError: the font is not installed.
        SpecError: a character (an emoji, say) is in neither font.
    """
    font = _load(is_cjk(text), size, bold)
    for char in text:
        if not _has_glyph(is_cjk(text), char):
            raise SpecError(
                f"{text!r} has {char!r} (U+{ord(char):04X}), which {font.getname()[0]} "
                "cannot draw; remove it or write it in words."
            )
    return font


@cache
def _load(cjk: bool, size: int, bold: bool) -> ImageFont.FreeTypeFont:
    path = _find((_CJK if cjk else _LATIN)[bold])
    return ImageFont.truetype(str(path), size, index=_SIMPLIFIED_CHINESE if cjk else 0)


@cache
def _find(name: str) -> Path:
    for folder in _FOLDERS:
        for path in sorted(folder.rglob(name)) if folder.is_dir() else []:
            return path
    package = "fonts-noto-cjk" if "CJK" in name else "fonts-dejavu"
    reason = "no font has CJK glyphs" if "CJK" in name else "no Latin font is there"
    raise FontMissingError(
        f"{name} is not in {', '.join(map(str, _FOLDERS))}, so {reason}; "
        f"install it (Debian: apt-get install {package})."
    )


@cache
def _has_glyph(cjk: bool, char: str) -> bool:
    """Compares with the box that the font draws for a character it lacks."""
    if char.isspace():
        return True
    font = _load(cjk, 24, False)
    return bytes(font.getmask(char)) != bytes(font.getmask("\U0010fffe"))
