"""Steps 1 and 2 of Algorithm 1: a dialogue becomes fragments and vectors, ready to be written.

Source: Sec 5.2.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ffr_core.passages import make_passages, passage_of, passage_windows
from ffr_core.records import content_hash
from ffr_core.types import (
    Dialogue,
    Fragment,
    IndexedDialogue,
    IndexedFragment,
    IndexedPassage,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.ocr import OcrReader
    from ffr_core.protocols import Encoder, Segmenter

FragmentVector = Literal["mean", "encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Steps 1 and 2: decompose dialogues and embed their fragments and passages."""

    segmenter: Segmenter
    encoder: Encoder
    fragment_vector: FragmentVector = "mean"
    """`mean`: the mean of the window vectors; `encode`: the encoder reads the whole fragment."""
    window_tokens: int = 0
    """Size of the windows of turns that are embedded beside the turns; 0: a window is a turn."""
    ocr: OcrReader | None = None
    """Reads the text in pictures first, where the profile asks for it."""

    @property
    def recipe(self) -> str:
        """Everything but the content that decides what is stored."""
        parts = [self.segmenter.fingerprint, self.encoder.fingerprint, self.fragment_vector]
        if self.window_tokens:
            parts.append(f"windows of {self.window_tokens}")
        return "\n".join([*parts, self.ocr.fingerprint] if self.ocr else parts)

    def read_images(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """The dialogues with the text of their pictures, where OCR is on."""
        return self.ocr.read_all(dialogues) if self.ocr else list(dialogues)

    def segment(self, dialogues: Sequence[Dialogue]) -> list[tuple[Dialogue, tuple[Fragment, ...]]]:
        """Step 1: each dialogue, its pictures read, with its fragments."""
        read = self.read_images(dialogues)
        return list(zip(read, self.segmenter.segment(read), strict=True))

    def embed(
        self, segmented: Sequence[tuple[Dialogue, tuple[Fragment, ...]]]
    ) -> list[IndexedDialogue]:
        """Step 2: all passages of all dialogues go to the encoder together."""
        passages = [
            [make_passages(dialogue, fragment, self.window_tokens) for fragment in parts]
            for dialogue, parts in segmented
        ]
        vectors_PD = self.encoder.encode_passages([p for d in passages for f in d for p in f])
        rows = iter(vectors_PD)
        built = []
        for (dialogue, parts), per_fragment in zip(segmented, passages, strict=True):
            embedded = [
                tuple(IndexedPassage(passage=p, vector_D=next(rows)) for p in fragment_passages)
                for fragment_passages in per_fragment
            ]
            whole_ND = self._fragment_vectors(dialogue, parts, embedded)
            built.append(
                IndexedDialogue(
                    dialogue=dialogue,
                    fingerprint=dialogue_fingerprint(dialogue, self.recipe),
                    fragments=tuple(
                        IndexedFragment(
                            fragment=fragment,
                            text=passage_of(dialogue, fragment.turn_ids).text,
                            vector_D=vector_D,
                            passages=fragment_passages,
                        )
                        for fragment, vector_D, fragment_passages in zip(
                            parts, whole_ND, embedded, strict=True
                        )
                    ),
                )
            )
        return built

    def build(self, dialogues: Sequence[Dialogue]) -> list[IndexedDialogue]:
        """Steps 1 and 2 in one go."""
        return self.embed(self.segment(dialogues))

    def _fragment_vectors(
        self,
        dialogue: Dialogue,
        fragments: Sequence[Fragment],
        embedded: Sequence[tuple[IndexedPassage, ...]],
    ) -> NDArray[np.float32]:
        import numpy as np

        if self.fragment_vector == "encode":
            return self.encoder.encode_passages(
                [passage_of(dialogue, fragment.turn_ids) for fragment in fragments]
            )
        means = []
        for fragment, part in zip(fragments, embedded, strict=True):
            vectors = {p.passage.turn_ids: p.vector_D for p in part}
            whole = passage_windows(dialogue, fragment.turn_ids, self.window_tokens)
            means.append(np.mean([vectors[turn_ids] for turn_ids in whole], axis=0))
        means_ND = np.stack(means)
        norms_N1 = np.linalg.norm(means_ND, axis=1, keepdims=True)
        result: NDArray[np.float32] = (means_ND / np.maximum(norms_N1, 1e-12)).astype(np.float32)
        return result


def dialogue_fingerprint(dialogue: Dialogue, recipe: str) -> str:
    """Content + recipe (64 hex): equal fingerprints mean that no work is needed."""
    return hashlib.sha256(f"{content_hash(dialogue)}\n{recipe}".encode()).hexdigest()
