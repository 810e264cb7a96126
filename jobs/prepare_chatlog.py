"""Prepare real chat logs for annotation and testing: clean, anonymise, split, and collect labels.

    python -m jobs.prepare_chatlog --in chats.jsonl --out runs/chats
    python -m jobs.prepare_chatlog --out runs/chats --annotations runs/filled

The first form writes `dialogues.jsonl`, `annotate.html` (to be filled without a network),
`dead_letter.jsonl`, `summary.json` and, where anything is masked, copies of the pictures under
names that say nothing (`images`). Pages and copies of an earlier run are removed. With `--queries`
the pages ask everybody the same, which their agreement needs. The second reads the files that
people saved from the page and writes `annotated.jsonl` and `agreement.json`. `ffrs import` makes
records out of chat exports. The key of the pseudonyms comes from the environment variable
`FFRS_ANONYMISE_KEY`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from ffr_core.config import Config
from ffr_core.dataset.agreement import agreement
from ffr_core.dataset.annotation_page import adopt, build_page, read_annotations
from ffr_core.dataset.chat_pictures import ChatPictures
from ffr_core.dataset.chat_text import ChatRules, WordLists
from ffr_core.dataset.chatlog import Prepared, prepare
from ffr_core.dataset.pictures import IMAGES
from ffr_core.dataset.privacy import Pseudonyms
from ffr_core.dataset.sources import Unreadable, list_files, read_file
from ffr_core.dataset.steps import write_json, write_records
from ffr_core.errors import ConfigError, FfrError, InputError, NotFoundError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import (
    dialogue_from_record,
    read_json_lines,
    read_jsonl,
    record_from_dialogue,
)
from ffr_core.types import Dialogue

_PAGE = re.compile(r"annotate(-\d{3,})?\.html")
_COPY = re.compile(r"[0-9a-f]{16}\.jpg(\.part)?")
"""Name of a picture that `ChatPictures` copied."""
_CORPORA = ("dialogues.jsonl", "annotated.jsonl")
Queries = dict[str, list[str]]
"""Given queries by dialogue id."""


class ListsConfig(Config):
    """`[lists]`: word lists; an empty list means the one that ships."""

    profanity: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    void: tuple[str, ...] = ()


class ChatlogConfig(Config):
    """A run of the preparation."""

    input: tuple[str, ...] = ()
    """Files or folders of records."""
    out: str = "runs/chats"
    rules: ChatRules = ChatRules()
    lists: ListsConfig = ListsConfig()
    key_env: str = "FFRS_ANONYMISE_KEY"
    """Environment variable with the key of the pseudonyms."""
    images: ImageLimits = ImageLimits()
    """Image roots beside the folders of the input."""
    embed_images: bool = True
    """Put small pictures into the page, so that it is one file."""
    page_dialogues: int = Field(default=50, ge=1)
    """Dialogues a page."""
    queries: str | None = None
    """JSON lines `{"dialogue_id", "query"}` that the pages show as they are, ids as in
    `dialogues.jsonl` of a first run."""


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the dialogues of the input."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of dialogues in and kept, and of everything inside the kept ones."""
    reasons: Counter[str] = field(default_factory=Counter)
    letters: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    """Of the kept dialogues and their pieces."""
    pictures: set[str] = field(default_factory=set)
    """File names of the input's pictures, which may lie where the copies do."""

    def drop(self, letter: dict[str, Any]) -> None:
        """Count a dialogue that is left out.

        Ids and messages about a record may name people, so a letter holds its place only.
        """
        self.reasons[letter["reason"]] += 1
        self.letters.append(letter)

    def decide(self, file: Path, dialogue: Dialogue, prepared: Prepared) -> tuple[Dialogue, ...]:
        """The pieces that are kept; none of a dialogue whose id an earlier one has."""
        ids = {dialogue.dialogue_id, *(piece.dialogue_id for piece in prepared.pieces)}
        reason = prepared.reason or ("duplicate_id" if ids & self.ids else "")
        if reason:
            self.drop({"source": str(file), "reason": reason})
            return ()
        self.ids |= ids
        self.counts.update(prepared.counts)
        self.counts["dialogues_kept"] += 1
        self.counts["messages_in_kept_dialogues"] += prepared.messages
        self.counts["pieces"] += len(prepared.pieces)
        self.counts["turns"] += sum(len(piece.turns) for piece in prepared.pieces)
        self.counts["images"] += sum(len(piece.images) for piece in prepared.pieces)
        return prepared.pieces


