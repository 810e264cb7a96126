"""Prove that an adapter changes what a model says.

Adapters fail silently when their keys do not fit: the model answers as if there were none. After
loading, an engine answers `PROBE` with and without the adapter and compares log-probabilities.
"""

from __future__ import annotations

import json
from pathlib import Path

from ffr_core.errors import InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message, Sampling

VISIBLE = 0.05
"""Adapters of a smaller strength may vanish in rounding; the probe does not judge them."""


def probe_request(adapter: str | None) -> GenerationRequest:
    """A short greedy request."""
    return GenerationRequest(
        request_id=f"probe-{adapter}",
        messages=(Message(role="user", parts=("0 1 2 3 the a one two",)),),
        sampling=Sampling(max_new_tokens=4),
        adapter=adapter,
    )


def adapter_strength(path: str | Path) -> float:
    """Largest scaling x |A| x |B| (Frobenius norms) over the modules of a PEFT LoRA folder.

    Raises:
        NotFoundError: The folder or one of its two files is missing.
        InputError: One of them cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(path)
    config_file, weights_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config_file.is_file() or not weights_file.is_file():
        raise NotFoundError(
            f"{str(path)!r} is not a PEFT folder; it needs adapter_config.json and"
            " adapter_model.safetensors"
        )
    try:
        config = json.loads(config_file.read_text())
        rank = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
        scaling = float(config["lora_alpha"] / rank)
        weights = load_file(weights_file)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        SafetensorError,
    ) as error:
        raise InputError(
            f"{str(path)!r} is not a LoRA adapter that can be read, train or copy it again:"
            f" {type(error).__name__} {error}"
        ) from error
    norms: dict[str, dict[str, float]] = {}
    for key, weight in weights.items():
        module, _, side = key.rpartition(".lora_")
        if module:
            norms.setdefault(module, {})[side[0]] = float(weight.float().norm())
    products = [sides.get("A", 0.0) * sides.get("B", 0.0) for sides in norms.values()]
    return scaling * max(products, default=0.0)


def check_probe(name: str, strength: float, bare: Completion, adapted: Completion) -> None:
    """Raise InputError if a visible adapter left the probe's answer as it was."""
    if strength < VISIBLE or bare.token_ids != adapted.token_ids:
        return
    pairs = zip(bare.logprobs, adapted.logprobs, strict=True)
    if all(abs(a - b) < 1e-6 for a, b in pairs):
        raise InputError(
            f"adapter {name!r} does not change the model's answer; its keys do not fit this model,"
            " train it on the same architecture"
        )
