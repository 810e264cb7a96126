"""The image specs: what a sample picture shows, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ffr_core.errors import InputError

ColorName = Literal[
    "red", "orange", "yellow", "green", "blue", "purple", "pink",
    "brown", "black", "white", "gray", "teal", "navy", "beige",
]  # fmt: skip
ObjectName = Literal[
    "bicycle", "car", "bus", "dog", "cat", "tree", "house", "boat", "umbrella", "cake", "cup",
    "book", "chair", "table", "sofa", "lamp", "plant", "ball", "kite", "sun", "moon", "person",
    "bird", "suitcase", "shoe", "shirt", "dress", "phone", "laptop", "key", "bag", "hat", "flower",
    "fish", "pizza", "bowl", "clock", "bridge", "tent", "campfire", "snowman", "balloon", "gift",
    "guitar", "bottle", "box", "ladder", "fence", "shelf", "window", "door", "bed", "rug",
    "picture", "backpack", "scooter", "train", "plane", "bread", "apple", "fridge",
    "washing_machine",
]  # fmt: skip
SettingName = Literal[
    "beach", "mountain", "city", "street", "park", "forest", "lake", "living_room", "kitchen",
    "office", "bedroom", "garden", "market", "station", "night_sky", "studio",
]  # fmt: skip
Season = Literal["summer", "winter", "autumn"]
Sky = Literal["sun", "cloud", "rain", "snow", "storm"]
Text = Annotated[str, Field(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


class SpecError(InputError):
    """A spec that cannot be drawn; the sentence names the entry, the value and what is allowed."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Image(_Spec):
    name: str = "unnamed"
    """File name of the picture; it does not change what is drawn."""


class Receipt(_Image):
    """A till receipt."""

    kind: Literal["receipt"]
    shop: Text
    date: Text
    lines: list[tuple[Text, Text]]
    total: Text


class Chart(_Image):
    """Labelled values as bars, a line or a pie."""

    kind: Literal["bar_chart", "line_chart", "pie_chart"]
    title: Text
    labels: Annotated[list[Text], Field(min_length=1, max_length=12)]
    values: Annotated[list[float], Field(min_length=1, max_length=12)]
    unit: str = ""


class Table(_Image):
    """A titled grid of texts."""

    kind: Literal["table"]
    title: Text
    header: Annotated[list[Text], Field(min_length=1, max_length=7)]
    rows: Annotated[list[list[str]], Field(min_length=1, max_length=14)]


class Place(_Spec):
    """A named point of a map."""

    name: Text
    x: Percent
    y: Percent


class Map(_Image):
    """A city map with pins and an optional route."""

    kind: Literal["map"]
    title: Text
    places: Annotated[list[Place], Field(min_length=1)]
    route: list[str] = []
    highlight: str | None = None
    water: bool = False


class Card(_Image):
    """A small printed thing: ticket, invitation, label and so on."""

    kind: Literal["card"]
    style: Literal["ticket", "invitation", "business", "membership", "boarding", "label"]
    title: Text
    lines: Annotated[list[Text], Field(min_length=1, max_length=8)]
    accent: ColorName = "blue"


class Screen(_Image):
    """A screenshot of an app."""

    kind: Literal["screen"]
    app: Text
    title: Text
    rows: Annotated[list[tuple[Text, str]], Field(max_length=10)]
    alert: str | None = None


class Calendar(_Image):
    """A month sheet with marked days."""

    kind: Literal["calendar"]
    title: Text
    days_in_month: Annotated[int, Field(ge=28, le=31)]
    first_weekday: Annotated[int, Field(ge=0, le=6)]
    marked: dict[str, Text] = {}


class Note(_Image):
    """A handwritten note."""

    kind: Literal["note"]
    lines: Annotated[list[Text], Field(min_length=1, max_length=14)]
    paper: Literal["yellow", "white", "blue", "pink"] = "yellow"
    style: Literal["sticky", "lined", "whiteboard"] = "sticky"


