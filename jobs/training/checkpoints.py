"""State of a run: trainable weights, optimizer, schedule, random numbers, data cursor.

Rank 0 writes a folder; a session (`jobs.training.run`) puts it in place atomically and is the
barrier of all ranks. Beside the state lie the resolved configuration and where the code and data
came from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.errors import ConfigError
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue
from jobs.checkout import commit

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a run stands."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    position: int = 0
    """Steps done inside the epoch."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a job carries along (JSON values): curriculum stage, carried groups, best score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made a checkpoint."""

    config: Mapping[str, Any]
    """The resolved configuration."""
    data_hash: str
    """Hash of all training records in their order."""
    commit: str
    """Of the code, see `jobs.checkout`."""
    model: str | None = None
    """Fingerprint of what is trained from; where it lies does not matter."""
    prompts: str | None = None
    """Fingerprint of the prompt file."""

    def write(self, folder: Path) -> None:
        """Write `config.json` and `provenance.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "config.json", self.config)
        values = asdict(self)
        values.pop("config")
        _write_json(folder / "provenance.json", values)


def provenance(
    config: Mapping[str, Any],
    data_hash: str,
    model: str | None = None,
    prompts: str | None = None,
) -> Provenance:
    """Describe a run that starts from the code in this checkout."""
    return Provenance(
        config=config, data_hash=data_hash, commit=commit(), model=model, prompts=prompts
    )


def save_state(
    folder: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    cursor: Cursor,
    random_states: list[dict[str, Any]],
    provenance: Provenance,
) -> None:
    """Write the state of a run into an empty folder.

    Args:
        folder: Where to write; whoever calls moves it into place.
        modules: Name -> module; only parameters with `requires_grad` are written.
        optimizer: Its state.
        scheduler: Its state; None where the rate follows from the cursor.
        cursor: Where the run stands.
        random_states: `random_state()` of every rank, in the order of ranks.
        provenance: Configuration, data and code.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, module in modules.items():
        save_file(trainable_state(module), folder / f"trainable.{name}.safetensors")
    torch.save(
        {
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler and scheduler.state_dict(),
            "random": random_states,
        },
        folder / "optimizer.pt",
    )
    _write_json(folder / "cursor.json", asdict(cursor))
    provenance.write(folder)


def load_state(
    folder: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    rank: int = 0,
    data_hash: str | None = None,
    model: str | None = None,
    prompts: str | None = None,
) -> Cursor:
    """Restore what `save_state` wrote, in place, and return where the run stands.

    A rank that the writing run did not have keeps the random state it has.

    Raises:
        ConfigError: The checkpoint was made with other data or prompts or from another model, or
            holds other parameters.
    """
    import torch
    from safetensors.torch import load_file

    source = json.loads((folder / "provenance.json").read_text("utf-8"))
    for what, key, value in (
        ("data", "data_hash", data_hash),
        ("model", "model", model),
        ("prompts", "prompts", prompts),
    ):
        written = source.get(key) or value
        if value is not None and written != value:
            raise ConfigError(
                f"the run was started with {what} {written:.40}, now it is {value:.40};"
                " use the same files or another launch.name"
            )
    for name, module in modules.items():
        load_trainable(module, load_file(folder / f"trainable.{name}.safetensors"))
    # The file holds Python and numpy random states; it is the run's own.
    state = torch.load(folder / "optimizer.pt", weights_only=False, map_location="cpu")
    optimizer.load_state_dict(state["optimizer"])
    if scheduler is not None:
        scheduler.load_state_dict(state["scheduler"])
    if rank < len(state["random"]):
        set_random_state(state["random"][rank])
    return Cursor(**json.loads((folder / "cursor.json").read_text("utf-8")))


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters with `requires_grad`, by name, on the CPU."""
    return {
        name: parameter.detach().cpu().clone().contiguous()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def load_trainable(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into the trainable parameters; ConfigError when the names differ."""
    import torch

    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if own.keys() != state.keys():
        difference = sorted(own.keys() ^ state.keys())
        raise ConfigError(
            f"the checkpoint holds other parameters ({len(difference)} differ, such as"
            f" {difference[0]!r}); resume with the configuration that wrote it"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])


def random_state() -> dict[str, Any]:
    """State of Python's, numpy's and torch's generators in this process."""
    import numpy as np
    import torch

    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` returned."""
    import numpy as np
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python's, numpy's and torch's generators; ranks differ, so that their dropout does."""
    import numpy as np
    import torch

    seed += 1_000_003 * rank
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def data_hash(records: Iterable[str]) -> str:
    """Hash (64 hex) of training records in their order."""
    import hashlib

    digest = hashlib.sha256()
    for record in records:
        data = record.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def record_text(dialogue: Dialogue) -> str:
    """A dialogue with its gold for `data_hash`, wherever its pictures lie."""
    record = record_from_dialogue(dialogue)
    for turn in record["turns"]:
        for image in turn["images"]:
            image["uri"] = Path(image["uri"] or "").name
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")
