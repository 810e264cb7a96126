"""Prepare real chat logs for annotation and testing: clean, anonymise, split, and collect labels.

    python -m jobs.prepare_chatlog --in chats.jsonl --out runs/chats
    python -m jobs.prepare_chatlog --out runs/chats --annotations runs/filled

The first form writes `dialogues.jsonl`, `annotate.html` (to be filled without a network),
`dead_letter.jsonl`, `summary.json` and, where anything is masked, copies of the pictures under
names that say nothing (`images`). The second reads the files that people saved from the page and
writes `annotated.jsonl` and `agreement.json`. `ffrs import` makes records out of chat exports. The
key of the pseudonyms comes from the environment variable `FFRS_ANONYMISE_KEY`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
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


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the dialogues of the input."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of dialogues in and kept, and of everything inside the kept ones."""
    reasons: Counter[str] = field(default_factory=Counter)
    letters: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    """Of the kept dialogues and their pieces."""

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
                yield file, found


def run(config: ChatlogConfig) -> dict[str, Any]:
    """Prepare all dialogues and return the summary; see the module text.

    Raises:
        FfrError: No input, a list that is missing, or no key although something is to be masked.
    """
    files = list_files(config.input)
    words = WordLists.load(**{k: list(v) for k, v in config.lists.model_dump().items()})
    pseudonyms = _pseudonyms(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
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
    pages = _write_pages(config, out, images)
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


def _write_pages(config: ChatlogConfig, out: Path, reader: ImageReader) -> list[str]:
    """Pages of at most `page_dialogues` dialogues each."""
    path = out / "dialogues.jsonl"
    images = reader if config.embed_images else None
    dialogues = list(read_jsonl(path)) if images else _stored(path)
    names: list[str] = []
    for start in range(0, len(dialogues), config.page_dialogues):
        part = dialogues[start : start + config.page_dialogues]
        single = len(dialogues) <= config.page_dialogues
        name = "annotate.html" if single else f"annotate-{len(names) + 1:03d}.html"
        (out / name).write_text(build_page(part, images=images), encoding="utf-8")
        names.append(name)
    return names


def main(
    config: Annotated[Path | None, typer.Option(help="TOML file of the run.")] = None,
    input: Annotated[list[str] | None, typer.Option("--in", help="Files or folders.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result.")] = None,
    annotations: Annotated[
        list[Path] | None, typer.Option(help="Files that people saved from the page.")
    ] = None,
) -> None:
    """Prepare chat logs, or collect their annotations."""
    try:
        parsed = ChatlogConfig.load(config) if config else ChatlogConfig()
        changes: dict[str, Any] = {"input": tuple(input)} if input else {}
        changes.update({"out": str(out)} if out else {})
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
