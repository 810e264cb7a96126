"""The domain types: frozen records with their invariants checked once.

Ids are 0-based everywhere: `turn_id` is the position of a turn in its dialogue, `image_id` counts
images through the whole dialogue in reading order. An utterance id is the id of its turn.
Source: Sec 3, authors' setting (the paper's prose mixes 0- and 1-based).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ffr_core.errors import RecordError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class QueryKind(StrEnum):
    """The four kinds of queries. Source: App. B.1, as stated."""

    MULTI_MODAL = "multi-modal"
    UTTERANCE_ONLY = "utterance-only"
    IMAGE_ONLY = "image-only"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture in a dialogue, by reference; pixels are never part of a record."""

    image_id: int
    """0-based position among the images of the dialogue."""
    uri: str | None
    """Local path, `file://` or `s3://` URI; None when the bytes are not available."""
    caption: str | None = None
    """A description that came with the image."""
    text: str | None = None
    """Text inside the picture, as the source says or as OCR read it."""
    ocr: bool = False
    """Whether `text` was read by OCR: it is no part of the content then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One speaker's message: text, images or both."""

    turn_id: int
    """0-based position in the dialogue."""
    speaker: str
    """Name as shown in the source."""
    text: str
    """May be empty: a picture alone, or a message whose content the source lost."""
    timestamp: datetime | None = None
    """Time zone aware; None when unknown."""
    timestamp_text: str | None = None
    """The source's own form, kept when it cannot be read unambiguously."""
    reply_to: int | None = None
    """The turn that this one explicitly answers (a reply or a thread root), if the source says."""
    images: tuple[Image, ...] = ()
    """Images in reading order."""

    def __post_init__(self) -> None:
        """Refuse a naive timestamp: the index stores UTC."""
        assert self.timestamp is None or self.timestamp.tzinfo is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Utterance and image ids that belong to a query; both may be empty. Source: Eq 1."""

    utterance_ids: frozenset[int] = frozenset()
    """Turn ids whose text is selected."""
    image_ids: frozenset[int] = frozenset()
    """Selected images."""

    def __bool__(self) -> bool:
        """Whether anything is selected."""
        return bool(self.utterance_ids or self.image_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An information need with its gold selection (the relevance)."""

    query: str
    relevance: Selection
    """Gold ids in the numbering of the whole dialogue."""
    kind: QueryKind | None = None
    source_kind: str | None = None
    """The data set's own kind, where it is not one of the paper's four."""
    fragment_id: int | None = None
    """Position of the gold fragment in the dialogue's gold fragments."""


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One conversation: ordered turns, and gold labels where a corpus has them."""

    dialogue_id: str
    turns: tuple[Turn, ...]
    title: str | None = None
    language: str | None = None
    """ISO 639-1 code."""
    fragments: tuple[tuple[int, ...], ...] | None = None
    """Gold fragments: sets of turn ids. A corpus may leave turns out or name one twice."""
    queries: tuple[Query, ...] | None = None

    def __post_init__(self) -> None:
        """Check ids and gold labels; raise RecordError with a stable reason."""
        where = f"dialogue {self.dialogue_id!r}"
        if not self.dialogue_id:
            raise RecordError("no_dialogue_id", "a dialogue has an empty dialogue_id; give it one")
        if not self.turns:
            raise RecordError("no_turns", f"{where} has no turns; a dialogue needs at least one")
        num_images = 0
        for position, turn in enumerate(self.turns):
            if turn.turn_id != position:
                raise RecordError(
                    "bad_turn_id",
                    f"{where}: turn_id {turn.turn_id} at position {position};"
                    " turn ids count from 0",
                )
            for image in turn.images:
                if image.image_id != num_images:
                    raise RecordError(
                        "bad_image_id",
                        f"{where}: image_id {image.image_id} in turn {position};"
                        f" expected {num_images}, images count from 0 in reading order",
                    )
                num_images += 1
            if turn.reply_to is not None and not 0 <= turn.reply_to < len(self.turns):
                raise RecordError("bad_reply_to", f"{where}: turn {position} replies to no turn")
        self._check_gold(where, num_images)

    def _check_gold(self, where: str, num_images: int) -> None:
        if any(not 0 <= i < len(self.turns) for part in self.fragments or () for i in part):
            raise RecordError(
                "bad_fragments", f"{where}: a gold fragment names a turn that does not exist"
            )
        known = {i for i, part in enumerate(self.fragments or ()) if part}
        for query in self.queries or ():
            if self.fragments and query.fragment_id is not None and query.fragment_id not in known:
                raise RecordError(
                    "bad_gold",
                    f"{where}: query {query.query[:60]!r} names the gold fragment"
                    f" {query.fragment_id}, which is empty or not one of {len(self.fragments)};"
                    " they count from 0",
                )
            ids, images = query.relevance.utterance_ids, query.relevance.image_ids
            if any(not 0 <= i < len(self.turns) for i in ids) or any(
                not 0 <= i < num_images for i in images
            ):
                raise RecordError(
                    "bad_gold", f"{where}: query {query.query[:60]!r} names ids that do not exist"
                )

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """All images in reading order; `images[i].image_id == i`."""
        return tuple(image for turn in self.turns for image in turn.images)

    @cached_property
    def turn_of_image(self) -> tuple[int, ...]:
        """Turn id of each image id."""
        return tuple(turn.turn_id for turn in self.turns for _ in turn.images)

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """Speakers in order of their first turn."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A coherent set of turns, possibly interleaved with others; the unit that is indexed."""

    fragment_id: int
    """0-based among the fragments of its dialogue, ordered by first turn."""
    turn_ids: tuple[int, ...]
    """Ascending turn ids of the dialogue."""

    def __post_init__(self) -> None:
        """Our own invariant: not empty, ascending."""
        assert self.turn_ids
        assert all(a < b for a, b in zip(self.turn_ids, self.turn_ids[1:], strict=False))