class Room(_Spec):
    """A rectangle of a floor plan, in percent of the plan."""

    name: Text
    x: Percent
    y: Percent
    w: Annotated[float, Field(gt=0, le=100)]
    h: Annotated[float, Field(gt=0, le=100)]


class FloorPlan(_Image):
    """Rooms seen from above."""

    kind: Literal["floor_plan"]
    title: Text
    rooms: Annotated[list[Room], Field(min_length=1)]


class Weather(_Image):
    """A forecast of some days."""

    kind: Literal["weather"]
    place: Text
    days: Annotated[list[tuple[Text, Sky, Text]], Field(min_length=1, max_length=7)]


class Thing(_Spec):
    """One object of a scene; `x`, `y` are the percent position of its foot."""

    what: ObjectName
    color: ColorName
    x: Percent
    y: Percent
    size: Annotated[float, Field(ge=0.5, le=2)] = 1.0


class Scene(_Image):
    """A place with objects in it."""

    kind: Literal["scene"]
    setting: SettingName
    objects: list[Thing] = []
    season: Season | None = None


Spec = Annotated[
    Receipt | Chart | Table | Map | Card | Screen | Calendar | Note | FloorPlan | Weather | Scene,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(Spec)


def parse(raw: Mapping[str, object]) -> Spec:
    """Checks one raw spec.

    Raises:
        SpecError: one sentence with the entry's name, the wrong value and what is allowed.
    """
    name = str(raw.get("name", "unnamed"))
    try:
        spec = _ADAPTER.validate_python(dict(raw))
    except ValidationError as error:
        raise SpecError(f"{name}: {_sentence(error.errors()[0])}") from None
    problem = _mismatch(spec)
    if problem:
        raise SpecError(f"{name}: {problem}")
    return spec


def _sentence(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "union_tag_not_found":
        return "'kind' is missing; give one of " + str(_kinds())
    if detail["type"] == "union_tag_invalid":
        return f"kind is {context['tag']!r}; allowed are {context['expected_tags']}."
    path = ".".join(str(part) for part in detail["loc"][1:])
    if detail["type"] == "missing":
        return f"'{path}' is missing; add it."
    if detail["type"] == "extra_forbidden":
        return f"'{path}' is not a parameter of kind {detail['loc'][0]!r}; remove it."
    if detail["type"] == "literal_error":
        return f"{path} is {detail['input']!r}; allowed are {context['expected']}."
    return f"{path} is {detail['input']!r}; {detail['msg'][:1].lower()}{detail['msg'][1:]}."


def _kinds() -> str:
    schema = _ADAPTER.json_schema()
    return ", ".join(schema["discriminator"]["mapping"]) + "."


def _mismatch(spec: Spec) -> str | None:
    """Says what contradicts itself inside a well-formed spec."""
    if isinstance(spec, Chart):
        if len(spec.labels) != len(spec.values):
            return f"{len(spec.labels)} labels but {len(spec.values)} values; give one each."
        if spec.kind != "line_chart" and min(spec.values) < 0:
            return f"values has {min(spec.values)}; a {spec.kind} allows 0 and more."
        if spec.kind == "pie_chart" and sum(spec.values) <= 0:
            return f"values sum to {sum(spec.values)}; a pie_chart needs more than 0."
    if isinstance(spec, Table):
        for number, row in enumerate(spec.rows):
            if len(row) != len(spec.header):
                return f"rows.{number} has {len(row)} cells; the header has {len(spec.header)}."
    if isinstance(spec, Map):
        known = {place.name for place in spec.places}
        for place in [*spec.route, *([spec.highlight] if spec.highlight else [])]:
            if place not in known:
                return f"{place!r} is no place of this map; allowed are {sorted(known)}."
    if isinstance(spec, Calendar):
        for day in spec.marked:
            if not (day.isdecimal() and 1 <= int(day) <= spec.days_in_month):
                return f"marked has day {day!r}; allowed are '1' to '{spec.days_in_month}'."
    return None
