"""What decides a cell, as one short hash: code, tables, the files of the set, models and prompts.

It is made for every cell of every run, so it is quick: of a model's weights the size and both ends
are read, of pictures only the directory entry; adapters, which are small, are read whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlparse

from ffr_core.adapters import adapter_hash
from ffr_core.engine.loading import model_fingerprint
from ffr_core.errors import FfrError
from ffr_core.profile import load_profile, profile_path
from ffr_core.prompts import Prompts
from jobs.eval_sets import read_set
from jobs.report.config import ReportConfig, SetConfig, SystemConfig

VERSION = 2
"""Of the form of a cell; another form is measured again."""
CODE = {
    "ffr_core": ("**/*.py", "data/**/*.json"),
    "jobs": ("report/*.py", "eval_sets.py", "eval_index.py", "reading.py", "index_rows.py"),
}
"""Package -> files of code, and of weights in JSON."""
UNREADABLE = "unreadable"
"""In the place of what cannot be read; the cell itself says what is wrong with it."""


def fingerprint(report: ReportConfig, system: SystemConfig, item: SetConfig) -> str:
    """Names everything that decides a cell (16 hex)."""
    digest = hashlib.sha256(f"{VERSION}\n{report.clip}\n{code_hash()}\n".encode())
    digest.update(system.model_dump_json().encode() + item.model_dump_json().encode())
    for part in (*_set_parts(item), *_model_parts(report, system)):
        digest.update(f"\n{part}".encode())
    return digest.hexdigest()[:16]


@cache
def code_hash() -> str:
    """Of the code of library and report: new code is measured anew."""
    digest = hashlib.sha256()
    for package, patterns in CODE.items():
        root = Path(str(resources.files(package)))
        for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _set_parts(item: SetConfig) -> Iterator[str]:
    """Contents of a set's files, and size and time of its pictures."""
    root = Path(item.path)
    files = sorted(root.glob("*.jsonl")) if root.is_dir() else [root]
    for path in (*files, *(Path(p) for p in (item.translation, item.queries) if p)):
        yield _content(path)
    try:
        images = [image for dialogue in read_set(root) for image in dialogue.images]
    except (FfrError, OSError, ValueError):
        yield UNREADABLE
    else:
        yield from map(_picture, dict.fromkeys(image.uri for image in images if image.uri))


def _model_parts(report: ReportConfig, system: SystemConfig) -> Iterator[str]:
    """The profile's text, and contents of all models, adapters, calibrations and prompts named."""
    paths = [report.clip, system.model, system.adapter]
    encoders, engines = [system.encoder], [system.engine]
    prompts = [system.prompts] if system.kind == "vlm" else []
    if system.kind in ("profile", "brute_force"):
        try:
            yield profile_path(system.profile).read_text(encoding="utf-8")
            profile = load_profile(system.profile)
        except (FfrError, OSError, ValueError):
            yield UNREADABLE
        else:
            encoders.append(profile.encoder)
            paths.append(profile.localizer.calibration)
            for part in (profile.segmenter, profile.localizer):
                if part.kind in ("vlm", "f2rvlm"):
                    engines.append(part.engine or profile.engine)
                    prompts.append(part.prompts)
    paths += [path for encoder in encoders for path in (encoder.path, encoder.adapter)]
    paths += [path for e in engines if e for path in (e.path, *e.adapters.values())]
    yield from (weights_of(path) for path in dict.fromkeys(paths) if path)
    yield from map(_prompts, dict.fromkeys(prompts))


def weights_of(path: str) -> str:
    """Names what a model folder, an adapter or a calibration file holds; a hub id is its own."""
    try:
        if Path(path).is_file():
            return _content(Path(path))
        if (Path(path) / "adapter_config.json").is_file():
            return adapter_hash(path)
        return model_fingerprint(path)
    except (FfrError, OSError, ValueError):
        return UNREADABLE


def _prompts(name: str) -> str:
    try:
        return Prompts.load(name).fingerprint
    except (FfrError, OSError, ValueError):
        return UNREADABLE


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else UNREADABLE


def _picture(uri: str) -> str:
    """Name, size and time of a local picture; of another one the name."""
    place = unquote(urlparse(uri).path) if uri.startswith("file:") else uri
    try:
        found = Path(place).stat()
    except (OSError, ValueError):
        return uri
    return f"{uri} {found.st_size} {found.st_mtime_ns}"
