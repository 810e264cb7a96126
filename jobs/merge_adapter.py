"""Merge an adapter into its base model for export: one folder in hub layout.

    python -m jobs.merge_adapter --model BASE --adapter runs/NAME/best/adapter --out FOLDER

The merge happens once, in fp32 (in bf16 it drifts), and is proven: the logits of the merged folder,
loaded again, equal those of base plus adapter.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ffr_core.adapters import adapter_hash, load_adapter, replace_folder
from ffr_core.engine.loading import load_model, load_processor
from ffr_core.errors import FfrError, InputError

PROBE = (
    "<|utt_id_start|>0<|utt_id_end|>Ana: where do we meet?\n"
    "<|utt_id_start|>1<|utt_id_end|>Ben: at the station, 7 pm\n<|query_start|>place<|query_end|>"
)


def merge(
    model: str, adapter: Path, out: Path, dtype: Literal["float32", "bfloat16"] = "float32"
) -> dict[str, Any]:
    """Merge and write; return what was compared.

    Args:
        model: Base model, folder or hub id.
        adapter: PEFT folder.
        out: Folder to write; it must not exist.
        dtype: Of the written weights. The comparison is exact to 1e-4 in fp32; weights written in
            bf16 are compared within their precision.

    Raises:
        InputError: `out` exists, or the merged model answers differently.
    """
    import torch

    if out.exists():
        raise InputError(f"{out} exists already; give a new folder")
    processor = load_processor(model)
    ids = torch.tensor([processor.tokenizer(PROBE)["input_ids"]])
    with_adapter = load_adapter(load_model(model, "float32"), adapter, "default", trainable=False)
    expected = _logits(with_adapter, ids)
    with with_adapter.disable_adapter():
        change = float((_logits(with_adapter, ids) - expected).abs().max())
    merged = with_adapter.merge_and_unload(safe_merge=True)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    merged.to(getattr(torch, dtype)).save_pretrained(fresh)
    processor.save_pretrained(fresh)
    del with_adapter, merged
    gc.collect()
    difference = float((_logits(load_model(fresh, "float32"), ids) - expected).abs().max())
    scale = float(expected.abs().max())
    report = {
        "base": model,
        "adapter": str(adapter),
        "adapter_hash": adapter_hash(adapter),
        "dtype": dtype,
        "largest_logit": scale,
        "adapter_changes_logits_by": change,
        "merged_differs_by": difference,
    }
    if difference > (1e-4 if dtype == "float32" else 5e-2) * max(1.0, scale):
        shutil.rmtree(fresh)
        raise InputError(
            f"the merged model differs from base plus adapter by {difference:.2g} in a logit;"
            f" expected equal logits: was {adapter} trained on {model}?"
        )
    (fresh / "merge.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    replace_folder(fresh, out)
    return report


def _logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def main(
    model: Annotated[str, typer.Option(help="Base model: folder or hub id.")],
    adapter: Annotated[Path, typer.Option(help="PEFT folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the merged model.")],
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Merge an adapter into its base model in fp32 and prove that the answers are the same."""
    try:
        if dtype not in ("float32", "bfloat16"):
            raise InputError(f"dtype {dtype!r} is unknown; use float32 or bfloat16")
        report = merge(model, adapter, out, dtype)
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
