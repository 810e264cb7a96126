"""Which images may be opened, and how: roots, size limits, decoding. Chats are not trusted.

An image URI is a local path, `file://` or `s3://bucket/key`. It is opened only below a configured
root, after symbolic links are resolved. `http(s)` URIs are kept as references and never fetched.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import ParseResult, unquote, urlparse

from ffr_core.config import Config
from ffr_core.errors import ForbiddenError, InputError, LimitError, NotFoundError
from ffr_core.storage import s3_errors, s3_place

if TYPE_CHECKING:
    import PIL.Image


class ImageLimits(Config):
    """The `[images]` table of a profile."""

    roots: tuple[str, ...] = ()
    """Folders and `s3://bucket/prefix` URIs below which images may be opened."""
    max_bytes: int = 20_000_000
    """Larger files are refused."""
    max_pixels: int = 50_000_000
    """Larger pictures are refused before they are decoded."""
    max_side: int = 1600
    """Served pictures are scaled down to this many pixels on the longer side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """Opens images within limits."""

    limits: ImageLimits
    s3_endpoint: str | None = None
    """Endpoint of an S3-compatible store; None for AWS."""

    def check_allowed(self, uri: str) -> None:
        """Raise ForbiddenError unless the URI is below a root (`http` references pass)."""
        if not _is_web(uri):
            self._locate(uri)

    def check_readable(self, uri: str) -> None:
        """Check a local image's size and header without decoding it; S3 is checked when opened.

        Raises:
            NotFoundError: No such file.
            LimitError: Too many bytes or pixels.
            InputError: Not an image.
        """
        place = self.local_path(uri)
        if place is not None:
            self._decode(self._read_file(place, uri), uri).close()

    def local_path(self, uri: str) -> Path | None:
        """The place of a local image below a root; None for `s3://` and `http(s)` references."""
        place = None if _is_web(uri) else self._locate(uri)
        return place if isinstance(place, Path) else None

    def open(self, uri: str) -> PIL.Image.Image:
        """Return the decoded picture, RGB and upright, as viewers show it.

        Errors as in `check_readable`, plus ForbiddenError.
        """
        import PIL.ImageOps

        image = self._decode(self._read(uri), uri)
        try:
            return _as_shown(PIL.ImageOps.exif_transpose(image))
        except Exception as error:  # over damaged data a decoder raises whatever it stumbles on
            raise InputError(f"image {uri!r} cannot be decoded: {error}") from error

    def reencoded(self, uri: str) -> bytes:
        """Return the picture as a fresh JPEG, at most `max_side` pixels; drops all metadata."""
        image = self.open(uri)
        image.thumbnail((self.limits.max_side, self.limits.max_side))
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=88)
        return buffer.getvalue()

    def _locate(self, uri: str) -> Path | tuple[str, str]:
        """A resolved path, or (bucket, key), below a root."""
        parsed = _parse(uri)
        if parsed.scheme == "s3":
            bucket, key = s3_place(uri)
            if ".." not in key.split("/"):
                for root in self.limits.roots:
                    if root.startswith("s3://") and uri.startswith(root.rstrip("/") + "/"):
                        return bucket, key
        elif parsed.scheme in ("", "file"):
            path = _resolve(unquote(parsed.path) if parsed.scheme else uri, uri)
            for root in self.limits.roots:
                if "://" not in root and path.is_relative_to(Path(root).expanduser().resolve()):
                    return path
        else:
            raise ForbiddenError(
                f"image URI {uri!r:.200} has the scheme {parsed.scheme!r}; use a path or s3://"
            )
        raise ForbiddenError(
            f"image {uri!r:.200} is outside the configured image roots; add its folder to"
            " [images] roots"
        )

    def _read(self, uri: str) -> bytes:
        if _is_web(uri):
            raise ForbiddenError(f"image {uri!r:.200} is a web reference; it is never fetched")
        place = self._locate(uri)
        if isinstance(place, Path):
            return self._read_file(place, uri)
        import boto3

        bucket, key = place
        with s3_errors(bucket, key):
            client = boto3.client("s3", endpoint_url=self.s3_endpoint)
            answer = client.get_object(Bucket=bucket, Key=key)
            if answer["ContentLength"] > self.limits.max_bytes:
                raise self._too_large(uri, answer["ContentLength"])
            data: bytes = answer["Body"].read()
        return data

    def _read_file(self, path: Path, uri: str) -> bytes:
        try:
            if not path.is_file():
                raise NotFoundError(f"image {uri!r:.200} does not exist; check the path")
            size = path.stat().st_size
            if size > self.limits.max_bytes:
                raise self._too_large(uri, size)
            return path.read_bytes()
        except OSError as error:
            raise InputError(
                f"image {uri!r:.200} cannot be read: {error.strerror}; check the file's rights"
            ) from error

    def _too_large(self, uri: str, size: int) -> LimitError:
        return LimitError(
            f"image {uri!r:.200} has {size} bytes, at most {self.limits.max_bytes} are allowed"
        )

    def _decode(self, data: bytes, uri: str) -> PIL.Image.Image:
        import PIL.Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
                image = PIL.Image.open(io.BytesIO(data))
        except PIL.Image.DecompressionBombError as error:
            raise LimitError(f"image {uri!r:.200} is a decompression bomb: {error}") from error
        except Exception as error:  # as in `open`; NotImplementedError for unknown forms too
            raise InputError(f"{uri!r:.200} is not an image that can be read: {error}") from error
        if image.width * image.height > self.limits.max_pixels:
            raise LimitError(
                f"image {uri!r:.200} has {image.width} x {image.height} pixels, at most"
                f" {self.limits.max_pixels} are allowed"
            )
        return image


def _as_shown(image: PIL.Image.Image) -> PIL.Image.Image:
    """RGB: transparent parts on white, 16 bits a pixel scaled to 8 (Pillow alone cuts them off)."""
    import PIL.Image

    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = image.convert("RGBA")
    white = PIL.Image.new("RGBA", pixels.size, "white")
    return PIL.Image.alpha_composite(white, pixels).convert("RGB")


def _parse(uri: str) -> ParseResult:
    try:
        return urlparse(uri)
    except ValueError as error:
        raise InputError(f"image URI {uri!r:.200} is malformed: {error}; correct it") from error


def _is_web(uri: str) -> bool:
    return _parse(uri).scheme in ("http", "https")


def _resolve(path: str, uri: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"image URI {uri!r:.200} names no path: {error}; correct it") from error
