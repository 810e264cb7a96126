"""The shipped tiny CLIP as the image-text filter, with the shipped configuration's threshold."""

from dataclasses import replace
from pathlib import Path

import pytest

from ffr_core.dataset.cleaning import clean_dialogue
from ffr_core.dataset.features import embed_dialogues, image_text_similarity
from ffr_core.dataset.sources import dialogue_from_dialogcc
from ffr_core.dataset.synthetic import SynthConfig
from ffr_core.dataset.synthetic.defects import plant
from ffr_core.dataset.synthetic.dialogcc import short_dialogue
from ffr_core.dataset.synthetic.pictures import draw_sized
from ffr_core.dataset.synthetic.write import save_png
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.images import ImageLimits, ImageReader
from jobs.dataset_config import DatasetConfig, build_clip

CONFIG = DatasetConfig.load(Path("jobs/configs/tiny/dataset.toml"))
DIALOGUES = 60


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Dialogues with their first picture exchanged (every second one), and what is decided."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images").mkdir()
    config = SynthConfig(dialogues=DIALOGUES, topics=(1, 1), turns=(6, 8), seed=17)
    dialogues, exchanged = [], []
    for number in range(DIALOGUES):
        made = short_dialogue(config, number)
        wrong = number % 2 == 1 and bool(made.files)
        if wrong:
            made, _ = plant("mismatched_image", made, made, "train")
        for uri, sized in made.files.items():
            save_png(draw_sized(sized.picture, 64, 64), folder / uri)
        entry = {"dialogue_id": made.dialogue_id, "dialogue": made.entries}
        dialogues.append(dialogue_from_dialogcc(entry, str(folder)))
        exchanged.append({0} if wrong else set())
    reader = ImageReader(limits=ImageLimits(roots=(str(folder),)))
    clip = build_clip(CONFIG.clip, reader)
    found = []
    for dialogue, item in zip(
        dialogues, embed_dialogues(dialogues, HashingEncoder(64), clip, reader), strict=True
    ):
        similarity = image_text_similarity(dialogue, item)
        rules = replace(CONFIG.cleaning, min_side=1)
        verdict = clean_dialogue(dialogue, rules, facts=item.facts, image_text=similarity)
        removed = {i for i, reason in verdict.removed_images}
        assert {reason for _, reason in verdict.removed_images} <= {"low_image_text_similarity"}
        found.append((len(dialogue.images), removed))
    return found, exchanged


def test_exchanged_pictures_are_removed(verdicts):
    found, exchanged = verdicts
    planted = sum(map(len, exchanged))
    caught = sum(len(removed & wrong) for (_, removed), wrong in zip(found, exchanged, strict=True))
    assert planted >= 20 and caught >= 0.95 * planted


def test_pictures_that_fit_stay(verdicts):
    found, exchanged = verdicts
    fitting = sum(images for images, _ in found) - sum(map(len, exchanged))
    lost = sum(len(removed - wrong) for (_, removed), wrong in zip(found, exchanged, strict=True))
    assert fitting >= 60 and lost <= 0.02 * fitting
