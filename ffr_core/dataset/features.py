"""Embeddings and image facts of short dialogues, stored in shards that later steps read.

A shard holds some dialogues in the order of the corpus file. Vectors are float16, a row per text or
image; means over what a cleaning step keeps are taken later, so no filter needs a second embedding.

Legend: R rows (turns with text, then captions), I images, D sentence and C CLIP embedding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ffr_core.dataset.cleaning import ImageFacts
from ffr_core.dataset.clustering import unit
from ffr_core.errors import FfrError
from ffr_core.images import ImageReader
from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageTextEncoder(Protocol):
    """CLIP, or what stands in for it; `ffr_core.embedding.clip.ClipEmbedder` has this form."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[P, C], unit norm."""

    def embed_images(self, uris: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """URI -> [C], unit norm; what cannot be read is left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DialogueFeatures:
    """What the steps need of one dialogue."""

    turns_RD: NDArray[np.float32]
    """Sentence embeddings of the turns with text."""
    captions_ID: NDArray[np.float32]
    """Of the captions, by image id; zero where there is none."""
    clip_turns_RC: NDArray[np.float32] | None
    """CLIP embeddings of the turns with text; None without CLIP."""
    clip_captions_IC: NDArray[np.float32] | None
    clip_images_IC: NDArray[np.float32] | None
    """By image id; zero where the image cannot be read."""
    facts: Mapping[int, ImageFacts]
    """By image id."""
    text_turns: tuple[int, ...]
    """Turn ids of the rows."""


def inspect_image(uri: str | None, reader: ImageReader) -> ImageFacts:
    """Size and identity of an image; width and height 0 when it cannot be read."""
    if uri is None:
        return ImageFacts(width=0, height=0, key="")
    try:
        with reader.open(uri) as picture:
            width, height = picture.size
            key = hashlib.sha256(f"{width}x{height}:".encode() + picture.tobytes()).hexdigest()[:24]
    except FfrError:
        return ImageFacts(width=0, height=0, key=uri)
    return ImageFacts(width=width, height=height, key=key)


def embed_dialogues(
    dialogues: Sequence[Dialogue],
    encoder: Encoder,
    clip: ImageTextEncoder | None,
    reader: ImageReader,
) -> list[DialogueFeatures]:
    """Embed all texts and images of some dialogues at once."""
    texts = list(dict.fromkeys(text for d in dialogues for text in _texts(d)))
    sentence = _lookup(texts, lambda t: encoder.encode_passages([Passage(text=x) for x in t]))
    clip_text = _lookup(texts, clip.embed_texts) if clip else {}
    facts = [
        {image.image_id: inspect_image(image.uri, reader) for image in dialogue.images}
        for dialogue in dialogues
    ]
    uris = [i.uri for d, f in zip(dialogues, facts, strict=True) for i in d.images if i.uri]
    pictures = clip.embed_images(list(dict.fromkeys(uris))) if clip else {}
    return [
        _one(dialogue, found, encoder.dim, sentence, clip_text, pictures if clip else None)
        for dialogue, found in zip(dialogues, facts, strict=True)
    ]


def _one(
    dialogue: Dialogue,
    facts: Mapping[int, ImageFacts],
    dim: int,
    sentence: Mapping[str, NDArray[np.float32]],
    clip_text: Mapping[str, NDArray[np.float32]],
    pictures: Mapping[str, NDArray[np.float32]] | None,
) -> DialogueFeatures:
    turns = [turn for turn in dialogue.turns if turn.text]
    captions = [image.caption or "" for image in dialogue.images]
    texts = [turn.text for turn in turns]
    clip_dim = len(next(iter(clip_text.values()))) if clip_text else 0
    return DialogueFeatures(
        turns_RD=_rows(texts, sentence, dim),
        captions_ID=_rows(captions, sentence, dim),
        clip_turns_RC=_rows(texts, clip_text, clip_dim) if pictures is not None else None,
        clip_captions_IC=_rows(captions, clip_text, clip_dim) if pictures is not None else None,
        clip_images_IC=_rows([i.uri or "" for i in dialogue.images], pictures, clip_dim)
        if pictures is not None
        else None,
        facts=facts,
        text_turns=tuple(turn.turn_id for turn in turns),
    )


def image_text_similarity(
    dialogue: Dialogue, features: DialogueFeatures
) -> dict[int, float] | None:
    """CLIP cosine of each image and the text of its turn, else its caption; None without CLIP.

    An image that cannot be read, or that no text goes with, has -1.
    """
    images, turns = features.clip_images_IC, features.clip_turns_RC
    if images is None or turns is None or features.clip_captions_IC is None:
        return None
    row_of = {turn_id: row for row, turn_id in enumerate(features.text_turns)}
    result: dict[int, float] = {}
    for image_id, turn_id in enumerate(dialogue.turn_of_image):
        row = row_of.get(turn_id)
        text = features.clip_captions_IC[image_id] if row is None else turns[row]
        known = bool(images[image_id].any() and text.any())
        result[image_id] = float(images[image_id] @ text) if known else -1.0
    return result


def mean_features(
    features: DialogueFeatures, kept_images: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    """Unit vectors of a dialogue for matching: `text`, and with CLIP `clip_text`, `clip_image`."""
    kept = list(kept_images)
    means = {"text": _mean(features.turns_RD, features.captions_ID[kept])}
    if features.clip_images_IC is not None:
        assert features.clip_turns_RC is not None and features.clip_captions_IC is not None
        captions = features.clip_captions_IC[kept]
        means["clip_text"] = _mean(features.clip_turns_RC, captions)
        means["clip_image"] = _mean(features.clip_images_IC[kept])
    return means


def save_shard(path: Path, ids: Sequence[str], items: Sequence[DialogueFeatures]) -> None:
    """Write a shard as a whole or not at all."""
    arrays: dict[str, NDArray[np.float16]] = {}
    for name in ("turns_RD", "captions_ID", "clip_turns_RC", "clip_captions_IC", "clip_images_IC"):
        rows = [found for item in items if (found := getattr(item, name)) is not None]
        if rows:
            arrays[name] = np.concatenate(rows).astype(np.float16)
    index = [
        {
            "id": dialogue_id,
            "turns": list(item.text_turns),
            "images": [[f.width, f.height, f.key] for _, f in sorted(item.facts.items())],
        }
        for dialogue_id, item in zip(ids, items, strict=True)
    ]
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, index=np.frombuffer(json.dumps(index).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    part.replace(path)


def load_shard(path: Path) -> tuple[list[str], list[DialogueFeatures]]:
    """Ids and features, in the order they were written."""
    with np.load(path) as stored:
        index = json.loads(stored["index"].tobytes())
        arrays = {name: stored[name] for name in stored.files if name != "index"}
    items: list[DialogueFeatures] = []
    turn_at = image_at = 0
    for record in index:
        turns = slice(turn_at, turn_at := turn_at + len(record["turns"]))
        images = slice(image_at, image_at := image_at + len(record["images"]))
        parts = {
            name: rows[turns if "turns" in name else images].astype(np.float32)
            for name, rows in arrays.items()
        }
        items.append(
            DialogueFeatures(
                turns_RD=parts["turns_RD"],
                captions_ID=parts["captions_ID"],
                clip_turns_RC=parts.get("clip_turns_RC"),
                clip_captions_IC=parts.get("clip_captions_IC"),
                clip_images_IC=parts.get("clip_images_IC"),
                facts={
                    i: ImageFacts(width=width, height=height, key=key)
                    for i, (width, height, key) in enumerate(record["images"])
                },
                text_turns=tuple(record["turns"]),
            )
        )
    return [record["id"] for record in index], items


def _texts(dialogue: Dialogue) -> list[str]:
    captions = [image.caption for image in dialogue.images if image.caption]
    return [*(turn.text for turn in dialogue.turns if turn.text), *captions]


def _lookup(
    keys: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    return dict(zip(keys, embed(keys), strict=True)) if keys else {}


def _rows(
    keys: Sequence[str], vectors: Mapping[str, NDArray[np.float32]], dim: int
) -> NDArray[np.float32]:
    """One row a key; zero where there is no vector."""
    result = np.zeros((len(keys), dim), dtype=np.float32)
    for row, key in enumerate(keys):
        if key in vectors:
            result[row] = vectors[key]
    return result


def _mean(*parts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vector of the mean of the rows that are not zero."""
    total: NDArray[np.float32] = unit(np.concatenate(parts).sum(axis=0, keepdims=True))[0]
    return total
