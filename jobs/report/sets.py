"""Sets: dialogues, the queries asked of them, their translation, and the groups they fall into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffr_core.errors import InputError, NotFoundError
from ffr_core.types import Dialogue, Query, Selection
from jobs.eval_sets import EXCLUDED, Asked, EvalSet, read_set, spaced, turns_of, without_times
from jobs.report.config import SetConfig


@dataclass(frozen=True, kw_only=True)
class EvalData(EvalSet):
    """One set of a report as it is asked."""

    config: SetConfig
    ids: list[str]
    """Query id of each asked query: `dialogue_id/position`."""
    free: list[str]
    """Queries without gold, asked of the whole corpus."""
    left_out: dict[str, int]
    """Reason -> queries that are not asked."""

    @property
    def folder(self) -> str:
        """Pictures below it may be opened."""
        path = Path(self.config.path)
        return str((path if path.is_dir() else path.parent).resolve())


def load_data(config: SetConfig) -> EvalData:
    """Read a set, translate it, thin it out.

    Raises:
        NotFoundError: No such file.
        InputError: A translation that cannot be read, or what `read_set` refuses.
    """
    path = Path(config.path)
    if not path.exists():
        raise NotFoundError(f"there is no set at {path}; correct `path` of set {config.name!r}")
    free = _lines(config.queries) if config.queries else []
    dialogues = _dialogues(path, config)[: config.max_dialogues]
    left_out: dict[str, int] = {}
    translated = read_translation(Path(config.translation)) if config.translation else None
    asked: list[tuple[str, Asked]] = []
    kept = []
    for plain in dialogues:
        dialogue = plain if translated is None else translated.turns(plain)
        kept.append(dialogue)
        for position, query in enumerate(dialogue.queries or ()):
            name = f"{dialogue.dialogue_id}/{position}"
            if query.source_kind in EXCLUDED:
                left_out[str(query.source_kind)] = left_out.get(str(query.source_kind), 0) + 1
            elif translated is not None and name not in translated.queries:
                left_out["no_translation"] = left_out.get("no_translation", 0) + 1
            else:
                text = query.query if translated is None else translated.queries[name]
                asked.append((name, (dialogue, replace(query, query=text))))
    kept_queries = spaced(asked, config.max_queries)
    if len(kept_queries) < len(asked):
        left_out["max_queries"] = len(asked) - len(kept_queries)
    return EvalData(
        config=config,
        dialogues=kept,
        asked=[item for _, item in kept_queries],
        ids=[name for name, _ in kept_queries],
        free=free,
        left_out=left_out,
    )


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Texts in another language, by place."""

    queries: Mapping[str, str]
    """Query id -> text."""
    texts: Mapping[tuple[str, int], str]
    """(dialogue_id, turn_id) -> text."""

    def turns(self, dialogue: Dialogue) -> Dialogue:
        """The dialogue with its translated turns; the others stay as they are."""
        turns = tuple(
            replace(turn, text=self.texts.get((dialogue.dialogue_id, turn.turn_id), turn.text))
            for turn in dialogue.turns
        )
        return replace(dialogue, turns=turns)


def read_translation(path: Path) -> Translation:
    """Read JSON lines of translated queries and turns; see `SetConfig.translation`.

    Raises:
        InputError: A line that is neither.
    """
    queries: dict[str, str] = {}
    texts: dict[tuple[str, int], str] = {}
    for number, line in enumerate(_lines(str(path)), start=1):
        try:
            row = json.loads(line)
            if "turn_id" in row:
                texts[str(row["dialogue_id"]), int(row["turn_id"])] = str(row["text"])
            else:
                name = row.get("query_id") or f"{row['dialogue_id']}/{int(row['position'])}"
                queries[str(name)] = str(row["query"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} line {number} is no translation ({error!r}); expected query_id or"
                " dialogue_id and position with query, or dialogue_id, turn_id and text"
            ) from error
    return Translation(queries=queries, texts=texts)


def query_rows(data: EvalData) -> list[dict[str, Any]]:
    """What the report knows about each asked query: text, gold, groups."""
    return [
        {
            "id": name,
            "dialogue_id": dialogue.dialogue_id,
            "query": query.query,
            "utt_ids": sorted(query.relevance.utterance_ids),
            "img_ids": sorted(query.relevance.image_ids),
            "num_turns": len(dialogue.turns),
            "num_images": len(dialogue.images),
            "groups": groups(dialogue, query),
        }
        for name, (dialogue, query) in zip(data.ids, data.asked, strict=True)
    ]


def groups(dialogue: Dialogue, query: Query) -> dict[str, str]:
    """The groups that a query falls into."""
    span = normalized_span(dialogue, query.relevance)
    return {
        "kind": query.kind.value if query.kind else query.source_kind or "unknown",
        "language": dialogue.language or "unknown",
        "turns": turn_bucket(len(dialogue.turns)),
        "span": "no gold" if span is None else span_bucket(span),
    }


def turn_bucket(num_turns: int) -> str:
    """Up to 35, 36 to 65, over 65. Source: Fig. 7; where the borders fall: our reading."""
    if num_turns <= 35:
        return "up to 35"
    return "36 to 65" if num_turns <= 65 else "over 65"


def normalized_span(dialogue: Dialogue, gold: Selection) -> float | None:
    """(last - first + 1) / number of gold turns; None without gold. Our reading of Sec 5.1.3.

    The turn of a gold image is a gold turn.

    Example:
        Gold turns 2, 3 and 7: (7 - 2 + 1) / 3 = 2.
    """
    turns = turns_of(dialogue, gold)
    return (max(turns) - min(turns) + 1) / len(turns) if turns else None


def span_bucket(span: float) -> str:
    """1 (contiguous), up to 2, over 2."""
    if span <= 1:
        return "1 (contiguous)"
    return "up to 2" if span <= 2 else "over 2"


def _dialogues(path: Path, config: SetConfig) -> list[Dialogue]:
    dialogues = read_set(path)
    return [without_times(d) for d in dialogues] if config.hide_timestamps else dialogues


def _lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error}); save it as UTF-8") from error
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read ({error}); check the path") from error
    return [line for line in text.splitlines() if line.strip()]
