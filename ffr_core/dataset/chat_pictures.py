"""Pictures of anonymised chats: copied beside the files under names that say nothing.

Exports name pictures and their folders after people and chats (`images/chat-with-anna-smith/`), and
cameras write places and times into the files. A copy is a fresh JPEG without such metadata, scaled
down to `max_side`, and its name is the pseudonym of its content: the same picture has the same
name. A picture that cannot be opened (missing, outside the roots, on the web) keeps its place in
the dialogue and loses its reference, and is counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ffr_core.dataset.pictures import IMAGES
from ffr_core.dataset.privacy import Pseudonyms
from ffr_core.errors import FfrError
from ffr_core.images import ImageReader
from ffr_core.types import Dialogue


class ChatPictures:
    """Copies pictures into one folder and counts them."""

    def __init__(self, out: Path, reader: ImageReader, pseudonyms: Pseudonyms) -> None:
        """Remember the places; nothing is written.

        Args:
            out: Folder of the files that will name the pictures.
            reader: Knows below which folders pictures may lie.
            pseudonyms: Makes the names.
        """
        self._out, self._reader, self._pseudonyms = out, reader, pseudonyms
        self.counts: Counter[str] = Counter()
        """References: `images_copied`, `images_unavailable`."""

    def place(self, dialogue: Dialogue) -> Dialogue:
        """The dialogue with pictures relative to the folder."""
        turns = (
            replace(turn, images=tuple(replace(i, uri=self._uri(i.uri)) for i in turn.images))
            for turn in dialogue.turns
        )
        return replace(dialogue, turns=tuple(turns))

    def _uri(self, uri: str | None) -> str | None:
        if uri is None:
            return None
        try:
            data = self._reader.reencoded(uri)
        except FfrError:
            self.counts["images_unavailable"] += 1
            return None
        name = self._pseudonyms.image(hashlib.sha256(data).hexdigest()) + ".jpg"
        target = self._out / IMAGES / name
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(name + ".part")
            part.write_bytes(data)
            part.replace(target)
        self.counts["images_copied"] += 1
        return f"{IMAGES}/{name}"
