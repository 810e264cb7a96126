"""Base, SFT and GRPO adapters side by side on a held-out file: the table of the tiny family.

    python -m jobs.tiny.table --base DIR --data FILE --adapter sft=DIR --adapter grpo=DIR --json OUT

`--gray` shows every picture as one gray square as well, so that it is seen whether a model looks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from jobs.bench.common import envelope, write_json


def main() -> None:
    """Parse the command line, evaluate, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--task", choices=("localize", "segment"), default="localize")
    parser.add_argument("--prompts", default="compact")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--max-examples", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    adapters = dict(item.split("=", 1) for item in options.adapter)
    rows = compare(
        options.base,
        options.data,
        adapters,
        options.task,
        options.prompts,
        options.gray,
        options.max_examples,
    )
    print(as_text(rows))
    if options.json:
        write_json(options.json, envelope("tiny_table", sys.argv[1:], rows))


def compare(
    base: Path,
    data: Path,
    adapters: dict[str, str],
    task: Any,
    prompts: str,
    gray: bool,
    max_examples: int | None,
) -> dict[str, dict[str, float]]:
    """Scores of the bare base and of each adapter, by name; `NAME (gray)` with gray pictures."""
    from PIL import Image

    from ffr_core.images import ImageLimits, ImageReader
    from ffr_core.prompts import Prompts
    from jobs.training.examples import read_examples

    examples = read_examples((data,), task).examples[:max_examples]
    reader = ImageReader(limits=ImageLimits(roots=(str(data.resolve().parent),)))
    openers: dict[str, Any] = {"": reader.open}
    if gray:
        openers[" (gray)"] = lambda uri: Image.new("RGB", (56, 56), (128, 128, 128))
    rows: dict[str, dict[str, float]] = {}
    for suffix, opener in openers.items():
        for name, scores in _rows(base, opener, adapters, examples, Prompts.load(prompts), task):
            rows[f"{name}{suffix}"] = scores
    return rows


def _rows(
    base: Path, opener: Any, adapters: dict[str, str], examples: Any, prompts: Any, task: Any
) -> Any:
    from ffr_core.adapters import load_adapter
    from ffr_core.engine.inputs import PromptEncoder
    from ffr_core.engine.loading import load_model, load_processor
    from ffr_core.engine.transformers import TransformersEngine
    from jobs.training.sft_eval import evaluate

    for name, folder in {"base": None, **adapters}.items():
        model = load_model(base, "float32", "cpu")
        if folder is not None:
            model = load_adapter(model, folder, "default", trainable=False).get_base_model()
        engine = TransformersEngine(
            model.eval(), PromptEncoder(load_processor(base), opener), max_batch_tokens=24_000
        )
        yield name, evaluate(engine, examples, prompts, task, max_new_tokens=160)


def as_text(rows: dict[str, dict[str, float]]) -> str:
    """One line a system, per cent."""
    names = [name for name in next(iter(rows.values())) if name.endswith(("_f1", "_mcc", "formed"))]
    width = max(len(name) for name in rows)
    head = " " * width + "".join(f"{name.removeprefix('eval/'):>15}" for name in names)
    lines = [
        f"{system:<{width}}" + "".join(f"{100 * scores[name]:15.1f}" for name in names)
        for system, scores in rows.items()
    ]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
