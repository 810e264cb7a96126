"""Which topics a dialogue has, and which pictures: chosen so that single words do not decide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from ffr_core.dataset.synthetic.pictures import PictureSpec
from ffr_core.dataset.synthetic.words import OBJECTS, Split, colors_of, places_of, settings_of

MAX_PICTURES = 8
_MAX_EQUAL = 2
"""Most pictures of one object in one color."""
_AGAIN = 0.1
"""How often a color that an object had already is drawn although another one is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """An object, what is done with it, and where."""

    object: str
    action: str
    place: str
    key: str
    """Slots (of a, o, p) that tell this topic from the others of its dialogue."""
    shares_object: bool
    """Whether another topic is about the same kind of object, at another place."""

    def value(self, slot: str) -> str:
        """The concept in slot a, o or p."""
        return {"a": self.action, "o": self.object, "p": self.place}[slot]


_Triple = tuple[str, str, str]


def choose_topics(count: int, split: Split, rng: Random) -> tuple[Topic, ...]:
    """Draw topics; most share the object, the place or the action with an earlier one."""
    chosen: list[_Triple] = [_draw(rng.choice(OBJECTS), split, rng)]
    while len(chosen) < count:
        chosen.append(_rival(rng.choice(chosen), chosen, split, rng))
    return tuple(_topic(triple, chosen) for triple in chosen)


def _draw(key: str, split: Split, rng: Random) -> _Triple:
    return key, *rng.choice(settings_of(key, split))


def _rival(base: _Triple, chosen: list[_Triple], split: Split, rng: Random) -> _Triple:
    kind = rng.choices(("object", "place", "action", "none"), (30, 30, 25, 15))[0]
    # Two topics may share an object, a third would leave too few colors and places.
    shared = sum(other[0] == base[0] for other in chosen) > 1
    for attempt in range(60):
        same = kind == "object" and attempt < 40 and not shared
        key, action, place = _draw(base[0] if same else rng.choice(OBJECTS), split, rng)
        if any(_clash((key, action, place), other, same) for other in chosen):
            continue
        wanted = {"place": place == base[2], "action": action == base[1]}.get(kind, True)
        if wanted or attempt >= 40:
            return key, action, place
    raise AssertionError("no topic can be drawn that differs from the others")


def _clash(new: _Triple, other: _Triple, may_share_object: bool) -> bool:
    if new[0] != other[0]:
        return False
    return not may_share_object or new[1] == other[1] or new[2] == other[2]


def _topic(triple: _Triple, chosen: list[_Triple]) -> Topic:
    others = [other for other in chosen if other != triple]
    position = {"o": 0, "a": 1, "p": 2}
    unique = [s for s in "oap" if all(o[position[s]] != triple[position[s]] for o in others)]
    # Two topics with one object differ in the place, so object and place always tell them apart.
    return Topic(
        object=triple[0],
        action=triple[1],
        place=triple[2],
        key=unique[0] if unique else "op",
        shares_object="o" not in unique,
    )


def choose_pictures(
    topics: tuple[Topic, ...], count: int, split: Split, rng: Random
) -> list[tuple[int, PictureSpec]]:
    """Draw pictures as (topic, spec): one object in several colors, one color on several objects.

    A picture belongs to the topic of its object. Where two topics share the object, the place in
    the picture is the place of the topic.
    """
    colors = _choose_colors(topics, split, rng)
    used: Counter[tuple[str, str]] = Counter()
    drawn: list[tuple[int, PictureSpec]] = []
    order = list(range(len(topics)))
    rng.shuffle(order)
    while len(drawn) < count:
        position = order[len(drawn) // 2 % len(order)] if rng.random() < 0.8 else rng.choice(order)
        topic = topics[position]
        color = _choose_color(topic.object, colors, used, rng)
        used[topic.object, color] += 1
        at_topic = topic.shares_object or rng.random() < 0.3
        place = topic.place if at_topic else rng.choice(places_of(topic.object, split))
        style = 2 * rng.getrandbits(40) + (split == "heldout")
        drawn.append((position, PictureSpec(topic.object, color, place, style)))
    return drawn


def _choose_color(
    key: str, palette: dict[str, tuple[str, ...]], used: Counter[tuple[str, str]], rng: Random
) -> str:
    colors = palette[key]
    rivals = {color for other, known in palette.items() if other != key for color in known}
    limit = _MAX_EQUAL if rng.random() < _AGAIN else 1
    free = [color for color in colors if used[key, color] < limit]
    free = free or [color for color in colors if used[key, color] < _MAX_EQUAL] or list(colors)
    # Colors that another object can have as well come more often: the color alone says little.
    return rng.choices(free, [4 if color in rivals else 1 for color in free])[0]


def _choose_colors(
    topics: tuple[Topic, ...], split: Split, rng: Random
) -> dict[str, tuple[str, ...]]:
    """Three colors an object, preferring those that other objects have already."""
    seen: set[str] = set()
    chosen: dict[str, tuple[str, ...]] = {}
    for topic in topics:
        if topic.object in chosen:
            continue
        known = list(colors_of(topic.object, split))
        rng.shuffle(known)
        known.sort(key=lambda color: color not in seen)
        chosen[topic.object] = tuple(known[:3])
        seen.update(chosen[topic.object])
    return chosen