def _read(files: Sequence[Path], tally: _Tally) -> Iterator[tuple[Path, Dialogue]]:
    """The dialogues of the input; what cannot be read is counted."""
    for file in files:
        for found in read_file(file, "records"):
            tally.counts["dialogues_in"] += 1
            if isinstance(found, Unreadable):
                letter = {"source": found.source, "position": found.position}
                tally.drop({**letter, "reason": found.reason})
            else:
                tally.pictures.update(Path(image.uri).name for image in found.images if image.uri)
                yield file, found


def run(config: ChatlogConfig) -> dict[str, Any]:
    """Prepare all dialogues and return the summary; see the module text.

    Raises:
        FfrError: No input, a list that is missing, queries that fit no dialogue, or no key although
            something is to be masked.
    """
    files = list_files(config.input)
    words = WordLists.load(**{k: list(v) for k, v in config.lists.model_dump().items()})
    pseudonyms = _pseudonyms(config)
    queries = _read_queries(Path(config.queries)) if config.queries else {}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    _remove(out, _PAGE)
    roots = (*config.images.roots, *(str(file.parent) for file in files), str(out))
    images = ImageReader(limits=config.images.model_copy(update={"roots": roots}))
    pictures = ChatPictures(out, images, pseudonyms) if pseudonyms else None
    tally = _Tally()

    def records() -> Iterator[dict[str, Any]]:
        for file, dialogue in _read(files, tally):
            prepared = prepare(dialogue, config.rules, words, pseudonyms)
            for piece in tally.decide(file, dialogue, prepared):
                yield record_from_dialogue(pictures.place(piece) if pictures else piece)

    write_records(out / "dialogues.jsonl", records())
    write_records(out / "dead_letter.jsonl", tally.letters)
    _remove(out / IMAGES, _COPY, keep=_named_pictures(out) | tally.pictures)
    pages = _write_pages(config, out, images, queries)
    counts, reasons = tally.counts, tally.reasons
    assert counts["dialogues_in"] == counts["dialogues_kept"] + sum(reasons.values())
    summary = {
        **dict(sorted({**counts, **(pictures.counts if pictures else {})}.items())),
        "reasons": dict(sorted(reasons.items())),
        "pages": pages,
    }
    write_json(out / "summary.json", summary)
    return summary


def collect(out: Path, annotations: list[Path]) -> dict[str, Any]:
    """Read what people saved; writes `annotated.jsonl` and, of two or more, `agreement.json`.

    Raises:
        FfrError: `out` holds no dialogues, or a file is not one that the page saved.
    """
    path = out / "dialogues.jsonl"
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; prepare the chats first (--in)")
    dialogues = _stored(path)
    by_id = {dialogue.dialogue_id: dialogue for dialogue in dialogues}
    files = sorted(
        f for given in annotations for f in (given.glob("*.json") if given.is_dir() else [given])
    )
    if not files:
        raise NotFoundError("--annotations holds no .json file; save them from annotate.html")
    found = read_annotations(files, by_id)
    adopted = adopt(dialogues, found)
    kept = [dialogue for dialogue in adopted.dialogues if dialogue.queries]
    write_records(out / "annotated.jsonl", map(record_from_dialogue, kept))
    people = sorted({name for said in found.by_query.values() for name in said})
    summary: dict[str, Any] = {
        "annotators": people,
        "dialogues": len(kept),
        "queries": len(found.by_query),
        "no_agreement": adopted.no_agreement,
        "left_out": dict(found.left_out),
    }
    try:
        summary["agreement"] = asdict(agreement(found.by_query, by_id))
    except InputError as error:
        summary["agreement"] = None
        summary["why_no_agreement"] = str(error)
    write_json(out / "agreement.json", summary)
    return summary


