"""A tiny CLIP in open_clip's own format, trained on drawn pictures and their captions.

    python -m jobs.tiny.clip --out DIR --tokenizer TINY_BASE --minutes 8 --seed 0

It serves the order reward (Eq 6) and the CLIP baselines; `local-dir:DIR` loads it in open_clip.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

CONTEXT = 32
SIDE = 56
VARIANTS = 4
"""Captions of a picture that training draws from."""


def model_config(vocab_size: int, eos_id: int, pad_id: int) -> dict[str, Any]:
    """open_clip's `model_cfg`: 16 patches a picture, three layers on either side."""
    tower = {"width": 96, "layers": 3}
    return {
        "embed_dim": 96,
        "vision_cfg": {**tower, "image_size": SIDE, "patch_size": 14, "head_width": 32},
        "text_cfg": {
            **tower,
            "heads": 3,
            "context_length": CONTEXT,
            "vocab_size": vocab_size,
            "hf_tokenizer_name": ".",
            "pool_type": "eos",
            "eos_id": eos_id,
            "pad_id": pad_id,
        },
    }


def preprocess_config() -> dict[str, Any]:
    """How open_clip scales a picture for this model."""
    return {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }


def write_tokenizer(source: Path, out: Path) -> tuple[int, int, int]:
    """Copy a tiny tokenizer that ends every text with its end token.

    Returns:
        Vocabulary size, end id, padding id.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(out)
    return len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id


def train(out: Path, tokenizer: Path, minutes: float, seed: int, pictures: int = 12_000) -> float:
    """Train and write a folder; returns the share of held-out captions that find their picture.

    Args:
        out: Folder of `open_clip_config.json`, weights and tokenizer.
        tokenizer: Folder of a tiny Qwen2-VL, for its tokenizer.
        minutes: Wall-clock time of training.
        seed: Seed of weights, pictures and batches.
        pictures: Number of drawn training pictures.
    """
    import open_clip
    import torch
    from open_clip.loss import ClipLoss

    out.mkdir(parents=True, exist_ok=True)
    config = model_config(*write_tokenizer(tokenizer, out))
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess_config()}, indent=2) + "\n"
    )
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = open_clip.CLIP(**config)
    tokenize = open_clip.get_tokenizer(f"local-dir:{out}", context_length=CONTEXT)
    images_NCHW, captions = draw(pictures, seed, "train")
    tokens_VNL = [tokenize([texts[v] for texts in captions]) for v in range(VARIANTS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    loss_of, started, step = ClipLoss(), time.monotonic(), 0
    while (done := (time.monotonic() - started) / (60 * minutes)) < 1:
        chosen = torch.tensor(rng.sample(range(len(captions)), 128))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, step / 100) * (1 - 0.95 * done)
        result = model(images_NCHW[chosen].float() / 127.5 - 1, tokens_VNL[step % VARIANTS][chosen])
        loss = loss_of(*result[:3])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        step += 1
        if step % 100 == 0:
            print(f"step {step} loss {float(loss):.3f}", flush=True)
    save_weights(model, out)
    score = held_out_accuracy(model.eval(), tokenize, seed)
    print(f"{step} steps, held-out caption -> picture among 100: {score:.3f}")
    return score


def draw(number: int, seed: int, split: Any) -> tuple[Any, list[list[str]]]:
    """Pictures [N, 3, 56, 56] uint8 and the caption variants of each."""
    import numpy as np
    import torch

    from ffr_core.dataset.synthetic import SynthConfig, describe_picture, draw_picture, generate

    pictures, captions = [], []
    for made in generate(SynthConfig(dialogues=number, seed=seed + 7, split=split)):
        for spec in made.pictures:
            pictures.append(np.asarray(draw_picture(spec, SIDE)))
            captions.append([describe_picture(spec, "en", v) for v in range(VARIANTS)])
        if len(pictures) >= number:
            break
    stacked = torch.from_numpy(np.stack(pictures[:number])).permute(0, 3, 1, 2).contiguous()
    return stacked, captions[:number]


def held_out_accuracy(model: Any, tokenize: Any, seed: int, number: int = 500) -> float:
    """Share of captions whose best picture among 100 has the same caption, on the held-out side."""
    import torch

    images, captions = draw(number, seed, "heldout")
    found = 0
    with torch.no_grad():
        image_ND = model.encode_image(images.float() / 127.5 - 1, normalize=True)
        text_ND = model.encode_text(tokenize([texts[0] for texts in captions]), normalize=True)
    for start in range(0, number, 100):
        best = (text_ND[start : start + 100] @ image_ND[start : start + 100].T).argmax(1)
        block = captions[start : start + 100]
        found += sum(block[int(i)][0] == block[j][0] for j, i in enumerate(best))
    return found / number


def save_weights(model: Any, out: Path) -> None:
    """Half precision on disk: 2 bytes a parameter."""
    from safetensors.torch import save_file

    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, out / "open_clip_model.safetensors")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, options.tokenizer, options.minutes, options.seed)


if __name__ == "__main__":
    main()
