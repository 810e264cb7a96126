"""TRL's side of `python -m jobs.bench train`; runs in the benchmark's own environment.

It imports nothing of this project. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


class _TorchvisionOperators:
    """Declares two operators where torchvision's compiled half does not match this torch."""

    library: Any = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision.extension" and self.library is None:
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                self.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


def main() -> None:
    """Run one trainer and print its speed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", choices=("sft", "grpo"))
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    sys.meta_path.insert(0, _TorchvisionOperators())
    import torch

    torch.set_num_threads(options.threads)
    runner = sft if options.trainer == "sft" else grpo
    print(json.dumps(runner(options.base, options.rows, options.steps)))


def dataset(rows: Path, with_completion: bool) -> Any:
    """Rows as a `datasets.Dataset` whose images are decoded when they are needed."""
    from datasets import Dataset, Image, Sequence

    read = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    names = ["prompt", "images", *(["completion"] if with_completion else [])]
    made = Dataset.from_list([{name: row[name] for name in names} for row in read])
    return made.cast_column("images", Sequence(Image()))


def settings(kind: Any, out: str, steps: int, batch: int, **more: Any) -> Any:
    """Arguments that both trainers share."""
    return kind(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=1e-4,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1000,
        **more,
    )


def adapter() -> Any:
    """The LoRA of our side: language model only, rank 32."""
    from peft import LoraConfig

    return LoraConfig(
        r=32,
        lora_alpha=64,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
        task_type="CAUSAL_LM",
    )


class Stopwatch:
    """Times of the optimizer steps, as a trainer callback."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def callback(self) -> Any:
        """A `TrainerCallback` that notes when a step ends."""
        from transformers import TrainerCallback

        ends = self.ends

        class Callback(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.monotonic())

        return Callback()

    def seconds(self, skipped: int) -> tuple[int, float]:
        """Number of steps after the first ones, and how long they took."""
        kept = self.ends[skipped:]
        return len(kept) - 1, kept[-1] - kept[0]


def load(base: str) -> tuple[Any, Any]:
    """Model in float32 and processor."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(base)


def sft(base: str, rows: Path, steps: int) -> dict[str, float]:
    """`SFTTrainer`: loss on the completion, 16 examples a step."""
    from trl import SFTConfig, SFTTrainer

    model, processor = load(base)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model=model,
            args=settings(SFTConfig, out, steps, 16, max_length=None, completion_only_loss=True),
            train_dataset=dataset(rows, True),
            processing_class=processor,
            peft_config=adapter(),
            callbacks=[watch.callback()],
        )
        counted: list[int] = []
        inner = trainer.compute_loss

        def compute_loss(model: Any, inputs: Any, *a: Any, **k: Any) -> Any:
            counted.append(int(inputs["attention_mask"].sum()))
            return inner(model, inputs, *a, **k)

        trainer.compute_loss = compute_loss
        trainer.train()
    number, seconds = watch.seconds(1)
    return {"tokens_per_second": sum(counted[-number:]) / seconds, "steps": number}


def grpo(base: str, rows: Path, steps: int) -> dict[str, float]:
    """`GRPOTrainer` with its own generation: 4 prompts a step, 8 samples each."""
    from trl import GRPOConfig, GRPOTrainer

    model, processor = load(base)
    watch = Stopwatch()

    def reward(completions: Any, **_: Any) -> list[float]:
        return [float(len(str(completion)) % 7) for completion in completions]

    with tempfile.TemporaryDirectory() as out:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=settings(
                GRPOConfig,
                out,
                steps,
                32,
                num_generations=8,
                max_completion_length=48,
                beta=0.02,
                temperature=1.0,
            ),
            train_dataset=dataset(rows, False),
            processing_class=processor,
            peft_config=adapter(),
            callbacks=[watch.callback()],
        )
        trainer.train()
    number, seconds = watch.seconds(1)
    return {"samples_per_second": 32 * number / seconds, "steps": number}


if __name__ == "__main__":
    main()
