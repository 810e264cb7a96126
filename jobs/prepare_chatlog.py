"""Prepare real chat logs for annotation and testing: clean, anonymise, split, and collect labels.

    python -m jobs.prepare_chatlog --in chats.jsonl --out runs/chats
    python -m jobs.prepare_chatlog --out runs/chats --annotations runs/filled

The first form writes `dialogues.jsonl`, `annotate.html` (to be filled without a network),
`dead_letter.jsonl` and `summary.json`. The second reads the files that people saved from the page
and writes `annotated.jsonl` and `agreement.json`. `ffrs import` makes records out of chat exports.
The key of the pseudonyms comes from the environment variable `FFRS_ANONYMISE_KEY`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from ffr_core.config import Config
from ffr_core.dataset.agreement import agreement
from ffr_core.dataset.annotation_page import adopt, build_page, read_annotations
from ffr_core.dataset.chat_text import ChatRules, WordLists
from ffr_core.dataset.chatlog import prepare
from ffr_core.dataset.privacy import Pseudonyms
from ffr_core.dataset.sources import Unreadable, list_files, read_file
from ffr_core.dataset.steps import write_json, write_records
from ffr_core.errors import ConfigError, FfrError, InputError, NotFoundError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import read_jsonl, record_from_dialogue


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
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    letters: list[dict[str, Any]] = []

    def pieces() -> Iterator[dict[str, Any]]:
        for file in files:
            for found in read_file(file, "records"):
                counts["dialogues_in"] += 1
                if isinstance(found, Unreadable):
                    reasons[found.reason] += 1
                    letters.append(asdict(found))
                    continue
                prepared = prepare(found, config.rules, words, pseudonyms)
                counts.update(prepared.counts)
                if prepared.reason:
                    reasons[prepared.reason] += 1
                    # The id may name people, so the dead letter holds its place only.
                    letters.append({"source": str(file), "reason": prepared.reason})
                    continue
                counts["dialogues_kept"] += 1
                counts["messages_in_kept_dialogues"] += prepared.messages
                for piece in prepared.pieces:
                    counts["pieces"] += 1
                    counts["turns"] += len(piece.turns)
                    counts["images"] += len(piece.images)
                    yield record_from_dialogue(piece)

    write_records(out / "dialogues.jsonl", pieces())
    write_records(out / "dead_letter.jsonl", letters)
    pages = _write_pages(config, out, [str(file.parent) for file in files])
    assert counts["dialogues_in"] == counts["dialogues_kept"] + sum(reasons.values())
    summary = {
        **dict(sorted(counts.items())),
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
    dialogues = list(read_jsonl(path))
    by_id = {dialogue.dialogue_id: dialogue for dialogue in dialogues}
    files = sorted(
        f for given in annotations for f in (given.glob("*.json") if given.is_dir() else [given])
    )
    if not files:
        raise NotFoundError("--annotations holds no .json file; save them from annotate.html")
    found = read_annotations(files, by_id)
    kept = [d for d in adopt(dialogues, found) if d.queries]
    write_records(out / "annotated.jsonl", map(record_from_dialogue, kept))
    people = sorted({name for said in found.by_query.values() for name in said})
    summary: dict[str, Any] = {
        "annotators": people,
        "dialogues": len(kept),
        "queries": len(found.by_query),
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


def _write_pages(config: ChatlogConfig, out: Path, roots: list[str]) -> list[str]:
    """Pages of at most `page_dialogues` dialogues each."""
    dialogues = list(read_jsonl(out / "dialogues.jsonl"))
    limits = config.images.model_copy(update={"roots": (*config.images.roots, *roots)})
    images = ImageReader(limits=limits) if config.embed_images else None
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
