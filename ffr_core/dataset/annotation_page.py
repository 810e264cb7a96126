"""A page that people fill without a network, and what comes back from them.

The page is one HTML file with the dialogues inside it. People write queries (or answer given ones),
click the turns and pictures that answer them, and save a JSON file, which `read_annotations` reads.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ffr_core.dataset.agreement import Key, majority
from ffr_core.errors import FfrError, InputError
from ffr_core.images import ImageReader
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue, Query, QueryKind, Selection

_THUMBNAIL = 480
"""Pixels of the longer side of a picture inside the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What several people said."""

    by_query: Mapping[Key, Mapping[str, Selection]]
    """(dialogue_id, query) -> annotator -> selection."""
    left_out: Mapping[str, int]
    """Reason -> number of entries that could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Dialogues with the queries that people gave them."""

    dialogues: tuple[Dialogue, ...]
    no_agreement: int
    """Queries that are left out: people selected something, but no majority the same."""


def build_page(
    dialogues: Sequence[Dialogue],
    queries: Mapping[str, Sequence[str]] | None = None,
    images: ImageReader | None = None,
) -> str:
    """The page as HTML.

    Args:
        dialogues: What to annotate.
        queries: Given queries by dialogue id, which people only answer; None: they write their own.
        images: Opens pictures to be put into the page; None leaves their URIs, which the browser
            opens only where it may.
    """
    records = [_record(dialogue, images) for dialogue in dialogues]
    given = {name: list(texts) for name, texts in (queries or {}).items()}
    content = json.dumps([records, given], ensure_ascii=False, sort_keys=True)
    data = {
        "set": hashlib.sha256(content.encode()).hexdigest()[:16],
        "dialogues": records,
        "queries": given,
    }
    # Nothing that a person typed may end the script element or open a comment in it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
    template = resources.files("ffr_core") / "data" / "chatlog" / "annotate.html"
    return template.read_text(encoding="utf-8").replace("__DATA__", text)


def read_annotations(paths: Iterable[Path], dialogues: Mapping[str, Dialogue]) -> Annotations:
    """Read saved files; entries that do not fit the dialogues are counted.

    An entry that is there already (a file that was saved, continued and saved again) is counted as
    `repeated`.

    Raises:
        InputError: A file is not one that the page saved, or one name stands for two different
            selections, of which nobody can say here which one is meant.
    """
    found: dict[Key, dict[str, Selection]] = {}
    left_out: dict[str, int] = {}
    for path in paths:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            annotator = _annotator(record["annotator"])
            parsed = [_entry(entry) for entry in record["annotations"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a file that the page saved: {error!r:.120}") from error
        for dialogue_id, query, selection in parsed:
            reason = _problem(dialogues.get(dialogue_id), selection)
            if not reason:
                said = found.setdefault((dialogue_id, query), {})
                reason = "repeated" if annotator in said else ""
                if said.setdefault(annotator, selection) != selection:
                    raise InputError(
                        f"{path}: {annotator!r:.60} answers the query {query!r:.60} of"
                        f" {dialogue_id!r:.60} a second time and differently; keep the newer"
                        " answer only, or give two people of one name different names"
                    )
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
    return Annotations(by_query=found, left_out=left_out)


def adopt(dialogues: Sequence[Dialogue], annotations: Annotations, share: float = 0.5) -> Adopted:
    """Give dialogues their queries; the majority decides about the gold ids.

    A query is negative when the majority selected nothing. Where neither that nor any id has a
    majority, people do not agree, and the query is left out and counted.

    Example:
        Two people select {1} and {2}: no agreement. Two of three select nothing: negative.
    """
    queries: dict[str, list[Query]] = {}
    no_agreement = 0
    for (dialogue_id, text), found in sorted(annotations.by_query.items()):
        selections = list(found.values())
        gold = majority(selections, share)
        nothing = sum(not selection for selection in selections)
        if not gold and nothing <= share * len(selections):
            no_agreement += 1
            continue
        queries.setdefault(dialogue_id, []).append(
            Query(query=text, relevance=gold, kind=_kind(gold))
        )
    adopted = (replace(d, queries=tuple(queries.get(d.dialogue_id, ()))) for d in dialogues)
    return Adopted(dialogues=tuple(adopted), no_agreement=no_agreement)


def _annotator(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the annotator is {name!r:.60}, not a name")
    return name.strip()


def _entry(entry: Mapping[str, Any]) -> tuple[str, str, Selection]:
    return (
        str(entry["dialogue_id"]),
        " ".join(str(entry["query"]).split()),
        Selection(
            utterance_ids=frozenset(int(i) for i in entry["utt_ids"]),
            image_ids=frozenset(int(i) for i in entry["img_ids"]),
        ),
    )


def _problem(dialogue: Dialogue | None, selection: Selection) -> str:
    if dialogue is None:
        return "unknown_dialogue"
    known = all(0 <= i < len(dialogue.turns) for i in selection.utterance_ids) and all(
        0 <= i < len(dialogue.images) for i in selection.image_ids
    )
    return "" if known else "unknown_id"


def _kind(gold: Selection) -> QueryKind:
    if gold.utterance_ids:
        return QueryKind.MULTI_MODAL if gold.image_ids else QueryKind.UTTERANCE_ONLY
    return QueryKind.IMAGE_ONLY if gold.image_ids else QueryKind.NEGATIVE


def _record(dialogue: Dialogue, images: ImageReader | None) -> dict[str, Any]:
    record = record_from_dialogue(replace(dialogue, fragments=None, queries=None))
    if images is not None:
        for turn in record["turns"]:
            for image in turn["images"]:
                image["uri"] = _thumbnail(image["uri"], images)
    return record


def _thumbnail(uri: str | None, images: ImageReader) -> str | None:
    """A picture as a data URI; None when it cannot be read."""
    if uri is None:
        return None
    try:
        picture = images.open(uri)
    except FfrError:
        return None
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
