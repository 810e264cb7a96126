"""Low-rank adapters of the BERT encoders as plain PEFT folders: names, reading, writing, merging.

    W' = W + (alpha / r) B A,      A [r, in], B [out, r]

A folder holds `adapter_config.json` and `adapter_model.safetensors` and loads with `peft` on a
`transformers.BertModel` too. Merging happens once, in float32, before any conversion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"
TARGETS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""Short name -> module of a layer that carries an adapter."""
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """A LoRA adapter, read."""

    rank: int
    alpha: float
    tensors: Tensors
    """`<module>.lora_A.weight` and `<module>.lora_B.weight`, without the PEFT prefix."""
    base: str = ""
    """What names the model that it belongs to; empty before it is written."""


def module_name(layer: int, short: str) -> str:
    """Name of an adapted module in a BERT state dict."""
    return f"encoder.layer.{layer}.{TARGETS[short]}"


def write_adapter(folder: Path, adapter: Adapter, base: str) -> None:
    """Write a PEFT folder; `base` names the model that it belongs to."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    layers = sorted({int(name.split(".")[2]) for name in adapter.tensors})
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "layers_to_transform": layers,
        "layers_pattern": "layer",
        "target_modules": sorted(TARGETS.values()),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    named = {_PREFIX + name: np.ascontiguousarray(value) for name, value in adapter.tensors.items()}
    save_file(named, folder / TENSOR_FILE)


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT folder.

    Raises:
        NotFoundError: A file is missing.
        InputError: It is not a LoRA adapter of a BERT encoder.
    """
    from safetensors.numpy import load_file

    _require(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    tensors = {
        name.removeprefix(_PREFIX): value.astype(np.float32)
        for name, value in load_file(folder / TENSOR_FILE).items()
    }
    modules = {name.rsplit(".lora_", 1)[0] for name in tensors}
    if config.get("peft_type") != "LORA" or not all(
        module.split(".", 3)[-1] in TARGETS.values() and f"{module}.lora_{side}.weight" in tensors
        for module in modules
        for side in "AB"
    ):
        raise InputError(f"{folder} is not a LoRA adapter of a BERT encoder; check the path")
    return Adapter(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        tensors=tensors,
        base=str(config.get("base_model_name_or_path") or ""),
    )


def merge(weights: Tensors, adapter: Adapter) -> dict[str, NDArray[np.float32]]:
    """BERT weights with the adapter added, in float32; the input stays as it is."""
    merged = dict(weights)
    scale = np.float32(adapter.alpha / adapter.rank)
    for name, a_RI in adapter.tensors.items():
        module, side = name.rsplit(".lora_", 1)
        if side == "A.weight":
            b_OR = adapter.tensors[f"{module}.lora_B.weight"]
            key = f"{module}.weight"
            if key not in merged or merged[key].shape != (b_OR.shape[0], a_RI.shape[1]):
                raise InputError(f"the adapter changes {key}, which this encoder has not so")
            merged[key] = merged[key] + scale * (b_OR @ a_RI)
    return merged


def adapter_hash(folder: Path) -> str:
    """16 hex digits of the weights and the scale of any PEFT LoRA folder.

    Raises:
        NotFoundError: A file is missing.
    """
    _require(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    digest = hashlib.sha256(f"{config.get('r')} {config.get('lora_alpha')}".encode())
    with (folder / TENSOR_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _require(folder: Path) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE):
        if not (folder / name).is_file():
            raise NotFoundError(f"{folder} has no {name}; expected a PEFT adapter folder")