def _pseudonyms(config: ChatlogConfig) -> Pseudonyms | None:
    if not (config.rules.anonymise or config.rules.mask_identifiers):
        return None
    key = os.environ.get(config.key_env)
    if not key:
        raise ConfigError(
            f"the environment variable {config.key_env} is not set; set it to a secret of at least"
            " 8 bytes and keep it, the same key gives the same pseudonyms"
        )
    return Pseudonyms(key)


def _stored(path: Path) -> list[Dialogue]:
    """Prepared dialogues as they are written: their pictures are relative to the folder."""
    return [dialogue_from_record(record) for _, record in read_json_lines(path)]


def _read_queries(path: Path) -> Queries:
    queries: Queries = {}
    for number, row in read_json_lines(path):
        try:
            dialogue_id, text = row["dialogue_id"], " ".join(row["query"].split())
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} line {number} is no query ({error!r:.80}); expected an object with"
                " dialogue_id and query"
            ) from error
        given = queries.setdefault(str(dialogue_id), [])
        if text and text not in given:
            given.append(text)
    return queries


def _named_pictures(out: Path) -> set[str]:
    """Files of pictures that the dialogues name, and those that people have annotated."""
    files = [file for name in _CORPORA if (file := out / name).is_file()]
    uris = [image.uri for file in files for d in _stored(file) for image in d.images]
    return {Path(uri).name for uri in uris if uri and uri.startswith(f"{IMAGES}/")}


def _remove(folder: Path, names: re.Pattern[str], keep: Set[str] = frozenset()) -> None:
    """Remove what an earlier run of this job wrote into a folder, and nothing else."""
    for path in folder.glob("*"):
        if names.fullmatch(path.name) and path.name not in keep and path.is_file():
            path.unlink()


def _write_pages(
    config: ChatlogConfig, out: Path, reader: ImageReader, queries: Queries
) -> list[str]:
    """Pages of at most `page_dialogues` dialogues each."""
    path = out / "dialogues.jsonl"
    images = reader if config.embed_images else None
    dialogues = list(read_jsonl(path)) if images else _stored(path)
    unknown = sorted(queries.keys() - {dialogue.dialogue_id for dialogue in dialogues})
    if unknown:
        raise InputError(
            f"{config.queries} asks about {unknown[0]!r:.80}, which {path} does not hold"
            f" ({len(unknown)} such ids); use its dialogue ids"
        )
    names: list[str] = []
    for start in range(0, len(dialogues), config.page_dialogues):
        part = dialogues[start : start + config.page_dialogues]
        single = len(dialogues) <= config.page_dialogues
        name = "annotate.html" if single else f"annotate-{len(names) + 1:03d}.html"
        ids = [dialogue.dialogue_id for dialogue in part]
        page = build_page(part, {i: queries[i] for i in ids if i in queries}, images)
        (out / name).write_text(page, encoding="utf-8")
        names.append(name)
    return names


def main(
    config: Annotated[Path | None, typer.Option(help="TOML file of the run.")] = None,
    input: Annotated[list[str] | None, typer.Option("--in", help="Files or folders.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result.")] = None,
    annotations: Annotated[
        list[Path] | None, typer.Option(help="Files that people saved from the page.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help='With --in: JSON lines {"dialogue_id", "query"} that people answer, ids as in'
            " dialogues.jsonl of a first run. Without it people write queries of their own, and"
            " their agreement cannot be measured."
        ),
    ] = None,
) -> None:
    """Prepare chat logs, or collect their annotations."""
    try:
        parsed = ChatlogConfig.load(config) if config else ChatlogConfig()
        changes: dict[str, Any] = {"input": tuple(input)} if input else {}
        changes.update({"out": str(out)} if out else {})
        changes.update({"queries": str(queries)} if queries else {})
        parsed = parsed.model_copy(update=changes)
        if annotations:
            summary = collect(Path(parsed.out), annotations)
        elif parsed.input:
            summary = run(parsed)
        else:
            raise ConfigError("nothing to do; give --in FILES or --annotations FILES")
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(json.dumps(summary, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
