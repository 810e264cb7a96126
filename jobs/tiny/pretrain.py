"""Build and train the tiny base model from nothing; the same command resumes an interrupted run.

    python -m jobs.tiny.pretrain --out A --vision-minutes 10 --minutes 32 --seed 0
    python -m jobs.tiny.pretrain --init A --out DIR --minutes 14 --seed 1 --rate 1.2e-3

The vision tower comes first (`vision.py`) and stays as it is then. The language model learns next
turns, copying, captions and matching (`tasks.py`), never query -> ids or clusters: it is the
*untrained* row of every table. Short dialogues come first, then longer ones.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch

from ffr_core.embedding.bert import native_bfloat16
from ffr_core.engine.loading import load_model, load_processor
from jobs.tiny import architecture
from jobs.tiny.attention import use_branched_attention
from jobs.tiny.corpus import load_items, texts
from jobs.tiny.sequences import Batch, Branch, Prefix, SequenceBuilder
from jobs.tiny.tasks import WORDS, Item, branches, element_words
from jobs.tiny.training import BagHead, learning_rate, step_loss
from jobs.tiny.vision import features, train_tower

PEAK = 2e-3
STAGES = (((6, 8), (2, 2)), ((6, 14), (2, 3)), ((12, 30), (2, 4)))
"""Turns and topics of the dialogues of each stage."""
DIALOGUES = 4000
"""Of each stage."""
STAGE_ENDS = (0.2, 0.75)
"""Share of the time at which the next stage begins."""
PREFIX_WEIGHT = 0.3
"""Of the dialogue's own next tokens, in every fourth step."""
LAYER = 3
"""Layer (from 0) whose attention is taught to match; it and later ones write what it finds."""
BRANCHES = 12
TOKENS_PER_STEP = 2500
SAVE_EVERY = 120.0


