"""The tiny family: tokenizer, packed sequences against the plain model, tasks without gold."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from ffr_core.parsing import parse_clusters, parse_selection
from jobs.tiny import tasks, vision
from jobs.tiny.architecture import MARKERS, write_random_model
from jobs.tiny.attention import use_branched_attention
from jobs.tiny.corpus import load_items
from jobs.tiny.sequences import ANSWER_FRAME, Branch, SequenceBuilder, patches
from jobs.tiny.training import language_states
from jobs.tiny.vision import features

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
    with torch.no_grad():
        prefix = builder.prefix(item.dialogue, features(model, item.pictures))
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
        packed = model.lm_head(language_states(model, batch).last_hidden_state)[0]
    model.model.language_model.config._attn_implementation = "sdpa"
    layout = batch.inputs["attention_mask"]["full_attention"]
    for number, logits in enumerate(plain):
        start = layout.prefix + number * layout.size
        assert torch.allclose(packed[start : start + len(logits)], logits, atol=1e-4)


def test_the_matching_loss_is_that_of_a_plain_loop(parts, items):
    from torch.nn.functional import binary_cross_entropy_with_logits

    from jobs.tiny.training import BETWEEN_WEIGHT, POSITIVE_WEIGHT, matching_loss
    from jobs.training.attention_scores import attention_scores

    model, processor = parts
    builder = SequenceBuilder(processor.tokenizer)
    item = next(item for item in items if item.captions)
    asked = Branch(
        prompt="like red turns",
        answer="<|utt_ids_start|>[1]<|utt_ids_end|><|img_ids_start|>[]<|img_ids_end|>",
        turns=frozenset({1}),
        images=frozenset(),
    )
    with torch.no_grad():
        prefix = builder.prefix(item.dialogue, features(model, item.pictures))
        batch = builder.pack([(prefix, [asked])])
        use_branched_attention(model)
        hidden = language_states(model, batch, all_layers=True).hidden_states[1]
        found = matching_loss(model, 1, hidden, batch)
        text = model.model.language_model
        means = []
        for match in batch.matches:
            losses = weights = 0.0
            gold = dict(zip(match.ends, match.gold, strict=True))
            for key in range(max(match.ends) + 1):
                if key not in gold and (key - match.position) % 4:
                    continue
                weight = BETWEEN_WEIGHT if key not in gold else 1.0
                weight = POSITIVE_WEIGHT if gold.get(key) else weight
                places = [torch.tensor([at]) for at in (0, match.position, key)]
                score = attention_scores(text, 1, hidden, batch.inputs["position_ids"], *places)
                target = torch.tensor([float(gold.get(key, False))])
                losses += weight * float(binary_cross_entropy_with_logits(score, target))
                weights += weight
            means.append(losses / weights)
    text.config._attn_implementation = "sdpa"
    assert len(means) > 3  # the prompt's end, tokens of the turn list, the empty picture list
    assert float(found) == pytest.approx(sum(means) / len(means), rel=1e-4)


def test_no_base_task_answers_a_query(items):
    rng = random.Random(0)
    asked = 0
    for item in items:
        turns, images = len(item.dialogue.turns), len(item.dialogue.images)
        for branch in tasks.branches(item, rng, 60):
            if "<|query_start|>" in branch.prompt:
                asked += 1
                assert branch.answer is None
            elif parse_clusters(branch.answer, turns).well_formed:
                assert branch.prompt == f"copy {branch.answer}"
            elif parse_selection(branch.answer, turns, images).well_formed:
                assert branch.prompt.split()[0] in ("copy", "like", "where")
    assert asked


def test_alike_are_the_turns_and_pictures_that_name_the_same(items):
    rng = random.Random(1)
    item = next(item for item in items if item.captions)
    for _ in range(60):
        branch = tasks.find_alike(item, rng)
        wanted = [set(tasks.concepts()[word].forms) for word in branch.words]
        assert 1 <= len(wanted) <= 2
        texts = [set(turn.text.split()) for turn in item.dialogue.turns]
        told = {i for i, words in enumerate(texts) if all(words & forms for forms in wanted)}
        captions = [set(caption.split()) for caption in item.captions]
        shown = {i for i, words in enumerate(captions) if all(words & forms for forms in wanted)}
        side = branch.prompt.split()[-1]
        assert branch.turns == (told if side != "pictures" else set())
        assert branch.images == (shown if side != "turns" else set())
        read = parse_selection(branch.answer, len(item.dialogue.turns), len(item.captions))
        assert read.selection.utterance_ids == branch.turns
        assert read.selection.image_ids == branch.images


def test_a_tower_is_not_asked_for_what_training_never_shows():
    from ffr_core.dataset.synthetic.words import COLORS, OBJECTS, PLACES, colors_of, places_of

    names = (OBJECTS, COLORS, PLACES)
    labels = torch.tensor([[3, COLORS.index(colors_of(OBJECTS[3], "train")[0]), 0]])
    thing, color, place = vision.possible(labels, *vision.together(names))
    assert {COLORS[i] for i in color[0].nonzero()} == set(colors_of(OBJECTS[3], "train"))
    assert {PLACES[i] for i in place[0].nonzero()} == set(places_of(OBJECTS[3], "train"))
    for number, name in enumerate(OBJECTS):
        both = COLORS[labels[0, 1]] in colors_of(name, "train")
        assert thing[0, number] == (both and PLACES[0] in places_of(name, "train"))


def test_the_readout_sorts_the_tokens_of_a_list():
    from jobs.tiny.readout import kinds

    right = ["<|utt_ids_start|>", "[", "3", ",Ġ", "5", "]", "<|img_ids_start|>", "[", "]"]
    guessed = ["x", "[", "3", "]", "6", "]", "x", "[", "0"]
    assert list(kinds(right, guessed)) == [
        ("turns: empty?", True),
        ("turns: first id", True),
        ("turns: go on", False),
        ("turns: later id", False),
        ("turns: stop", True),
        ("pictures: empty?", False),
    ]
