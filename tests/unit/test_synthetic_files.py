"""Drawn pictures, written corpora and planted defects of the generator."""

import json
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ffr_core.dataset.cleaning import CleaningRules, ImageFacts, image_problem, structure_problem
from ffr_core.dataset.near_duplicates import jaccard, shingles
from ffr_core.dataset.sources import read_file
from ffr_core.dataset.synthetic import (
    PictureSpec,
    SynthConfig,
    describe_picture,
    draw_picture,
    generate,
    write,
)
from ffr_core.dataset.synthetic.backgrounds import BACKGROUNDS
from ffr_core.dataset.synthetic.defects import KINDS
from ffr_core.dataset.synthetic.dialogcc import short_dialogue
from ffr_core.dataset.synthetic.pictures import COLORS as PAINTS
from ffr_core.dataset.synthetic.shapes import SHAPES
from ffr_core.dataset.synthetic.words import COLORS, OBJECTS, PLACES
from ffr_core.errors import ConfigError
from ffr_core.records import read_jsonl
from jobs.cli import app

SIDE = 56
"""Pixels at which the tiny model sees a picture."""


def pixels(spec, size=SIDE):
    return np.asarray(draw_picture(spec, size)).astype(int)


def painted(image, color):
    """Mask of the pixels that have a color."""
    return np.abs(image - np.array(PAINTS[color])).max(axis=2) < 24


def test_every_concept_can_be_drawn():
    assert set(SHAPES) == set(OBJECTS)
    assert set(PAINTS) == set(COLORS)
    assert set(BACKGROUNDS) == set(PLACES)


def test_the_color_is_plain_at_the_size_of_the_model():
    for key in OBJECTS:
        for number, color in enumerate(COLORS):
            image = pixels(PictureSpec(key, color, PLACES[number], number))
            mine = painted(image, color).sum()
            assert mine > 0.025 * SIDE * SIDE, (key, color, mine)


def test_objects_differ_in_outline():
    masks = {key: painted(pixels(PictureSpec(key, "red", "lake", 6), 96), "red") for key in OBJECTS}
    for one, other in combinations(OBJECTS, 2):
        common = (masks[one] & masks[other]).sum() / (masks[one] | masks[other]).sum()
        assert common < 0.85, (one, other, common)


def test_places_differ():
    images = {place: pixels(PictureSpec("key", "black", place, 4)) for place in PLACES}
    for one, other in combinations(PLACES, 2):
        assert np.abs(images[one] - images[other]).mean() > 20, (one, other)


def test_equal_specs_give_equal_pixels_and_another_style_does_not():
    spec = PictureSpec("car", "blue", "street", 10)
    assert np.array_equal(pixels(spec), pixels(spec))
    moved = PictureSpec("car", "blue", "street", 12)
    assert np.abs(pixels(spec) - pixels(moved)).mean() > 5
    assert draw_picture(spec).size == (512, 512)


def test_captions_name_all_that_is_shown():
    spec = PictureSpec("umbrella", "purple", "stage", 8)
    found = {describe_picture(spec, "en", variant) for variant in range(8)}
    assert len(found) > 2
    assert all({"umbrella", "purple", "stage"} <= set(caption.split()) for caption in found)
    assert "雨伞" in describe_picture(spec, "zh") and "紫色" in describe_picture(spec, "zh")
    heldout = PictureSpec("umbrella", "purple", "stage", 9)
    assert not found & {describe_picture(heldout, "en", variant) for variant in range(8)}