def main() -> None:
    """Parse the command line, train and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vision-minutes", type=float, default=10)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="go on from this folder, on longer dialogues")
    parser.add_argument("--rate", type=float, default=PEAK, help="peak of the learning rate")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.init:
        resume(options.out, options.init, options.minutes, options.seed, options.rate)
    else:
        pretrain(options.out, options.vision_minutes, options.minutes, options.seed, options.rate)


def pretrain(out: Path, vision_minutes: float, minutes: float, seed: int, rate: float) -> None:
    """Train for a wall-clock time and write a folder that transformers and vLLM load."""
    lengths = [
        load_items(DIALOGUES, seed + 11 + i, turns=turns, topics=topics)
        for i, (turns, topics) in enumerate(STAGES)
    ]
    known = [*texts(lengths[0]), *[f"{word} {word}" for word in WORDS] * 20]
    tokenizer = architecture.build_tokenizer(known, vocab_size=2600)
    model = architecture.new_model(architecture.build_config(tokenizer), seed).train()
    state = State(model, out.with_name(out.name + ".state.pt"))
    if not state.vision:
        state.vision = train_tower(model, vision_minutes, seed)
        print(f"vision, unseen combinations: {state.vision}", flush=True)
        state.save()
    train(model, tokenizer, state, lengths, STAGE_ENDS, minutes, seed, rate)
    write(
        model, tokenizer, out, {"minutes": minutes, "seed": seed, "rate": rate, **state.summary()}
    )
    state.forget()


def resume(out: Path, init: Path, minutes: float, seed: int, rate: float) -> None:
    """Go on from a folder for a wall-clock time, on the two longer stages; the head starts anew."""
    lengths = [
        load_items(DIALOGUES, seed + 11 + i, turns=turns, topics=topics)
        for i, (turns, topics) in enumerate(STAGES[1:])
    ]
    tokenizer = load_processor(init).tokenizer
    model = load_model(init, "float32").train()
    state = State(model, out.with_name(out.name + ".state.pt"))
    made_by = json.loads((init / "made_by.json").read_text())
    train(model, tokenizer, state, lengths, (0.6,), minutes, seed, rate)
    counts = {"minutes": minutes, "seed": seed, "rate": rate, **state.summary()}
    write(model, tokenizer, out, {**counts, "init": made_by})
    state.forget()


def train(
    model: Any,
    tokenizer: Any,
    state: State,
    lengths: list[list[Item]],
    ends: tuple[float, ...],
    minutes: float,
    seed: int,
    rate: float,
) -> None:
    """Train the language model until the time is over; `ends` says when the next stage begins."""
    model.model.visual.requires_grad_(False)
    use_branched_attention(model)
    source = Source(model, SequenceBuilder(tokenizer))
    fast = native_bfloat16()
    while (progress := state.seconds / (60 * minutes)) < 1:
        started = time.monotonic()
        rng = random.Random(f"{seed}/{state.step}")
        items = lengths[sum(progress >= end for end in ends)]
        prefix_weight = PREFIX_WEIGHT if state.step % 4 == 0 else 0.0
        batch = source.draw(items, prefix_weight, rng)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(progress, rate)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = step_loss(model, batch, layer=LAYER, bag_head=state.bag_head)
        loss.total.backward()
        state.update()
        state.seconds += time.monotonic() - started
        state.tokens += batch.num_tokens
        state.report(loss.tokens, loss.matching, loss.bags)


class Source:
    """Draws batches; dialogues of one length together, so that little is padding."""

    def __init__(self, model: Any, builder: SequenceBuilder) -> None:
        self._model, self._builder = model, builder
        self._known: dict[str, Prefix] = {}

    def draw(self, items: list[Item], prefix_weight: float, rng: random.Random) -> Batch:
        """A batch of about `TOKENS_PER_STEP`: neighbors in length of one random dialogue."""
        candidates = [rng.choice(items) for _ in range(32)]
        candidates.sort(key=lambda item: len(item.dialogue.turns) + len(item.captions))
        at = rng.randrange(len(candidates))
        chosen: list[tuple[Prefix, list[Branch]]] = []
        size = 0
        while size < TOKENS_PER_STEP:
            item = candidates[at % len(candidates)]
            prefix = self._prefix(item)
            chosen.append((prefix, branches(item, rng, BRANCHES)))
            size += len(prefix.ids) + 18 * BRANCHES
            at += 1
        return self._builder.pack(chosen, prefix_weight)

    def _prefix(self, item: Item) -> Prefix:
        key = item.dialogue.dialogue_id
        if key not in self._known:
            with torch.no_grad():
                features_KD = features(self._model, item.pictures)
            self._known[key] = self._builder.prefix(item.dialogue, features_KD, element_words(item))
        return self._known[key]


class State:
    """Model, heads and optimizer, saved now and then so that a killed run goes on."""

    def __init__(self, model: Any, path: Path) -> None:
        size = model.config.text_config.hidden_size
        self.bag_head = BagHead(size)
        self.model, self._path = model, path
        self.seconds, self.step, self.tokens = 0.0, 0, 0
        self.vision: dict[str, float] = {}
        self._parts = (model, self.bag_head)
        self._parameters = [p for part in self._parts for p in part.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.02, fused=True
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
            self.save()

    def save(self) -> None:
        """Write everything, so that the same command goes on from here."""
        self._saved = self.seconds
        temporary = self._path.with_suffix(".new")
        torch.save(
            {
                "parts": [part.state_dict() for part in self._parts],
                "optimizer": self.optimizer.state_dict(),
                "counts": (self.seconds, self.step, self.tokens),
                "vision": self.vision,
            },
            temporary,
        )
        temporary.replace(self._path)

    def report(self, *losses: float) -> None:
        """One line every half minute."""
        if self.seconds - self._printed > 30:
            self._printed = self.seconds
            named = zip(("answer", "match", "words"), losses, strict=True)
            shown = " ".join(f"{name} {value:.3f}" for name, value in named)
            print(f"{self.seconds / 60:.1f} min, step {self.step}: {shown}", flush=True)

    def summary(self) -> dict[str, Any]:
        """Counts of the run."""
        return {
            "steps": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds),
            **({"vision_accuracy": self.vision} if self.vision else {}),
        }

    def forget(self) -> None:
        """Remove the saved state of a finished run."""
        self._path.unlink(missing_ok=True)

    def _load(self) -> None:
        saved = torch.load(self._path)
        for part, values in zip(self._parts, saved["parts"], strict=True):
            part.load_state_dict(values)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.seconds, self.step, self.tokens = saved["counts"]
        self.vision = saved["vision"]
        self._saved = self._printed = self.seconds


def write(model: Any, tokenizer: Any, out: Path, made_by: dict[str, Any]) -> None:
    """Write config, bfloat16 weights, tokenizer, processor and `made_by.json`."""
    from jobs.checkout import commit

    model.model.language_model.config._attn_implementation = "sdpa"
    out.mkdir(parents=True, exist_ok=True)
    architecture.build_processor(tokenizer).save_pretrained(out)
    model.to(torch.bfloat16).save_pretrained(out)
    record = {"command": "python -m jobs.tiny.pretrain", "commit": commit(), **made_by}
    (out / "made_by.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
