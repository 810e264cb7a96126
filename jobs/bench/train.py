"""Training speed beside TRL, same tiny model, data, batch and torch, one after the other.

SFT: tokens of trained examples a second, against `SFTTrainer`. GRPO: rollouts a second, against
`GRPOTrainer`. TRL runs in a virtual environment that this benchmark makes (some minutes, once).
Every row trains the same examples: ours also with the queries of a dialogue behind one copy of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bench.common import say

PEER_PACKAGES = ("trl==1.16.0", "transformers==5.19.0", "peft==0.21.2", "accelerate==1.15.0")
LORA = {"rank": 32, "alpha": 64}
BATCH = 16
GROUP = 8
PROMPTS_PER_STEP = 4
MAX_NEW_TOKENS = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--base", type=Path, help="model folder; the shipped tiny base if not given"
    )
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of SFT")
    parser.add_argument("--grpo-steps", type=int, default=6)
    parser.add_argument("--venv", type=Path, default=Path("runs/bench/trl-venv"))
    parser.add_argument("--threads", type=int, default=2)


def run(base: Path | None, steps: int, grpo_steps: int, venv: Path, threads: int) -> dict[str, Any]:
    """Measure all rows; see the module text."""
    import ffr_core

    model = base or Path(ffr_core.__file__).parent / "data/checkpoints/tiny/base"
    python = peer_python(venv.resolve())
    results: dict[str, Any] = {"batch": BATCH, "steps": steps, "grpo_steps": grpo_steps}
    with tempfile.TemporaryDirectory(prefix="ffrs-bench-") as work:
        folder = Path(work)
        data = write_corpus(folder)
        rows = write_rows(data, folder / "rows.jsonl")
        peer = Path(__file__).with_name("trl_peer.py")
        common = ["--base", str(model.resolve()), "--rows", str(rows), "--threads", str(threads)]
        for name, extra in (("sft", steps), ("grpo", grpo_steps)):
            say(f"TRL {name}")
            command = [str(python), str(peer), name, *common, "--steps", str(extra)]
            results[f"trl_{name}"] = _json_of(command, threads)
            say(f"FFRS {name}")
            if name == "sft":
                results["ffrs_sft"] = our_sft(model, data, folder, steps, 1, threads)
                results["ffrs_sft_shared_dialogue"] = our_sft(
                    model, data, folder, steps, 8, threads
                )
            else:
                results["ffrs_grpo"] = our_grpo(model, data, folder, extra, threads)
    return results


def peer_python(venv: Path) -> Path:
    """Python of the environment with TRL and this environment's torch; made when absent."""
    import torch
    import torchvision

    python = venv / "bin/python"
    if not (venv / ".complete").exists():
        say(f"making {venv}")
        torch_packages = (
            f"torch=={torch.__version__.split('+')[0]}",
            f"torchvision=={torchvision.__version__.split('+')[0]}",
        )
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES, *torch_packages],
            check=True,
        )
        (venv / ".complete").touch()
    return python


def write_corpus(folder: Path) -> Path:
    """64 synthetic dialogues with pictures."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    write(SynthConfig(dialogues=64, seed=5), folder / "corpus")
    return folder / "corpus/dialogues.jsonl"


def write_rows(data: Path, out: Path) -> Path:
    """The training examples as TRL takes them: prompt and completion messages, image paths."""
    from ffr_core.prompts import Prompts
    from ffr_core.types import Image
    from jobs.training.examples import read_examples

    prompts = Prompts.load("compact")
    lines = []
    for example in read_examples((data,), "localize").examples:
        content: list[dict[str, str]] = []
        images: list[str] = []
        for part in example.messages(prompts)[0].parts:
            if isinstance(part, Image):
                assert part.uri is not None
                images.append(part.uri)
                content.append({"type": "image"})
            else:
                content.append({"type": "text", "text": part})
        row = {
            "prompt": [{"role": "user", "content": content}],
            "completion": [
                {"role": "assistant", "content": [{"type": "text", "text": example.answer}]}
            ],
            "images": images,
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def our_sft(
    model: Path, data: Path, folder: Path, steps: int, shared: int, threads: int
) -> dict[str, float]:
    """`jobs.train_sft` in a process of its own; speed by its own log, loading left out."""
    from jobs.training.logs import series

    name = f"sft-{shared}"
    values = {
        "task": "localize",
        "model": str(model.resolve()),
        "prompts": "compact",
        "train": [str(data)],
        "dtype": "float32",
        "gradient_checkpointing": False,
        "keep_encoded": True,
        "queries_per_sequence": shared,
        "num_epochs": 50,
        "max_steps": steps,
        "eval_every": 10_000,
        "checkpoint_every": 10_000,
        "max_length": 4096,
        "lora": LORA,
        "batch": {
            "examples_per_step": BATCH if shared == 1 else 2,
            "tokens_per_microbatch": 100_000,
        },
        "launch": {"name": name, "storage_path": str(folder), "num_workers": 0},
    }
    seconds = _run_job("jobs.train_sft", values, folder / f"{name}.toml", threads)
    speeds = [
        value for _, value in series(folder / name / "metrics.csv", "speed/tokens_per_second")
    ]
    kept = speeds[2:]
    return {
        "tokens_per_second": len(kept) / sum(1 / speed for speed in kept),
        "process_seconds": seconds,
    }


def our_grpo(model: Path, data: Path, folder: Path, steps: int, threads: int) -> dict[str, float]:
    """`jobs.train_grpo` with dynamic sampling off, so that both sides sample the same number."""
    values = {
        "max_steps": steps,
        "eval_every": 10_000,
        "checkpoint_every": 10_000,
        "model": {"path": str(model.resolve()), "dtype": "float32", "prompts": "compact"},
        "data": {"train": [str(data)]},
        "rewards": {"order_weight": 0.0},
        "rollout": {
            "group_size": GROUP,
            "groups_per_step": PROMPTS_PER_STEP,
            "max_new_tokens": MAX_NEW_TOKENS,
            "min_spread": 0.0,
        },
        "launch": {"name": "grpo", "storage_path": str(folder), "num_workers": 0},
    }
    seconds = _run_job("jobs.train_grpo", values, folder / "grpo.toml", threads)
    from jobs.training.logs import series

    path = folder / "grpo/metrics.csv"
    speeds = [value for _, value in series(path, "speed/rollouts_per_second")][1:]
    return {
        "samples_per_second": len(speeds) / sum(1 / speed for speed in speeds),
        "process_seconds": seconds,
    }


def _run_job(module: str, values: dict[str, Any], path: Path, threads: int) -> float:
    path.write_text(_toml(values), encoding="utf-8")
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", module, "--config", str(path)],
        check=True,
        env=_environment(threads),
        stdout=subprocess.DEVNULL,
    )
    return round(time.monotonic() - started, 1)


def _json_of(command: list[str], threads: int) -> dict[str, float]:
    done = subprocess.run(
        command, check=True, env=_environment(threads), stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}


def _toml(values: dict[str, Any]) -> str:
    plain = [f"{k} = {json.dumps(v)}" for k, v in values.items() if not isinstance(v, dict)]
    tables = [
        f"\n[{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in table.items())
        for name, table in values.items()
        if isinstance(table, dict)
    ]
    return "\n".join([*plain, *tables]) + "\n"
