"""LoRA adapters on the language model only: attach, save as a plain PEFT folder, load, hash.

The vision tower stays frozen and untouched (Source: Sec 6.2, ViT frozen, authors' setting), also
because serving engines ignore adapters of a vision tower. A folder written here holds
`adapter_config.json` and `adapter_model.safetensors` and loads with `PeftModel.from_pretrained`
anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffr_core.config import Config
from ffr_core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

TARGET_MODULES = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
"""Linear layers that get an adapter. The ViT of Qwen2.5-VL has leaves of the same names, so the
path must be part of the pattern."""

_LANGUAGE_KEY = re.compile(rf"{TARGET_MODULES}\.lora_[AB]\.weight")
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_BASE = "ffrs_base_model_type"
"""Key in the weights' metadata: Qwen2-VL-7B and Qwen2.5-VL-7B have layers of the same shapes."""


class LoraSettings(Config):
    """`[lora]`: size of the adapter. Source: rank 8 and alpha 32 are the authors' setting."""

    rank: int = Field(default=8, ge=1)
    """Rank of the update."""
    alpha: int = Field(default=32, ge=1)
    """Scale; the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the update; 0 makes N workers equal to one (our reading: not stated)."""


def attach(model: PreTrainedModel, settings: LoraSettings, name: str = "default") -> PeftModel:
    """Freeze a model and add a fresh adapter to its language half; the output stays as it was.

    Args:
        model: Qwen2-VL or a relative whose text half is named `language_model`.
        settings: Size of the adapter.
        name: Name of the adapter inside the returned model.

    Raises:
        InputError: The model has no layer that matches `TARGET_MODULES`.
    """
    from peft import LoraConfig, get_peft_model

    if not any(re.fullmatch(TARGET_MODULES, key) for key, _ in model.named_modules()):
        raise InputError(
            f"{type(model).__name__} has no layer that matches {TARGET_MODULES!r};"
            " use a Qwen2-VL or Qwen2.5-VL model"
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=TARGET_MODULES,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, adapter_name=name)


def save_adapter(model: PeftModel, name: str, folder: Path | str) -> Path:
    """Write one adapter as a plain PEFT folder; a reader sees the old folder or the new one.

    Returns:
        The folder.

    Raises:
        InputError: The adapter holds a weight outside the language model.
        NotFoundError: The model has no adapter of that name.
    """
    from safetensors.torch import save

    folder = Path(folder)
    if name not in model.peft_config:
        raise NotFoundError(
            f"the model has no adapter {name!r}; it has {sorted(model.peft_config)}"
        )
    weights = adapter_weights(model, name)
    _check_keys(weights, f"adapter {name!r}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    base: Any = model.get_base_model()
    metadata = {"format": "pt", _BASE: str(base.config.model_type)}
    (fresh / _WEIGHTS).write_bytes(_in_order(save(weights, metadata=metadata)))
    _write_config(model.peft_config[name].to_dict(), fresh / _CONFIG)
    replace_folder(fresh, folder)
    return folder


def adapter_weights(model: PeftModel, name: str) -> dict[str, torch.Tensor]:
    """The adapter's weights in PEFT's file naming, contiguous on the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def load_adapter(
    model: PreTrainedModel | PeftModel, folder: Path | str, name: str, trainable: bool
) -> PeftModel:
    """Add the adapter of a folder to a model under a name; the first one becomes active.

    Args:
        model: A base model, or one that has adapters already.
        folder: A PEFT folder.
        name: A name that the model does not use yet.
        trainable: Whether its weights get gradients.

    Raises:
        NotFoundError: The folder is not a PEFT folder.
        InputError: The name is taken, the folder holds weights outside the language model, or they
            are those of another base model.
    """
    from peft import PeftModel
    from safetensors import safe_open

    folder = Path(folder)
    _require(folder)
    with safe_open(folder / _WEIGHTS, "pt") as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
        written = (weights.metadata() or {}).get(_BASE)
    _check_keys(shapes, str(folder))
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    _check_base(base, shapes, written, str(folder), bool(config.get("layers_to_transform")))
    if not isinstance(model, PeftModel):
        return PeftModel.from_pretrained(
            model, str(folder), adapter_name=name, is_trainable=trainable
        )
    if name in model.peft_config:
        raise InputError(f"the model already has an adapter {name!r}; choose a fresh name")
    model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
    return model


def adapter_hash(folder: Path | str) -> str:
    """Hash (16 hex) of an adapter's weights and settings; where it lies does not matter."""
    folder = Path(folder)
    _require(folder)
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    settings = {key: config.get(key) for key in ("r", "lora_alpha", "target_modules", "peft_type")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    with (folder / _WEIGHTS).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def replace_folder(fresh: Path, folder: Path) -> None:
    """Move a finished folder into place, over an older one if there is one."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _in_order(data: bytes) -> bytes:
    """A safetensors file whose metadata, which the library writes in any order, are sorted.

    Equal weights then make equal files, which `adapter_hash` and fingerprints rely on.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return data[:8] + text.ljust(size) + data[8 + size :]


def _write_config(config: dict[str, Any], path: Path) -> None:
    values = {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }
    values["inference_mode"] = True
    path.write_text(json.dumps(values, indent=2, sort_keys=True, default=str) + "\n", "utf-8")


def _check_keys(keys: Any, where: str) -> None:
    foreign = sorted(key for key in keys if not _LANGUAGE_KEY.fullmatch(key))
    if foreign:
        raise InputError(
            f"{where} holds {len(foreign)} weights outside the language model, such as"
            f" {foreign[0]!r}; adapters of this project train the language half only"
        )


def _check_base(
    base: Any, shapes: dict[str, tuple[int, ...]], written: str | None, where: str, partial: bool
) -> None:
    """PEFT leaves out what does not fit by name and starts what is missing at zero, silently.

    Args:
        base: The model without its PEFT wrapper.
        shapes: Of the folder's weights, by key.
        written: Model type of the adapter's base; None where the folder does not say.
        where: Names the folder.
        partial: The adapter leaves out layers on purpose.
    """
    kind = str(base.config.model_type)
    problem = None if written in (None, kind) else f"it was trained on a {written}"
    layers = {
        f"base_model.model.{name}": (module.in_features, module.out_features)
        for name, module in base.named_modules()
        if re.fullmatch(TARGET_MODULES, name)
    }
    for key, shape in shapes.items():
        name, _, side = key.removesuffix(".weight").rpartition(".lora_")
        size = shape[1] if side == "A" else shape[0]
        if name not in layers:
            problem = problem or f"the model has no layer {name!r}"
        elif size != layers[name][side == "B"]:
            problem = problem or f"{key!r} has the shape {list(shape)}"
    held = {key.rpartition(".lora_")[0] for key in shapes}
    leaves = {name.rpartition(".")[2] for name in held}
    missing = [n for n in layers if n.rpartition(".")[2] in leaves and n not in held]
    if missing and not partial:
        problem = problem or f"it holds nothing for the layer {missing[0]!r}"
    if problem:
        raise InputError(
            f"{where} is no adapter of this {kind} model: {problem}; give the base that it was"
            " trained on"
        )


def _require(folder: Path) -> None:
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise NotFoundError(
                f"{folder} has no {name}; give a PEFT folder, as written by a training job"
            )
