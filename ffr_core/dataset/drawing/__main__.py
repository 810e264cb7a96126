"""Draws every entry of a spec file: `python -m ffr_core.dataset.drawing SPECS.json OUT_DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ffr_core.dataset.drawing import FontMissingError, SpecError, draw, encode


def main(arguments: list[str] | None = None) -> int:
    """Draws all entries; names every refused one and then returns 1."""
    parser = argparse.ArgumentParser(prog="python -m ffr_core.dataset.drawing", description=__doc__)
    parser.add_argument("specs", type=Path, help="JSON list of image specs")
    parser.add_argument("out", type=Path, help="folder for the PNG files")
    options = parser.parse_args(arguments)
    try:
        entries = _read(options.specs)
    except (SpecError, OSError, json.JSONDecodeError) as error:
        print(f"{options.specs}: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    refused = total = 0
    for entry in entries:
        try:
            data = encode(draw(entry))
        except (SpecError, FontMissingError) as error:
            print(error, file=sys.stderr)
            refused += 1
            continue
        (options.out / str(entry["name"])).write_bytes(data)
        total += len(data)
    drawn = len(entries) - refused
    print(f"{drawn} images drawn ({total / 1024:.0f} KiB) to {options.out}, {refused} refused")
    return 1 if refused else 0


def _read(path: Path) -> list[dict[str, object]]:
    """The entries, whose names must be plain, distinct PNG file names."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SpecError("expected a JSON list of objects, one per image.")
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        name = entry.get("name")
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".png"):
            raise SpecError(f"entry {position} has name {name!r}; give a file name like 'x.png'.")
        if name in seen:
            raise SpecError(f"entry {position} repeats the name {name!r}; names must differ.")
        seen.add(name)
    return entries


if __name__ == "__main__":
    raise SystemExit(main())
