"""Attachments: what kind they are, their text form, and pictures checked before they are copied.

Pictures become images of the turn. Everything else stays as text: `[voice message]`,
`[document: plan.pdf]`, `[video: beach.mp4]`; names that say nothing (`IMG-2021-WA0001.mp4`) are
left out of it. Stickers and animated pictures are text too: they are reactions, not evidence.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ffr_core.errors import ForbiddenError, InputError, RecordError
from ffr_core.importers.base import IMAGES, ImportReport, clean
from ffr_core.importers.source import Limits, Source
from ffr_core.importers.text import slug
from ffr_core.types import Image

_KINDS = {
    "image": "jpg jpeg png gif webp bmp tif tiff heic heif",
    "video": "mp4 mov 3gp mkv avi webm m4v",
    "voice message": "opus ogg oga amr silk",
    "audio": "mp3 m4a aac wav flac",
    "sticker": "tgs was",
    "contact": "vcf",
}
_KIND_OF_SUFFIX = {end: kind for kind, ends in _KINDS.items() for end in ends.split()}
_ENDING = re.compile(r"\.[A-Za-z0-9]{2,5}$")
_SAYS_NOTHING = re.compile(
    r"(?<![A-Za-z])(ptt|aud|vid|stk|doc|img|dsc|pxl|photo|image|video|audio|voice|sticker|gif|wa"
    r"|animation|file|screenshot|unknown|attachment)(?![A-Za-z])|\b[0-9a-f]{8,}\b",
    re.I,
)
_FORMATS = {
    "JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",),
    "BMP": (".bmp",), "TIFF": (".tif", ".tiff"),
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Attachment:
    """A file that came with a message."""

    kind: str
    """`image`, or the words of its text form: `video`, `voice message`, `document`, ..."""
    refs: tuple[str, ...] = ()
    """Paths or names in the export, best first; empty when the export was made without the file."""
    name: str | None = None
    """File name or title as its sender knows it."""
    reason: str = "omitted_by_export"
    """Why `refs` is empty; a media reason of `REASONS`."""
    words: bool = False
    """There is no file: a contact, place or poll whose words are in `name`."""

    @property
    def text(self) -> str:
        """`[kind: name]`, without names that say nothing."""
        emoji = self.kind == "sticker" and not _ENDING.search(self.name or "")
        shown = self.name and (self.words or emoji or telling(self.name))
        return f"[{self.kind}: {self.name}]" if shown else f"[{self.kind}]"


def telling(name: str | None) -> bool:
    """Whether a name holds words; `PTT-20211231-WA0001.opus` or `photo_1@31-12-2021.jpg` do not."""
    stem = (name or "").rsplit("/", 1)[-1]
    stem = _ENDING.sub("", stem)
    if len(stem) > 60 and " " not in stem:
        return False
    return bool(re.search(r"[A-Za-z]{2,}|[^\W\d_A-Za-z]", _SAYS_NOTHING.sub("", stem)))


def kind_of(name: str, mime: str = "") -> str:
    """The kind of a file by its MIME type, else by its ending; unknown ones are documents."""
    family = mime.split("/", 1)[0].lower()
    if family in ("image", "video", "audio"):
        return family
    base = name.rsplit("/", 1)[-1]
    if re.match(r"STK-", base):
        return "sticker"
    if re.match(r"PTT-", base):
        return "voice message"
    return _KIND_OF_SUFFIX.get(base.rsplit(".", 1)[-1].lower(), "document")


@dataclass(slots=True, kw_only=True)
class MediaStore:
    """Copies the pictures of one dialogue to `OUT/images/<dialogue>/`."""

    source: Source
    near: str
    """Folder of the chat inside the export."""
    out_dir: Path
    folder: str
    """Folder name of the dialogue below `images/`."""
    report: ImportReport
    _uris: dict[str, str | None] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def image(self, attachment: Attachment, image_id: int) -> Image:
        """The image of a turn; its uri is None when the bytes are missing or refused."""
        uri = self._copy(attachment)
        name = clean(_ENDING.sub("", attachment.name or ""))
        said = uri is not None and name.lower() in uri.lower()  # the uri holds these words already
        return Image(
            image_id=image_id, uri=uri, caption=name if telling(name) and not said else None
        )

    def text(self, attachment: Attachment) -> str:
        """The text form of any other attachment, counted."""
        if not attachment.words and self._find(attachment) is not None:
            self.report.media["kept_as_text"] += 1
        return attachment.text

    def _find(self, attachment: Attachment) -> str | None:
        reason = "file_not_found" if attachment.refs else attachment.reason
        for ref in attachment.refs:
            # of a path on the machine that exported, the name alone may be in the export
            for form in (ref, re.split(r"[/\\]", ref)[-1]):
                try:
                    name = self.source.find(form, self.near)
                except ForbiddenError:
                    reason = "outside_export"
                    continue
                if name is not None:
                    return name
                break
        self.report.media[reason] += 1
        return None

    def _copy(self, attachment: Attachment) -> str | None:
        name = self._find(attachment)
        if name is None:
            return None
        if name not in self._uris:
            try:
                self._uris[name] = self._store(name)
            except RecordError as error:
                self.report.media[error.reason] += 1
                self._uris[name] = None
        return self._uris[name]

    def _store(self, name: str) -> str:
        limits = self.source.limits
        try:
            if self.source.size(name) > limits.max_image_bytes:
                raise RecordError("too_large", f"{name} is larger than a picture may be")
            data = self.source.read(name)
        except RecordError as error:
            reason = "unreadable" if error.reason == "unreadable_file" else error.reason
            raise RecordError(reason, str(error)) from error
        suffixes = _FORMATS[check_image(data, limits)]
        target = self._free_name(PurePosixPath(name).name, suffixes)
        folder = self.out_dir / IMAGES / self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / target).write_bytes(data)
        except OSError as error:
            raise InputError(
                f"cannot write {folder / target}: {error.strerror}; choose another output folder"
            ) from error
        self.report.media["images_copied"] += 1
        return f"{IMAGES}/{self.folder}/{target}"

    def _free_name(self, name: str, suffixes: tuple[str, ...]) -> str:
        stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
        if not dot or f".{suffix.lower()}" not in suffixes:
            stem, suffix = stem + dot + suffix, suffixes[0][1:]
        stem = re.sub(r"[^\w.@+()\- ]+|^[. ]+", "_", stem).encode()[:100].decode("utf-8", "ignore")
        target, number = f"{stem or 'image'}.{suffix}", 1
        while target.lower() in self._taken:  # file systems that ignore case
            number += 1
            target = f"{stem}-{number}.{suffix}"
        self._taken.add(target.lower())
        return target


def folder_name(dialogue_id: str) -> str:
    """Folder of a dialogue's images: its slug, plus a hash where the slug does not say it all."""
    short = slug(dialogue_id)
    if short == dialogue_id:
        return short
    digest = hashlib.sha256(dialogue_id.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{short}-{digest}" if short else digest


def check_image(data: bytes, limits: Limits) -> str:
    """Decode a picture far enough to trust it, and return its format (a key of Pillow).

    MPO, the JPEG of many phones with a second picture behind the first, is JPEG here.

    Raises:
        RecordError: With reason `too_many_pixels` (seen before decoding) or `not_an_image`.
    """
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own pixel limit applies, and odd EXIF is harmless
        try:
            with Pillow.open(io.BytesIO(data), formats=list(_FORMATS)) as picture:
                width, height = picture.size
                if width * height > limits.max_pixels:
                    raise RecordError(
                        "too_many_pixels",
                        f"a picture of {width} x {height} exceeds {limits.max_pixels} pixels",
                    )
                picture.draft("RGB", (64, 64))  # JPEG: decode at an eighth of the size
                picture.load()
                found = "JPEG" if picture.format == "MPO" else str(picture.format)
                if found not in _FORMATS:
                    raise RecordError("not_an_image", f"{found} is no format of pictures here")
                return found
        except RecordError:
            raise
        except Pillow.DecompressionBombError as error:
            raise RecordError("too_many_pixels", str(error)) from error
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
            raise RecordError("not_an_image", f"not a picture: {error}") from error
