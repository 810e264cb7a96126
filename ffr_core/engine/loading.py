"""Load models and processors of the Qwen2-VL family: Qwen2-VL, Qwen2.5-VL and their like."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ffr_core.errors import ConfigError, NotFoundError

DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(path: str | Path, dtype: str = "auto", device: str = "cpu") -> Any:
    """Load an image-text-to-text model in eval mode.

    Args:
        path: A folder in hub layout, or a hub id.
        dtype: One of `DTYPES`; `auto` is the checkpoint's own.
        device: A torch device, `cpu` or `cuda:0`.

    Raises:
        NotFoundError: Nothing there.
        ConfigError: Unknown dtype, or not a model of this family.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(str(path), dtype=wanted)
    except OSError as error:
        raise NotFoundError(f"no model at {str(path)!r}; check the path: {error}") from error
    except ValueError as error:
        raise ConfigError(
            f"{str(path)!r} is not an image-text-to-text model of the Qwen2-VL family: {error}"
        ) from error
    return model.to(device).eval()


def load_processor(path: str | Path) -> Any:
    """Load the processor (tokenizer and image processor) of a model folder or hub id."""
    import transformers

    auto: Any = transformers.AutoProcessor
    try:
        return auto.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise NotFoundError(f"no processor at {str(path)!r}; check the path: {error}") from error


def picture_sizes(path: str | Path) -> tuple[int, int]:
    """Fewest and most pixels of a picture that the image processor of a model gives.

    Read from the folder where that says both, since transformers takes seconds to import.

    Raises:
        NotFoundError: No processor at the path.
    """
    try:
        saved = json.loads(Path(path, "processor_config.json").read_text(encoding="utf-8"))
        part = saved["image_processor"]
        size = {} if {"min_pixels", "max_pixels"} & part.keys() else part["size"]
        fewest, most = size["shortest_edge"], size["longest_edge"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # An older layout, a hub id or a broken file: transformers knows, or says what is wrong.
        size = load_processor(path).image_processor.size
        fewest, most = size["shortest_edge"], size["longest_edge"]
    return int(fewest), int(most)


def model_fingerprint(path: str | Path) -> str:
    """Hash of what a model folder holds: configs in full, weights by size, both ends and samples.

    A hub id that is no folder is its own fingerprint.
    """
    folder = Path(path)
    if not folder.is_dir():
        return str(path)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".jinja", ".txt"):
            content = file.read_bytes()
        elif file.suffix in (".safetensors", ".bin"):
            content = _samples(file)
        else:
            continue
        digest.update(f"{file.name}:{file.stat().st_size}:".encode() + content)
    return digest.hexdigest()[:16]


def _samples(file: Path, end: int = 1 << 20, count: int = 64, size: int = 1 << 16) -> bytes:
    """Both ends and `count` evenly spaced blocks between them, so that every layer is met."""
    total = file.stat().st_size
    blocks = [(0, end), (max(0, total - end), end)]
    blocks += [((total - size) * (i + 1) // (count + 1), size) for i in range(count)]
    with file.open("rb") as stream:
        found = []
        for start, length in blocks if total > 2 * end else [(0, total)]:
            stream.seek(start)
            found.append(stream.read(length))
    return b"".join(found)
