"""Put the pictures of a built data set beside its files, so that the folder is complete by itself.

Between the steps a record names a picture where the corpus has it. A published record names it
relative to its own file (`images/KEY.png`, KEY is the hash of the content), below the folder in
which the training jobs look when they are given no image roots. A picture is linked where the file
system allows it and copied elsewhere, once however many dialogues share it. An `s3://` picture
stays a reference and is counted: a training job then names its bucket in `image_roots`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ffr_core.dataset.long_dialogue import LongDialogue
from ffr_core.errors import NotFoundError
from ffr_core.images import ImageReader

IMAGES = "images"
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


def image_key_of(items: Iterable[LongDialogue]) -> dict[str, str]:
    """Hash of the content of every picture, by its URI in the corpus."""
    return {
        image.uri: key
        for item in items
        for image, key in zip(item.dialogue.images, item.image_keys, strict=True)
        if image.uri is not None
    }


class Pictures:
    """Brings pictures into one folder and counts them."""

    def __init__(self, out: Path, reader: ImageReader, keys: Mapping[str, str]) -> None:
        """Remember the places; nothing is written.

        Args:
            out: Folder of the published files.
            reader: Knows below which folders pictures may lie.
            keys: Hash of the content by URI.
        """
        self._out, self._reader, self._keys = out, reader, keys
        self._names: dict[str, str] = {}
        self._elsewhere: set[str] = set()

    @property
    def counts(self) -> dict[str, int]:
        """Pictures in the folder, and those that stay references."""
        return {"images": len(self._names), "images_elsewhere": len(self._elsewhere)}

    def place(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with pictures relative to the folder.

        Raises:
            ForbiddenError: A picture lies outside the reader's roots.
            NotFoundError: A picture has vanished since it was read.
        """
        turns = [
            {**turn, "images": [{**i, "uri": self._uri(i["uri"])} for i in turn["images"]]}
            for turn in record["turns"]
        ]
        return {**record, "turns": turns}

    def _uri(self, uri: str | None) -> str | None:
        source = None if uri is None else self._reader.local_path(uri)
        if uri is None or source is None:
            self._elsewhere.update([uri] if uri else [])
            return uri
        key = self._keys[uri]
        if key not in self._names:
            suffix = source.suffix.lower()
            name = key + (suffix if _SUFFIX.fullmatch(suffix) else "")
            _bring(source, self._out / IMAGES / name)
            self._names[key] = name
        return f"{IMAGES}/{self._names[key]}"


def _bring(source: Path, target: Path) -> None:
    """Link or copy, as a whole or not at all; a target of that content may be there already."""
    if target.is_file():
        return
    if not source.is_file():
        raise NotFoundError(f"image {str(source)!r:.200} has vanished; put it back and run again")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        part = target.with_name(target.name + ".part")
        shutil.copyfile(source, part)
        part.replace(target)
