"""What goes over HTTP. Requests refuse unknown keys; responses document themselves in OpenAPI."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from ffr_core.pipeline import MAX_QUERY_CHARS
from ffr_core.types import Filters

Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


def _written_time(value: object) -> object:
    """Refuse numbers, also as text: they would be read as seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-", value)):
        return value
    raise PydanticCustomError("time", "a time is text with a zone, such as 2025-02-01T00:00:00Z")


def _addressable(dialogue_id: str) -> str:
    """Refuse ids that no address can hold."""
    if not dialogue_id.strip() or dialogue_id in (".", ".."):
        raise PydanticCustomError("dialogue_id", "an id must not be blank, '.' or '..'")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in dialogue_id):
        raise PydanticCustomError("dialogue_id", "an id must not hold control characters")
    return dialogue_id


Instant = Annotated[AwareDatetime, BeforeValidator(_written_time)]
DialogueName = Annotated[Name, AfterValidator(_addressable)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SearchFilters(_Request):
    """Restrictions; every field given must hold."""

    participants: tuple[Name, ...] = Field(default=(), max_length=256, examples=[["Ruth"]])
    """At least one of these people takes part in the fragment; upper and lower case are equal."""
    since: Instant | None = Field(default=None, examples=["2025-02-01T00:00:00Z"])
    """What matches was said at or after this time; needs a zone."""
    until: Instant | None = None
    """What matches was said before this time; needs a zone."""
    has_image: StrictBool | None = None
    """The fragment holds an image (true) or none (false)."""
    dialogue_ids: tuple[Name, ...] = Field(default=(), max_length=10_000)
    """Search only these dialogues."""

    def to_filters(self) -> Filters:
        """The form that the index takes."""
        return Filters(
            participants=self.participants,
            since=self.since,
            until=self.until,
            has_image=self.has_image,
            dialogue_ids=self.dialogue_ids,
        )


class SearchRequest(_Request):
    """A search."""

    query: str = Field(
        min_length=1, max_length=MAX_QUERY_CHARS, examples=["where does the family celebrate?"]
    )
    """What you are looking for, in any words."""
    filters: SearchFilters = SearchFilters()
    num_candidates: StrictInt | None = Field(default=None, ge=1)
    """Fragments that are read closely; more is slower and finds more."""
    limit: StrictInt = Field(default=10, ge=1)
    """Dialogues in the answer, at most."""


class ImageOut(BaseModel):
    """An image of a turn."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    image_id: int
    """Position among the images of the dialogue, from 0."""
    url: str | None
    """A relative address that works for a while without a key; null: the picture is not there."""
    caption: str | None
    matched: bool
    """The image answers the query."""
    confidence: float | None
    """Probability that a person would select it; null where it does not match."""


class TurnOut(BaseModel):
    """One message."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    turn_id: int
    """Position in the dialogue, from 0."""
    speaker: str
    timestamp: str | None
    """ISO 8601, or the source's own words where they are ambiguous."""
    text: str
    matched: bool
    """The text answers the query."""
    confidence: float | None
    """Probability that a person would select it; null where it does not match."""
    images: list[ImageOut]


class DialogueOut(BaseModel):
    """What was found in one dialogue."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    dialogue_id: str
    title: str | None
    score: float
    """Probability that the dialogue answers the query; ranks the answer."""
    spans: list[tuple[int, int]]
    """Half-open ranges of the matching turns: `[4, 7]` means turns 4, 5 and 6."""
    turns: list[TurnOut]
    """The turns of the spans and their neighbors."""


class SearchResponse(BaseModel):
    """The answer, best dialogue first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    query: str
    filters: dict[str, Any]
    """The restrictions that were applied."""
    partial: bool
    """Something could not be read in time, so that more may be found by asking again."""
    took_ms: float
    total: int
    """Dialogues that match; `dialogues` holds the best `limit` of them."""
    adapter: str = ""
    """Version of the model that read all candidates; left out where none does."""
    dialogues: list[DialogueOut]


class ImageIn(_Request):
    """An image by reference."""

    image_id: StrictInt = Field(ge=0)
    uri: str | None = Field(default=None, max_length=4096)
    """A path, `file://` or `s3://` below a configured root; `http` references are never fetched."""
    path: str | None = Field(default=None, max_length=4096)
    """Another name of `uri`."""
    ref: str | None = Field(default=None, max_length=4096)
    """Where the picture comes from; taken for `uri` when there is none."""
    caption: str | None = None
    text: str | None = None
    """Text inside the picture."""
    ocr: StrictBool = False
    """Whether OCR read that text."""


class TurnIn(_Request):
    """One message."""

    turn_id: StrictInt = Field(ge=0)
    """Position in the dialogue, from 0 without gaps."""
    speaker: str | None = Field(default=None, max_length=1024)
    text: str | None = None
    timestamp: str | None = Field(default=None, max_length=200)
    """ISO 8601; a time without a zone is UTC."""
    timestamp_text: str | None = Field(default=None, max_length=200)
    reply_to: StrictInt | None = Field(default=None, ge=0)
    images: list[ImageIn] | None = None


class DialogueIn(_Request):
    """One dialogue, in the form of a corpus record."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dialogue_id": "book-club",
                    "title": "Book club",
                    "turns": [
                        {
                            "turn_id": 0,
                            "speaker": "Ada",
                            "text": "Shall we meet on Friday?",
                            "timestamp": "2025-03-01T18:00:00+01:00",
                        },
                        {"turn_id": 1, "speaker": "Ben", "text": "Yes, at my place."},
                    ],
                }
            ]
        },
    )

    dialogue_id: DialogueName
    """Not blank, `.` or `..`, and without control characters."""
    title: str | None = Field(default=None, max_length=1000)
    language: str | None = Field(default=None, max_length=20)
    turns: list[TurnIn] = Field(min_length=1)
    source: Any = Field(default=None, exclude=True)
    """Ignored, as the other labels of a corpus."""
    fragments: Any = Field(default=None, exclude=True)
    """Ignored: the service cuts dialogues itself."""
    fragment_titles: Any = Field(default=None, exclude=True)
    """Ignored."""
    queries: Any = Field(default=None, exclude=True)
    """Ignored."""

    def record(self) -> dict[str, Any]:
        """The corpus record, without labels."""
        return self.model_dump(exclude_unset=True)


class AddResponse(BaseModel):
    """What adding a dialogue did."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    dialogue_id: str
    change: str = Field(examples=["indexed"])
    """`indexed`: new; `updated`: replaced; `unchanged`: the same was there."""
    fragments: int
    """Coherent parts that the dialogue was cut into."""


class DeleteResponse(BaseModel):
    """A deleted dialogue."""

    dialogue_id: str
    deleted: bool


class PageResponse(BaseModel):
    """Part of a dialogue."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    dialogue_id: str
    title: str | None
    language: str | None
    participants: list[str]
    num_turns: int
    """Turns of the whole dialogue."""
    start: int
    """First turn of this page."""
    turns: list[TurnOut]


class LocalizerRequest(_Request):
    """A roll-over."""

    path: str = Field(min_length=1, max_length=4096, examples=["/data/adapters/f2rvlm-2"])
    """Adapter folder that all processes of the service can read."""
    calibration: str | None = Field(default=None, max_length=4096)
    """Calibration file that belongs to the adapter; raw probabilities without one."""


class LocalizerResponse(BaseModel):
    """The version that searches use from now on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    adapter: str
    """Version of the adapter: a hash of its folder."""
    path: str
    calibration: str | None
    previous: str | None = None
    """The version before."""
    replicas: int | None = None
    """Localizer processes that have loaded it."""


class StatsResponse(BaseModel):
    """Counts of the caller's own data."""

    dialogues: int
    fragments: int
    passages: int


class ErrorBody(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str = Field(examples=["not_found"])
    """A stable word for programs."""
    message: str
    """One sentence for people."""


class ErrorResponse(BaseModel):
    """Every answer that is not 2xx."""

    error: ErrorBody


def filters_record(filters: Filters) -> dict[str, Any]:
    """The restrictions in force, as JSON; those not given are left out."""

    def plain(value: object) -> object:
        if isinstance(value, datetime):
            return value.isoformat()
        return list(value) if isinstance(value, tuple) else value

    fields = ("participants", "since", "until", "has_image", "dialogue_ids")
    values = {name: getattr(filters, name) for name in fields}
    return {name: plain(value) for name, value in values.items() if value not in ((), None)}
