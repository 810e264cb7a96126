"""Steps of a pipeline that are done once: each has a folder, and a mark when it is complete.

The mark holds a key made of the step's settings and of the key before it, so a change of a setting
repeats that step and those after it, and nothing else. A step that was cut off finds what it had
written (`resumed` is true) and goes on; what an older key left behind is removed first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Counts = dict[str, Any]
_MARK = "done.json"
_KEY = "key.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that is complete."""

    folder: Path
    key: str
    counts: Counts
    """What the step counted, as it was written."""
    repeated: bool
    """Whether it ran now; False when an earlier run had done it."""


def run_step(
    root: Path,
    name: str,
    settings: Any,
    before: Done | None,
    work: Callable[[Path], Counts],
) -> Done:
    """Run `work` in the step's folder unless the same step is complete.

    Args:
        root: Folder of all steps.
        name: Folder of this one.
        settings: Everything that its result depends on, JSON-serializable.
        before: The step whose result it reads.
        work: Does it; gets the folder, returns counts. It may find files of a run that was cut off.
    """
    described = json.dumps([name, settings, before.key if before else ""], sort_keys=True)
    key = hashlib.sha256(described.encode()).hexdigest()
    folder = root / name
    mark = folder / _MARK
    if mark.is_file():
        record = json.loads(mark.read_text(encoding="utf-8"))
        if record["key"] == key:
            return Done(folder=folder, key=key, counts=record["counts"], repeated=False)
    started = folder / _KEY
    if folder.exists() and not (started.is_file() and started.read_text() == key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    started.write_text(key)
    counts = work(folder)
    write_json(mark, {"key": key, "counts": counts})
    return Done(folder=folder, key=key, counts=counts, repeated=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def write_records(path: Path, records: Iterable[Any]) -> int:
    """Write JSON Lines as a whole or not at all; returns their number."""
    part = path.with_name(path.name + ".part")
    number = 0
    with part.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            number += 1
    part.replace(path)
    return number


def read_records(path: Path) -> Iterator[Any]:
    """JSON Lines; a last line that was cut off by a kill is left out."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.endswith("\n"):
                yield json.loads(line)


def append_log(path: Path, keep: Callable[[Any], bool]) -> set[str]:
    """Keys of a log that grows line by line; lines that `keep` refuses or a kill cut off go."""
    if not path.is_file():
        return set()
    keys: set[str] = set()

    def kept() -> Iterator[Any]:
        for record in read_records(path):
            if keep(record):
                keys.add(record["key"])
                yield record

    write_records(path, kept())
    return keys
