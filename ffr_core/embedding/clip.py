"""CLIP embeddings of utterances and pictures by open_clip, for order rewards and CLIP baselines.

Legend: P texts or pictures, D embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.errors import ConfigError, FfrError, NotFoundError
from ffr_core.types import Dialogue, Selection

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

CACHE_SIZE = 200_000
"""Vectors kept of each kind; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ElementVectors:
    """Embeddings of some elements of one dialogue."""

    utterances: Mapping[int, NDArray[np.float32]]
    """Turn id -> [D]; turns without text are left out."""
    images: Mapping[int, NDArray[np.float32]]
    """Image id -> [D]; pictures that cannot be read are left out."""


class ClipEmbedder:
    """An open_clip model with a cache by text and by image URI. Vectors have unit norm."""

    def __init__(
        self,
        model: Any,
        preprocess: Callable[[Any], Any],
        tokenizer: Callable[[list[str]], Any],
        images: Callable[[str], PIL.Image.Image],
        *,
        device: str = "cpu",
        batch: int = 64,
        name: str = "",
    ) -> None:
        """Take an open_clip model in eval mode; see `open` to load one.

        Args:
            model: With `encode_text` and `encode_image`.
            preprocess: Picture to tensor, for inference.
            tokenizer: Texts to token ids.
            images: URI to RGB picture, such as `ImageReader.open`.
            device: A torch device.
            batch: Texts or pictures of one forward pass.
            name: What the model was opened by.
        """
        self.name = name
        self.unreadable: dict[str, str] = {}
        """URI -> why a picture has no vector."""
        self._model, self._preprocess, self._tokenizer = model, preprocess, tokenizer
        self._images, self._device, self._batch = images, device, batch
        self._texts: dict[str, NDArray[np.float32]] = {}
        self._pictures: dict[str, NDArray[np.float32]] = {}

    @classmethod
    def open(
        cls,
        name: str,
        images: Callable[[str], PIL.Image.Image],
        *,
        device: str = "cpu",
        batch: int = 64,
    ) -> ClipEmbedder:
        """Load a model.

        Args:
            name: A folder in open_clip's hub layout, `hf-hub:ORG/NAME`, or
                `ARCHITECTURE/PRETRAINED` such as `ViT-B-32/openai`.
            images: As in the constructor.
            device: A torch device.
            batch: As in the constructor.

        Raises:
            NotFoundError: No such folder.
            ConfigError: open_clip cannot load it.
        """
        import open_clip

        pretrained = None
        if Path(name).is_dir():
            full = f"local-dir:{Path(name).resolve()}"
        elif name.startswith(("/", ".")):
            raise NotFoundError(f"there is no CLIP model folder {name!r}; check the path")
        else:
            full, _, tag = name.partition("/") if ":" not in name else (name, "", "")
            pretrained = tag or None
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                full, pretrained=pretrained, device=device
            )
            tokenizer = open_clip.get_tokenizer(full)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"open_clip cannot load {name!r}: {error}; give a folder with open_clip_config.json"
                " or ARCHITECTURE/PRETRAINED"
            ) from error
        return cls(
            model.eval(), preprocess, tokenizer, images, device=device, batch=batch, name=name
        )

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [P, D], unit norm; text beyond the model's context is cut."""
        missing = [t for t in dict.fromkeys(texts) if _key(t) not in self._texts]
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            vectors_PD = self._run(self._model.encode_text, self._tokenizer(part))
            self._texts.update(zip(map(_key, part), vectors_PD, strict=True))
        return self._rows([self._texts[_key(t)] for t in texts], self._texts)

    def embed_images(self, uris: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """URI -> [D], unit norm; what cannot be read is left out and noted in `unreadable`."""
        import torch

        pending: list[tuple[str, Any]] = []
        known = {uri: self._pictures[uri] for uri in uris if uri in self._pictures}
        for uri in dict.fromkeys(uris):
            if uri in self._pictures or uri in self.unreadable:
                continue
            try:
                pending.append((uri, self._preprocess(self._images(uri))))
            except FfrError as error:
                self.unreadable[uri] = str(error)
        for start in range(0, len(pending), self._batch):
            part = pending[start : start + self._batch]
            stacked = torch.stack([pixels for _, pixels in part])
            vectors_PD = self._run(self._model.encode_image, stacked)
            known |= {uri: vector for (uri, _), vector in zip(part, vectors_PD, strict=True)}
        self._pictures |= known
        _trim(self._pictures)
        return known

    def elements(self, dialogue: Dialogue, selections: Sequence[Selection]) -> ElementVectors:
        """Embed what any of the selections names; ids outside the dialogue are left out."""
        turns = sorted({i for s in selections for i in s.utterance_ids if i < len(dialogue.turns)})
        turns = [i for i in turns if dialogue.turns[i].text.strip()]
        images = {i for s in selections for i in s.image_ids if i < len(dialogue.images)}
        uris = {i: uri for i in sorted(images) if (uri := dialogue.images[i].uri) is not None}
        vectors = self.embed_images(list(uris.values()))
        texts_PD = self.embed_texts([dialogue.turns[i].text for i in turns])
        return ElementVectors(
            utterances=dict(zip(turns, texts_PD, strict=True)),
            images={i: vectors[uri] for i, uri in uris.items() if uri in vectors},
        )

    def _run(self, encode: Callable[..., Any], inputs: Any) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            vectors: NDArray[np.float32] = (
                encode(inputs.to(self._device), normalize=True).float().cpu().numpy()
            )
        return vectors

    def _rows(
        self, rows: list[NDArray[np.float32]], cache: dict[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        import numpy as np

        stacked = np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
        _trim(cache)
        return stacked


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _trim(cache: dict[str, NDArray[np.float32]]) -> None:
    while len(cache) > CACHE_SIZE:
        cache.pop(next(iter(cache)))
