"""Query-fragment pairs of the four kinds from the tags of long dialogues.

A tag is a query, the utterances and images that share it are its fragment. Source: App. B.1 and
Sec 4.1 (task construction), as stated: multi-modal, utterance-only, image-only fragments, and
negatives whose query is an unrelated tag. Our reading:

- The kind follows from what shares the tag. Where a tag has images and utterances, a query for its
  images alone (or its utterances alone) may be derived with a phrase such as "pictures: TAG".
- A negative is a tag of another dialogue of the same pool that shares no member with this one, is
  no tag of it, has no content word in common with its texts, captions and tags, and, where
  embeddings are at hand, is farther from every element than this dialogue's own tags are.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ffr_core.dataset.content_words import content_words
from ffr_core.dataset.long_dialogue import Level, LongDialogue
from ffr_core.dataset.ranges import check_ranges
from ffr_core.types import Dialogue, Query, QueryKind, Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], "NDArray[np.float32]"]
_ONE_MODALITY = {
    "en": {QueryKind.IMAGE_ONLY: "pictures: {}", QueryKind.UTTERANCE_ONLY: "messages: {}"},
    "zh": {QueryKind.IMAGE_ONLY: "关于{}的图片", QueryKind.UTTERANCE_ONLY: "关于{}的聊天内容"},
}
_TRIES = 60
"""Donor tags tried for one negative."""
FRAGMENT_SHARE = 0.8
"""A fragment is a query's when it holds this share of the gold turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRules:
    """How many queries a dialogue gets; a fraction is a probability."""

    multi_modal: float = 1.0
    utterance_only: float = 1.0
    image_only: float = 1.0
    negative: float = 0.5
    derive_one_modality: bool = False
    """Fill up a missing kind with queries for one modality of a multi-modal tag."""
    margin: float = 0.02
    """Cosine by which a negative is farther than the dialogue's own tags."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that are out of range with ConfigError."""
        numbers = ("multi_modal", "utterance_only", "image_only", "negative")
        check_ranges(self, **dict.fromkeys(numbers, (0, math.inf)), margin=(0, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A tag with what shares it."""

    tag: str
    level: Level
    selection: Selection

    @property
    def kind(self) -> QueryKind:
        """The kind that follows from the modalities."""
        if not self.selection.image_ids:
            return QueryKind.UTTERANCE_ONLY
        if not self.selection.utterance_ids:
            return QueryKind.IMAGE_ONLY
        return QueryKind.MULTI_MODAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Dialogues with their queries."""

    items: tuple[LongDialogue, ...]
    by_kind: Mapping[str, int] = field(default_factory=dict)
    short: Mapping[str, int] = field(default_factory=dict)
    """Queries that were wanted and could not be made, by kind."""


def tagged_elements(item: LongDialogue) -> list[Tagged]:
    """Every tag of both levels with its elements, sorted by level and tag."""
    found: dict[tuple[Level, str], tuple[set[int], set[int]]] = {}
    for kind, tags_of in ((0, item.utterance_tags), (1, item.image_tags)):
        for number, tags in tags_of.items():
            levels: tuple[tuple[Level, str], ...] = (("coarse", tags.coarse), ("fine", tags.fine))
            for key in levels:
                found.setdefault(key, (set(), set()))[kind].add(number)
    return [
        Tagged(
            tag=tag,
            level=level,
            selection=Selection(utterance_ids=frozenset(u), image_ids=frozenset(i)),
        )
        for (level, tag), (u, i) in sorted(found.items())
    ]


def fragment_of(dialogue: Dialogue, selection: Selection) -> int | None:
    """Position of the gold fragment that holds most of the selection's turns, if enough of them."""
    turns = set(selection.utterance_ids) | {dialogue.turn_of_image[i] for i in selection.image_ids}
    for number, ids in enumerate(dialogue.fragments or ()):
        if turns and len(turns & set(ids)) >= FRAGMENT_SHARE * len(turns):
            return number
    return None


def draw_queries(
    items: Sequence[LongDialogue], rules: QueryRules, embed: Embed | None = None
) -> Drawn:
    """Give every dialogue its queries. Items are those of one pool: negatives stay inside it."""
    donors = [
        (number, tagged.tag)
        for number, item in enumerate(items)
        for tagged in tagged_elements(item)
    ]
    result: list[LongDialogue] = []
    by_kind: Counter[str] = Counter()
    short: Counter[str] = Counter()
    for number, item in enumerate(items):
        rng = random.Random(f"{rules.seed}:{item.dialogue.dialogue_id}")
        wanted = {kind: _times(share, rng) for kind, share in _shares(rules).items()}
        queries = _positives(item, wanted, rules, rng)
        negatives: list[str] = []
        for _ in range(wanted[QueryKind.NEGATIVE]):
            tag = _negative(number, items, donors, negatives, rng, embed, rules.margin)
            if tag is not None:
                negatives.append(tag)
                queries.append(Query(query=tag, relevance=Selection(), kind=QueryKind.NEGATIVE))
        made = Counter(query.kind.value for query in queries if query.kind)
        by_kind.update(made)
        short.update({k.value: max(0, n - made[k.value]) for k, n in wanted.items()})
        result.append(replace(item, dialogue=replace(item.dialogue, queries=tuple(queries))))
    return Drawn(
        items=tuple(result),
        by_kind=dict(sorted(by_kind.items())),
        short={kind: n for kind, n in sorted(short.items()) if n},
    )


def is_negative(tag: str, item: LongDialogue) -> bool:
    """Whether no tag, text or caption of the dialogue has anything in common with the tag."""
    words = set(content_words(tag)) or {tag.strip().lower()}
    own_tags = {tagged.tag.lower() for tagged in tagged_elements(item)}
    if tag.lower() in own_tags:
        return False
    texts = [*own_tags, *element_texts(item.dialogue)]
    return not any(
        words & set(content_words(text)) or tag.lower() in text.lower() for text in texts
    )


def element_texts(dialogue: Dialogue) -> list[str]:
    """Texts and captions that are not empty, in reading order."""
    texts = [t for turn in dialogue.turns for t in (turn.text, *(i.caption for i in turn.images))]
    return [text for text in texts if text]


def _shares(rules: QueryRules) -> dict[QueryKind, float]:
    return {
        QueryKind.MULTI_MODAL: rules.multi_modal,
        QueryKind.UTTERANCE_ONLY: rules.utterance_only,
        QueryKind.IMAGE_ONLY: rules.image_only,
        QueryKind.NEGATIVE: rules.negative,
    }


def _times(share: float, rng: random.Random) -> int:
    whole = math.floor(share)
    return whole + (rng.random() < share - whole)


def _positives(
    item: LongDialogue, wanted: Mapping[QueryKind, int], rules: QueryRules, rng: random.Random
) -> list[Query]:
    tags = tagged_elements(item)
    rng.shuffle(tags)
    queries: list[Query] = []
    used: set[str] = set()
    for kind in (QueryKind.MULTI_MODAL, QueryKind.UTTERANCE_ONLY, QueryKind.IMAGE_ONLY):
        fitting = [(t.tag, t) for t in tags if t.kind == kind and t.tag not in used]
        if rules.derive_one_modality and kind != QueryKind.MULTI_MODAL:
            fitting += [(_phrase(item, kind, t.tag), _part(t, kind)) for t in tags if _mixed(t)]
        made = 0
        for text, tagged in fitting:
            # The same words on both levels may have two answers; a dialogue asks them once.
            if made == wanted[kind] or text in {query.query for query in queries}:
                continue
            made += 1
            used.add(tagged.tag)
            queries.append(
                Query(
                    query=text,
                    relevance=tagged.selection,
                    kind=kind,
                    source_kind=tagged.level,
                    fragment_id=fragment_of(item.dialogue, tagged.selection),
                )
            )
    return queries


def _mixed(tagged: Tagged) -> bool:
    return tagged.kind == QueryKind.MULTI_MODAL


def _part(tagged: Tagged, kind: QueryKind) -> Tagged:
    """The same tag with one modality only."""
    images = kind == QueryKind.IMAGE_ONLY
    selection = Selection(
        utterance_ids=frozenset() if images else tagged.selection.utterance_ids,
        image_ids=tagged.selection.image_ids if images else frozenset(),
    )
    return replace(tagged, selection=selection)


def _phrase(item: LongDialogue, kind: QueryKind, tag: str) -> str:
    return _ONE_MODALITY["zh" if item.dialogue.language == "zh" else "en"][kind].format(tag)


def _negative(
    number: int,
    items: Sequence[LongDialogue],
    donors: Sequence[tuple[int, str]],
    used: Sequence[str],
    rng: random.Random,
    embed: Embed | None,
    margin: float,
) -> str | None:
    """An unused and unrelated tag, or None when none of the tried ones is unrelated enough."""
    item = items[number]
    own_limit: float | None = None
    for _ in range(min(_TRIES, len(donors))):
        donor, tag = donors[rng.randrange(len(donors))]
        related = donor == number or set(items[donor].members) & set(item.members)
        if related or tag in used or not is_negative(tag, item):
            continue
        if embed is None:
            return tag
        texts = element_texts(item.dialogue)
        if own_limit is None:
            own = sorted({tagged.tag for tagged in tagged_elements(item)})
            own_limit = float(_closest(own, texts, embed).min())
        if float(_closest([tag], texts, embed)[0]) < own_limit - margin:
            return tag
    return None


def _closest(tags: Sequence[str], texts: Sequence[str], embed: Embed) -> NDArray[np.float32]:
    """Cosine of each tag with its closest text."""
    vectors = embed([*tags, *texts])
    closest: NDArray[np.float32] = (vectors[: len(tags)] @ vectors[len(tags) :].T).max(axis=1)
    return closest
