"""Fragment order consistency and query-fragment similarity of a selection, by CLIP.

Source: Sec 6.1.2, Table 5 (averages of cosines, as stated); that the vectors are CLIP's: our
reading. An element is the utterance of a turn, or the mean of the pictures of a turn.

Shapes: E elements, D embedding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ffr_core.types import Dialogue, Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.embedding.clip import ClipEmbedder


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """Both measures of one selection; None where too few elements have a vector."""

    consistency: float | None
    """Mean cosine of neighboring elements, [-1, 1]; needs two elements."""
    similarity: float | None
    """Mean cosine of the query and each element, [-1, 1]; needs one element."""


def coherence(
    query: str, dialogue: Dialogue, selection: Selection, clip: ClipEmbedder
) -> Coherence:
    """Embed what is selected and measure it; empty selections have neither measure.

    The paper does not say how it counts selections with fewer than two elements; they are left out
    of the means and counted (our reading).
    """
    vectors = clip.elements(dialogue, [selection])
    elements = elements_in_order(
        selection, vectors.utterances, vectors.images, dialogue.turn_of_image
    )
    if not elements:
        return Coherence(consistency=None, similarity=None)
    return Coherence(
        consistency=mean_neighbor_cosine(elements),
        similarity=mean_query_cosine(clip.embed_texts([query])[0], elements),
    )


def elements_in_order(
    selection: Selection,
    utterances: Mapping[int, NDArray[np.float32]],
    images: Mapping[int, NDArray[np.float32]],
    turn_of_image: Sequence[int],
) -> list[NDArray[np.float32]]:
    """Vectors of a selection in dialogue order, the pictures of a turn averaged behind its text.

    Args:
        selection: Ids in the numbering of the dialogue; ids without a vector are left out.
        utterances: Turn id -> [D].
        images: Image id -> [D].
        turn_of_image: Turn id of each image id.

    Returns:
        E vectors [D].
    """
    import numpy as np

    elements = []
    shown = [i for i in sorted(selection.image_ids) if i in images]
    turns = {*selection.utterance_ids, *(turn_of_image[i] for i in shown)}
    for turn_id in sorted(turns):
        if turn_id in selection.utterance_ids and turn_id in utterances:
            elements.append(utterances[turn_id])
        pictures = [images[i] for i in shown if turn_of_image[i] == turn_id]
        if pictures:
            elements.append(np.mean(pictures, axis=0, dtype=np.float32))
    return elements


def mean_neighbor_cosine(elements: Collection[NDArray[np.float32]]) -> float | None:
    """Mean cosine of neighbors; None for fewer than two. Source: Eq 6.

    Example:
        [1, 0], [1, 0], [0, 1] have the neighbor cosines 1 and 0: 0.5.
    """
    import numpy as np

    if len(elements) < 2:
        return None
    rows_ED = _unit(np.stack(list(elements)))
    return float((rows_ED[:-1] * rows_ED[1:]).sum(axis=1).mean())


def mean_query_cosine(
    query_D: NDArray[np.float32], elements: Collection[NDArray[np.float32]]
) -> float | None:
    """Mean cosine of the query and each element; None without elements.

    Example:
        Query [1, 0] and elements [1, 0], [0, 1]: 0.5.
    """
    import numpy as np

    if not elements:
        return None
    return float((_unit(np.stack(list(elements))) @ _unit(query_D[None])[0]).mean())


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    import numpy as np

    wide = rows.astype(np.float64)
    result: NDArray[np.float64] = wide / np.maximum(
        np.linalg.norm(wide, axis=1, keepdims=True), 1e-12
    )
    return result