def fragments_from_clusters(
    clusters: Iterator[tuple[int, ...]] | list[list[int]],
) -> tuple[Fragment, ...]:
    """Number clusters of turn ids as fragments, ordered by their first turn."""
    ordered = sorted(tuple(sorted(cluster)) for cluster in clusters if cluster)
    return tuple(Fragment(fragment_id=i, turn_ids=ids) for i, ids in enumerate(ordered))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What an encoder turns into one vector: a turn, a window of turns or a whole fragment."""

    text: str
    """Rendered as `speaker: text captions`, lines joined by newlines."""
    turn_ids: tuple[int, ...] = ()
    """Turn ids of the dialogue."""
    images: tuple[Image, ...] = ()
    """Images of those turns; text encoders ignore them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexedPassage:
    """A passage with its vector."""

    passage: Passage
    vector_D: NDArray[np.float32]
    """[D], unit norm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexedFragment:
    """A fragment with its text, vector and passages, ready to be written."""

    fragment: Fragment
    text: str
    """All its turns as searched by BM25."""
    vector_D: NDArray[np.float32]
    """[D], unit norm."""
    passages: tuple[IndexedPassage, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexedDialogue:
    """All that an index stores about one dialogue."""

    dialogue: Dialogue
    fingerprint: str
    """Content + segmenter + encoder configuration; equal fingerprints need no work."""
    fragments: tuple[IndexedFragment, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with one matrix for all vectors: half the time, and the index job sends many."""
        import numpy as np

        outline = [
            (
                part.fragment.fragment_id,
                part.fragment.turn_ids,
                part.text,
                [(p.passage.text, p.passage.turn_ids, p.passage.images) for p in part.passages],
            )
            for part in self.fragments
        ]
        vectors = [
            vector_D
            for part in self.fragments
            for vector_D in (part.vector_D, *(passage.vector_D for passage in part.passages))
        ]
        stacked = np.stack(vectors) if vectors else None
        return _unpickled, (self.dialogue, self.fingerprint, outline, stacked)


