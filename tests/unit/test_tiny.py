"""The tiny family: tokenizer, packed sequences against the plain model, tasks without gold."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from ffr_core.parsing import parse_clusters, parse_selection
from jobs.tiny import tasks
from jobs.tiny.architecture import MARKERS, write_random_model
from jobs.tiny.attention import use_branched_attention
from jobs.tiny.corpus import load_items
from jobs.tiny.sequences import ANSWER_FRAME, Branch, SequenceBuilder, patches

PACKAGE = Path(__file__).parents[2] / "ffr_core"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny")
    write_random_model(out)
    return out


@pytest.fixture(scope="module")
def parts(folder):
    from ffr_core.engine.loading import load_model, load_processor

    return load_model(folder, "float32"), load_processor(folder)


@pytest.fixture(scope="module")
def items():
    return load_items(3, 5, turns=(6, 10), topics=(2, 2))


def test_every_marker_and_small_number_is_one_token(parts):
    tokenizer = parts[1].tokenizer
    for text in (*MARKERS, "0", "7", "42", "199"):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1


def test_the_shipped_base_has_the_same_markers():
    from ffr_core.engine.loading import load_processor

    tokenizer = load_processor(PACKAGE / "data/checkpoints/tiny/base").tokenizer
    assert all(len(tokenizer(m, add_special_tokens=False)["input_ids"]) == 1 for m in MARKERS)


def test_patches_equal_those_of_the_image_processor(parts):
    from PIL import Image

    pictures = np.random.default_rng(0).integers(0, 255, (2, 56, 56, 3), dtype=np.uint8)
    read = parts[1].image_processor(
        images=[Image.fromarray(p) for p in pictures], return_tensors="pt"
    )
    assert torch.allclose(patches(pictures), read["pixel_values"], atol=1e-5)


def test_branches_behind_one_dialogue_equal_separate_prompts(parts, items):
    model, processor = parts
    builder = SequenceBuilder(processor.tokenizer)
    item = next(item for item in items if item.captions)
    prefix = builder.prefix(item.dialogue, item.pictures)
    asked = [Branch(prompt="Q: red", answer="yes"), Branch(prompt="Q: kite on", answer="no no")]
    image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    plain = []
    for branch in asked:
        text = f"{branch.prompt}{ANSWER_FRAME}{branch.answer}<|im_end|>"
        ids = torch.tensor([prefix.ids + builder.tokens(text)])
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                mm_token_type_ids=(ids == image_token).int(),
                pixel_values=patches(item.pictures),
                image_grid_thw=torch.tensor([[1, 4, 4]] * len(item.pictures)),
            ).logits
        plain.append(logits[0, len(prefix.ids) :])
    batch = builder.pack([(prefix, asked)])
    use_branched_attention(model)
    with torch.no_grad():
        packed = model(**batch.inputs).logits[0]
    model.model.language_model.config._attn_implementation = "sdpa"
    layout = batch.inputs["attention_mask"]["full_attention"]
    for number, logits in enumerate(plain):
        start = layout.prefix + number * layout.size
        assert torch.allclose(packed[start : start + len(logits)], logits, atol=1e-4)


def test_base_tasks_never_ask_for_ids(items):
    rng = random.Random(0)
    for item in items:
        turns, images = len(item.dialogue.turns), len(item.dialogue.images)
        for branch in tasks.branches(item, rng, 60):
            lists_ids = (
                parse_selection(branch.answer, turns, images).well_formed
                or parse_clusters(branch.answer, turns).well_formed
            )
            assert not lists_ids or branch.prompt == f"copy {branch.answer}"


def test_found_turns_hold_the_words_of_the_probe(items):
    rng = random.Random(1)
    for _ in range(40):
        branch = tasks.find_turns(items[0], rng)
        if branch.turns:
            first = items[0].dialogue.turns[min(branch.turns)].text
            assert branch.answer.startswith(" ".join(first.split()[:2]))
