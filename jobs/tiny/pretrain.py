"""Build and train the tiny base model from nothing; the same command resumes an interrupted run.

    python -m jobs.tiny.pretrain --out DIR --minutes 25 --seed 0

It learns next turns, copying, captions and matching (`jobs/tiny/tasks.py`), never query -> ids or
clusters: it is the *untrained* row of every table. Short dialogues come first, then long ones.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch

from ffr_core.engine.loading import load_model, load_processor
from jobs.tiny import architecture
from jobs.tiny.attention import use_branched_attention
from jobs.tiny.corpus import load_items, texts
from jobs.tiny.sequences import Prefix, SequenceBuilder
from jobs.tiny.tasks import Item, branches
from jobs.tiny.training import BagHead, MatchHead, learning_rate, step_loss

PEAK = 2e-3
LAYER = 3
"""Layer whose output the matching head reads; later layers use what it finds."""
BRANCHES = 8
TOKENS_PER_STEP = 2000
SHORT_SHARE = 0.4
"""Share of the time that short dialogues get."""
SAVE_EVERY = 120.0


def main() -> None:
    """Parse the command line, train and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--init", type=Path, help="go on from this folder, on long dialogues")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pretrain(options.out, options.minutes, options.seed, options.init)


def pretrain(out: Path, minutes: float, seed: int, init: Path | None = None) -> None:
    """Train for a wall-clock time and write a folder that transformers and vLLM load."""
    short = load_items(3000, seed + 11, turns=(6, 14), topics=(2, 3))
    long = load_items(4000, seed + 12)
    if init is None:
        tokenizer = architecture.build_tokenizer(list(texts(short)), vocab_size=2600)
        model = architecture.new_model(architecture.build_config(tokenizer), seed).train()
    else:
        short = long
        tokenizer = load_processor(init).tokenizer
        model = load_model(init, "float32").train()
    use_branched_attention(model)
    state = State(model, out.with_name(out.name + ".state.pt"))
    builder = SequenceBuilder(tokenizer)
    prefixes: dict[str, Prefix] = {}
    while (progress := state.seconds / (60 * minutes)) < 1:
        started = time.monotonic()
        rng = random.Random(f"{seed}/{state.step}")
        batch = builder.pack(
            _draw(short if progress < SHORT_SHARE else long, builder, prefixes, rng),
            prefix_weight=0.3,
        )
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(progress, PEAK)
        with torch.autocast("cpu", torch.bfloat16):
            loss = step_loss(model, state.match_head, batch, layer=LAYER, bag_head=state.bag_head)
        loss.total.backward()
        state.update()
        state.seconds += time.monotonic() - started
        state.tokens += batch.num_tokens
        state.report(loss.tokens, loss.prefix, loss.matching, loss.bags)
    made_by = {"minutes": minutes, "seed": seed, **state.summary()}
    if init is not None:
        made_by["init"] = json.loads((init / "made_by.json").read_text())
    write(model, tokenizer, out, made_by)
    state.forget()


def _draw(
    items: list[Item], builder: SequenceBuilder, known: dict[str, Prefix], rng: random.Random
) -> list[tuple[Prefix, Any]]:
    chosen: list[tuple[Prefix, Any]] = []
    size = 0
    while size < TOKENS_PER_STEP:
        item = rng.choice(items)
        key = f"{len(items)}/{item.dialogue.dialogue_id}"
        if key not in known:
            known[key] = builder.prefix(item.dialogue, item.pictures, item.captions)
        chosen.append((known[key], branches(item, rng, BRANCHES)))
        size += len(known[key].ids) + 25 * BRANCHES
    return chosen


class State:
    """Model, heads and optimizer, saved now and then so that a killed run goes on."""

    def __init__(self, model: Any, path: Path) -> None:
        size = model.config.text_config.hidden_size
        self.match_head, self.bag_head = MatchHead(size), BagHead(size)
        self.model, self._path = model, path
        self.seconds, self.step, self.tokens = 0.0, 0, 0
        self._parts = (model, self.match_head, self.bag_head)
        self._parameters = [p for part in self._parts for p in part.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.02
        )
        self._saved = self._printed = 0.0
        if path.is_file():
            self._load()

    def update(self) -> None:
        """Clip, step, clear."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.seconds - self._saved > SAVE_EVERY:
            self._saved = self.seconds
            temporary = self._path.with_suffix(".new")
            torch.save(
                {
                    "parts": [part.state_dict() for part in self._parts],
                    "optimizer": self.optimizer.state_dict(),
                    "counts": (self.seconds, self.step, self.tokens),
                },
                temporary,
            )
            temporary.replace(self._path)

    def report(self, *losses: float) -> None:
        """One line every half minute."""
        if self.seconds - self._printed > 30:
            self._printed = self.seconds
            named = zip(("answer", "next", "match", "words"), losses, strict=True)
            shown = " ".join(f"{name} {value:.3f}" for name, value in named)
            print(f"{self.seconds / 60:.1f} min, step {self.step}: {shown}", flush=True)

    def summary(self) -> dict[str, Any]:
        """Counts of the run."""
        return {"steps": self.step, "tokens": self.tokens, "seconds": round(self.seconds)}

    def forget(self) -> None:
        """Remove the saved state of a finished run."""
        self._path.unlink(missing_ok=True)

    def _load(self) -> None:
        saved = torch.load(self._path)
        for part, values in zip(self._parts, saved["parts"], strict=True):
            part.load_state_dict(values)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.seconds, self.step, self.tokens = saved["counts"]
        self._saved = self._printed = self.seconds


def write(model: Any, tokenizer: Any, out: Path, made_by: dict[str, Any]) -> None:
    """Write config, bfloat16 weights, tokenizer, processor and `made_by.json`."""
    from jobs.bench.common import commit

    model.model.language_model.config._attn_implementation = "sdpa"
    out.mkdir(parents=True, exist_ok=True)
    architecture.build_processor(tokenizer).save_pretrained(out)
    model.to(torch.bfloat16).save_pretrained(out)
    record = {"command": "python -m jobs.tiny.pretrain", "commit": commit(), **made_by}
    (out / "made_by.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