def _unpickled(
    dialogue: Dialogue,
    fingerprint: str,
    outline: list[tuple[int, tuple[int, ...], str, list[tuple[str, tuple[int, ...], Any]]]],
    vectors_VD: NDArray[np.float32] | None,
) -> IndexedDialogue:
    rows = iter(() if vectors_VD is None else vectors_VD)
    fragments = tuple(
        IndexedFragment(
            fragment=Fragment(fragment_id=fragment_id, turn_ids=turn_ids),
            text=text,
            vector_D=next(rows),
            passages=tuple(
                IndexedPassage(
                    passage=Passage(text=text, turn_ids=turn_ids, images=images),
                    vector_D=next(rows),
                )
                for text, turn_ids, images in passages
            ),
        )
        for fragment_id, turn_ids, text, passages in outline
    )
    return IndexedDialogue(dialogue=dialogue, fingerprint=fingerprint, fragments=fragments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an index says about one dialogue; written last, so it proves completeness."""

    dialogue_id: str
    fingerprint: str
    revision: int
    num_fragments: int
    num_passages: int
    payload: str
    """Name under which the dialogue is stored; empty for a tombstone."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Restrictions on fragments; every field given must hold. Empty means no restriction."""

    participants: tuple[str, ...] = ()
    """At least one of these speakers has a turn in the fragment; upper and lower case are equal."""
    since: datetime | None = None
    """What is selected is at or after this instant, or has no time."""
    until: datetime | None = None
    """What is selected is before this instant, or has no time."""
    has_image: bool | None = None
    """The fragment holds an image (True) or none (False)."""
    dialogue_ids: tuple[str, ...] = ()
    """Only these dialogues."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassageEvidence:
    """How well one stored passage matched a query; lets a localizer skip encoding again."""

    turn_ids: tuple[int, ...]
    vector_D: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A fragment found by recall."""

    dialogue_id: str
    fragment: Fragment
    score: float
    """Fused recall score; comparable inside one query only."""
    payload: str
    """Name under which its dialogue is stored."""
    channels: Mapping[str, float] = field(default_factory=dict)
    """Raw score per channel: `dense_passage`, `dense_fragment`, `bm25_fragment`, ..."""
    passages: tuple[PassageEvidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredFragment:
    """A fragment as an index holds it."""

    fragment: Fragment
    vector_D: NDArray[np.float32]
    """[D], unit norm."""
    passages: tuple[PassageEvidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Localization:
    """Turns and images of one dialogue that answer a query, with calibrated confidences."""

    utterances: Mapping[int, float]
    """Selected turn id -> probability that a person would select it."""
    images: Mapping[int, float]
    """Selected image id -> probability."""
    relevance: float
    """Probability that anything in the fragment answers the query; ranks dialogues."""
    utterance_share: float = 0.0
    """Least share of the best utterance's confidence that the others must reach, in all candidates
    of a query; near 1 where one turn is likely to be the whole answer."""
    image_share: float = 0.0
    """The same for images."""
    literal: frozenset[int] = frozenset()
    """Selected turns that hold every word of a query of keywords; rivals do not drive them out."""

    @property
    def selection(self) -> Selection:
        """The ids alone."""
        return Selection(utterance_ids=frozenset(self.utterances), image_ids=frozenset(self.images))


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueAnswer:
    """One dialogue of the final answer. Source: Sec 5.2.2 (5)."""

    dialogue_id: str
    score: float
    spans: tuple[tuple[int, int], ...]
    """Half-open turn ranges, merged where they overlap or touch."""
    localization: Localization
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """Counts of one tenant."""

    dialogues: int
    fragments: int
    passages: int
    deleted: int
    fingerprint: str | None
    """Encoder fingerprint that the vectors were made with; None for an empty index."""
