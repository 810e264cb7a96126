"""Text in pictures: the real reader where it is installed, its place in the system without it."""

import importlib.metadata
from dataclasses import replace
from functools import cached_property

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from ffr_core.errors import ConfigError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.ocr import OcrReader
from ffr_core.passages import turn_text
from ffr_core.profile import load_profile
from ffr_core.records import content_hash, dialogue_from_record, record_from_dialogue
from ffr_core.types import Dialogue, Image, Turn


class Scripted(OcrReader):
    """An engine that finds one clear and one doubtful line in every picture."""

    @cached_property
    def _engine(self):
        return lambda pixels: ([[[], "TOTAL 42.50", 0.9], [[], "smudge", 0.4]], 0.1)


def reader(folder, kind=Scripted):
    images = ImageReader(limits=ImageLimits(roots=(str(folder),)))
    return kind(images=images, min_confidence=0.6)


def dialogue(*uris):
    images = tuple(Image(image_id=i, uri=uri) for i, uri in enumerate(uris))
    return Dialogue(
        dialogue_id="d",
        turns=(
            Turn(turn_id=0, speaker="Ana", text="look", images=images),
            Turn(turn_id=1, speaker="Ben", text="ok"),
        ),
    )


@pytest.fixture
def receipt(tmp_path):
    """A picture that says TOTAL 42.50."""
    picture = PIL.Image.new("RGB", (420, 120), "white")
    font = PIL.ImageFont.load_default(48)
    PIL.ImageDraw.Draw(picture).text((30, 30), "TOTAL 42.50", fill="black", font=font)
    picture.save(tmp_path / "p1.png")
    return str(tmp_path / "p1.png")


def test_the_real_reader_finds_printed_text(tmp_path, receipt):
    pytest.importorskip(
        "rapidocr_onnxruntime", reason="RapidOCR is not installed; pip install 'ffrs[ocr]'"
    )
    real = reader(tmp_path, OcrReader)
    assert real.read(receipt).replace(" ", "").upper() == "TOTAL42.50"
    assert real.fingerprint.startswith("rapidocr:")


def test_what_was_read_is_searched_but_is_not_content(tmp_path, receipt):
    plain = dialogue(receipt, None, str(tmp_path / "gone.png"), "/etc/passwd")
    (read,) = reader(tmp_path).read_all([plain])
    assert [image.text for image in read.images] == ["TOTAL 42.50", None, None, None]
    assert turn_text(read.turns[0]) == "Ana: look p1 TOTAL 42.50 gone passwd"
    assert content_hash(read) == content_hash(plain)
    assert read.turns[1] == plain.turns[1]


def test_text_that_the_source_gives_stays_and_is_content(tmp_path, receipt):
    def given(text, ocr=False):
        plain = dialogue(receipt)
        image = replace(plain.images[0], text=text, ocr=ocr)
        return replace(plain, turns=(replace(plain.turns[0], images=(image,)), *plain.turns[1:]))

    (read,) = reader(tmp_path).read_all([given("TOTAL 12")])
    assert read.images[0].text == "TOTAL 12"
    assert content_hash(given("TOTAL 12")) != content_hash(given("TOTAL 99, corrected"))
    (again,) = reader(tmp_path).read_all([given("read by another version", ocr=True)])
    assert again.images[0].text == "TOTAL 42.50"
    assert dialogue_from_record(record_from_dialogue(again)).images == again.images


def test_a_dialogue_without_pictures_passes_unchanged(tmp_path):
    plain = dialogue(None)
    assert reader(tmp_path).read_all([plain]) == [plain]


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ConfigError, match=r"RapidOCR is not installed; run pip install"):
        assert reader(tmp_path).fingerprint


def test_the_ocr_profile_is_the_laptop_profile_with_ocr(tmp_path):
    laptop, ocr = load_profile("laptop", tmp_path), load_profile("laptop-ocr", tmp_path)
    assert (laptop.ocr.enabled, ocr.ocr.enabled) == (False, True)
    assert ocr.model_copy(update={"ocr": laptop.ocr}) == laptop
