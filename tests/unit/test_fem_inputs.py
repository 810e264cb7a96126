"""What FEM reads of a passage that is too long."""

from pathlib import Path

import PIL.Image
import pytest
from patch_parts import count_patches

from ffr_core.embedding.fem import FemInputs, FemTemplate
from ffr_core.engine.inputs import PromptEncoder
from ffr_core.engine.loading import load_processor
from ffr_core.types import Image, Passage

TINY = Path(__file__).parents[2] / "ffr_core/data/checkpoints/tiny/base"
WORDS = "zebra " * 300


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder(
        load_processor(TINY), lambda uri: PIL.Image.new("RGB", (448, 448)), max_images=8
    )


def passage(text, num_images):
    images = tuple(Image(image_id=i, uri=f"/{i}.png") for i in range(num_images))
    return Passage(text=text, images=images)


def sizes(encoder):
    """Tokens of the template, of a picture, and of `WORDS`."""
    inputs = FemInputs(encoder, FemTemplate(max_tokens=100_000))
    rows = [passage("", 0), passage("", 1), passage(WORDS, 0)]
    empty, pictured, written = (encoder.num_tokens(inputs.render_passage(row)) for row in rows)
    return empty, pictured - empty, written - empty


def test_the_last_pictures_go_until_a_quarter_is_left_for_text(encoder):
    template, picture, words = sizes(encoder)
    # Room for the template, three pictures and a quarter for text, but not for a fourth picture.
    limit = (template + 3 * picture) * 4 // 3 + 4
    assert words > limit
    before = encoder.counts["images_left_out"]
    prompt = FemInputs(encoder, FemTemplate(max_tokens=limit)).render_passage(passage(WORDS, 8))
    assert [image.uri for image in prompt.images] == ["/0.png", "/1.png", "/2.png"]
    assert encoder.num_tokens(prompt) <= limit
    assert prompt.text.count("zebra") > 0
    assert prompt.images_left_out == encoder.counts["images_left_out"] - before == 5


def test_a_short_text_takes_no_more_than_it_needs(encoder):
    template, picture, _ = sizes(encoder)
    limit = template + 5 * picture + 40
    inputs = FemInputs(encoder, FemTemplate(max_tokens=limit))
    for num_images in (5, 6, 8):
        prompt = inputs.render_passage(passage("zebra", num_images))
        assert len(prompt.images) >= 5 and "zebra" in prompt.text
        assert encoder.num_tokens(prompt) <= limit
        assert prompt.images_left_out == num_images - len(prompt.images)


def test_pictures_without_text_fit_too(encoder):
    template, picture, _ = sizes(encoder)
    limit = template + picture * 2 + picture // 2
    prompt = FemInputs(encoder, FemTemplate(max_tokens=limit)).render_passage(passage("", 4))
    assert (len(prompt.images), prompt.images_left_out) == (2, 2)
    encoded = FemInputs(encoder, FemTemplate(max_tokens=limit)).passage(passage("", 4))
    assert len(encoded.input_ids) <= limit and encoded.images_left_out == 2


def test_only_the_patches_of_one_pass_are_in_memory(monkeypatch, tmp_path):
    """A picture of the paper's size is 14 MB of patches; a corpus of them fits nowhere."""
    from jobs.fem.backbones import VisionBackbone
    from jobs.fem.config import FemConfig

    for i in range(6):
        PIL.Image.new("RGB", (224, 224), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [
        Passage(text="zebra", images=(Image(image_id=0, uri=str(tmp_path / f"{i}.png")),))
        for i in range(6)
    ]
    config = FemConfig(
        model={"kind": "qwen2vl", "path": str(TINY), "dtype": "float32"},
        data=({"path": "unread"},),
        image_roots=(str(tmp_path),),
        num_steps=1,
        tokens_per_pass=1,
        launch={"name": "a"},
    )
    backbone = VisionBackbone(config, "cpu")
    most = count_patches(monkeypatch)
    lengths = backbone.lengths(rows)
    assert not most
    vectors = backbone.plain(rows)
    assert vectors.shape == (6, backbone.dim) and max(most) <= 2
    monkeypatch.undo()
    assert lengths == [len(backbone._inputs.passage(row).input_ids) for row in rows]
    assert backbone.plain([]).shape == backbone.embed([]).shape == (0, backbone.dim)