def test_written_records_are_read_back_and_a_second_run_changes_nothing(tmp_path):
    config = SynthConfig(dialogues=4, seed=2, language="mixed", turns=(12, 14))
    report = write(config, tmp_path)
    made = list(generate(config))
    read = list(read_jsonl(report.path))
    assert [d.turns[3].text for d in read] == [m.dialogue.turns[3].text for m in made]
    assert [d.queries for d in read] == [m.dialogue.queries for m in made]
    assert [d.fragments for d in read] == [m.dialogue.fragments for m in made]
    images = [image for dialogue in read for image in dialogue.images]
    assert report.images == len(images) == len(list((tmp_path / "images").iterdir()))
    for image in images:
        with Image.open(image.uri) as opened:
            assert opened.size == (512, 512)
    assert report.dialogues == 4 and report.turns == sum(len(d.turns) for d in read)
    assert sum(report.queries.values()) == sum(len(d.queries) for d in read)
    lines = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert report.qa_pairs == sum(len(line["qa_pairs"]) for line in lines)
    assert lines[0]["pictures"][0]["object"] == made[0].pictures[0].object

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write(config, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_written_picture_keeps_its_color(tmp_path):
    config = SynthConfig(dialogues=1, seed=4, turns=(12, 12))
    write(config, tmp_path)
    (made,) = generate(config)
    for image, picture in zip(made.dialogue.images, made.pictures, strict=True):
        with Image.open(tmp_path / image.uri) as opened:
            shown = np.asarray(opened.convert("RGB").resize((SIDE, SIDE))).astype(int)
        assert painted(shown, picture.color).sum() > 0.02 * SIDE * SIDE


def short(tmp_path, **values):
    config = SynthConfig(turns=(5, 9), topics=(1, 1), seed=1, **values)
    report = write(config, tmp_path, "dialogcc")
    planted = json.loads((tmp_path / "defects.json").read_text())["defects"]
    return report, list(read_file(report.path)), planted


def facts(dialogue):
    found = {}
    for image in dialogue.images:
        with Image.open(image.uri) as opened:
            found[image.image_id] = ImageFacts(
                width=opened.width, height=opened.height, key=image.uri
            )
    return found


def said(dialogue):
    return shingles(" ".join(turn.text for turn in dialogue.turns))


def test_short_dialogues_have_the_form_of_dialogcc(tmp_path):
    report, read, planted = short(tmp_path, dialogues=6)
    assert report.path.name == "train.json" and planted == [] and len(read) == 6
    rules = CleaningRules()
    for dialogue in read:
        assert structure_problem(dialogue, rules) == ""
        assert dialogue.images
        assert not any(image_problem(found, rules) for found in facts(dialogue).values())
        for turn in dialogue.turns:
            assert all(image.caption == turn.text for image in turn.images)
    entries = json.loads(report.path.read_text())
    assert set(entries[0]["dialogue"][0]) == {
        "utterance_idx", "utterance", "speaker", "rationale", "shared_image", "description",
    }  # fmt: skip


def test_every_planted_defect_is_there_and_nothing_else(tmp_path):
    report, read, planted = short(tmp_path, dialogues=13, defects=0.5)
    rules = CleaningRules()
    by_id = {dialogue.dialogue_id: dialogue for dialogue in read}
    bad = {entry["dialogue_id"]: entry for entry in planted}
    assert len(planted) == 6 and set(report.defects) == set(KINDS)
    clean = {m.dialogue_id: m for m in short(tmp_path / "clean", dialogues=13)[1]}
    for dialogue in read:
        kind = bad.get(dialogue.dialogue_id, {}).get("defect", "")
        broken = structure_problem(dialogue, rules)
        assert (broken == "broken_turn_structure") == (kind == "broken_turn_structure")
        problems = {image_problem(found, rules) for found in facts(dialogue).values()} - {""}
        assert problems == ({kind} if kind in ("small_image", "extreme_aspect_ratio") else set())
        if kind == "":
            original = clean[dialogue.dialogue_id]
            assert [t.text for t in original.turns] == [t.text for t in dialogue.turns]
    for dialogue_id, entry in bad.items():
        dialogue, original = by_id[dialogue_id], clean[dialogue_id]
        texts = [turn.text for turn in dialogue.turns]
        if entry["defect"] == "near_duplicate":
            assert jaccard(said(dialogue), said(by_id[entry["other"]])) > 0.7
        if entry["defect"] == "off_topic":
            foreign = [t.text for t in clean[entry["other"]].turns]
            taken = [a for a, b in zip(texts, original.turns, strict=True) if a != b.text]
            assert taken and set(taken) <= set(foreign)
        if entry["defect"] == "mismatched_image":
            assert entry["reason"] == "low_image_text_similarity"
            (image_id,) = entry["image_ids"]
            shown, wanted = (
                np.asarray(Image.open(d.images[image_id].uri).convert("RGB")).astype(int)
                for d in (dialogue, original)
            )
            assert dialogue.images[image_id].caption == original.images[image_id].caption
            assert np.abs(shown - wanted).mean() > 5


def test_near_duplicates_are_the_exception():
    config = SynthConfig(dialogues=60, turns=(5, 9), topics=(1, 1))
    made = [short_dialogue(config, number) for number in range(config.dialogues)]
    texts = [shingles(" ".join(e["utterance"] for e in one.entries)) for one in made]
    assert max(jaccard(one, other) for one, other in combinations(texts, 2)) < 0.5


def test_defects_need_short_dialogues(tmp_path):
    with pytest.raises(ConfigError, match="dialogcc"):
        write(SynthConfig(dialogues=1, defects=0.5), tmp_path)


def test_the_command(tmp_path):
    arguments = ["synth", "--dialogues", "2", "--seed", "3", "--turns", "12:13", "--topics", "2:2"]
    arguments += ["--split", "heldout", "--no-images", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 dialogues" in result.output
    assert len(list(read_jsonl(tmp_path / "dialogues.jsonl"))) == 2
    wrong = CliRunner().invoke(
        app, ["synth", "--dialogues", "2", "--turns", "12", "--out", str(tmp_path)]
    )
    assert wrong.exit_code == 2
