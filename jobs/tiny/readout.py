"""Where an answer goes wrong: given the right answer so far, how often is its next token right?

    python -m jobs.tiny.readout --base DIR [--adapter DIR] [--split heldout]

Two prompts on fresh dialogues: `alike` (the base's task, which turns or pictures name the same) and
`query` (what SFT teaches). Kinds: whether a list is empty, its first id, whether it goes on, where
it stops, its later ids. Legend: L tokens.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ffr_core.adapters import load_adapter
from ffr_core.engine.loading import load_model, load_processor
from ffr_core.markup import render_query, render_selection
from jobs.tiny import tasks
from jobs.tiny.attention import use_branched_attention
from jobs.tiny.corpus import load_items
from jobs.tiny.sequences import Branch, SequenceBuilder
from jobs.tiny.training import language_states
from jobs.tiny.vision import features

LISTS = {"<|utt_ids_start|>": "turns", "<|img_ids_start|>": "pictures"}


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--split", choices=("train", "heldout"), default="heldout")
    parser.add_argument("--dialogues", type=int, default=40)
    parser.add_argument("--seed", type=int, default=999)
    options = parser.parse_args()
    model = load_model(options.base, "float32")
    if options.adapter:
        wrapped = load_adapter(model, str(options.adapter), "default", trainable=False)
        model = wrapped.get_base_model()
    tokenizer = load_processor(options.base).tokenizer
    items = load_items(
        options.dialogues, options.seed, turns=(6, 14), topics=(2, 3), split=options.split
    )
    for name, counts in measure(model.eval(), tokenizer, items).items():
        for kind in sorted(k for k, right in counts if right):
            right, all_ = counts[kind, True], counts[kind, True] + counts[kind, False]
            print(f"{name:6} {kind:22} {100 * right / all_:5.1f} %  of {all_}")


@torch.no_grad()
def measure(model: Any, tokenizer: Any, items: Sequence[tasks.Item]) -> dict[str, Counter[Any]]:
    """Counts of (kind of token, whether the model's most probable token is the right one)."""
    use_branched_attention(model)
    builder, rng = SequenceBuilder(tokenizer), random.Random(3)
    counts: dict[str, Counter[Any]] = {"alike": Counter(), "query": Counter()}
    for item in items:
        prefix = builder.prefix(item.dialogue, features(model, item.pictures))
        asked = {
            "alike": [tasks.find_alike(item, rng) for _ in range(6)],
            "query": [
                Branch(prompt=render_query(q.query), answer=render_selection(q.relevance))
                for q in item.dialogue.queries or ()
            ],
        }
        for name, branches in asked.items():
            batch = builder.pack([(prefix, branches)])
            states = language_states(model, batch).last_hidden_state[0]
            guessed_L = model.lm_head(states).argmax(-1)
            chosen_L = batch.labels_BL[0] >= 0
            chosen_L[: len(prefix.ids)] = False
            right = tokenizer.convert_ids_to_tokens(batch.labels_BL[0][chosen_L].tolist())
            guessed = tokenizer.convert_ids_to_tokens(guessed_L[chosen_L].tolist())
            counts[name].update(kinds(right, guessed))
    return counts


def kinds(right: Sequence[str], guessed: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The tokens that decide what a list holds, each with whether it was guessed."""
    part = before = ""
    for token, guess in zip(right, guessed, strict=True):
        part = LISTS.get(token, part)
        if part and before == "[":
            yield f"{part}: empty?", (token == "]") == (guess == "]")
            if token != "]":
                yield f"{part}: first id", token == guess
        elif part and before.isdigit():
            yield f"{part}: {'stop' if token == ']' else 'go on'}", token == guess
        elif part and token.isdigit():
            yield f"{part}: later id", token == guess
        before = token


if __name__ == "__main__":
    main()
