"""Engines that several parts of a process share, and fingerprints that need none."""

import json
import shutil
import subprocess
import sys

import pytest

from ffr_core.engine.build import build_engine, close_shared_engines, shared_engine
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.lazy import LazyEngine, engine_fingerprint
from ffr_core.engine.loading import load_processor, picture_sizes
from ffr_core.errors import NotFoundError
from ffr_core.images import ImageLimits, ImageReader


def test_a_closed_engine_is_not_handed_out_again():
    config, images = EngineConfig(kind="scripted"), ImageReader(limits=ImageLimits())
    lazy = LazyEngine(config, images)
    lazy.generate([])
    first = shared_engine(config, images)
    lazy.close()
    try:
        assert shared_engine(config, images) is not first
    finally:
        close_shared_engines()


BASE = "ffr_core/data/checkpoints/tiny/base"


@pytest.mark.parametrize("limits", [{}, {"max_pixels": 5000, "max_images": 3}])
def test_a_fingerprint_is_that_of_the_engine(tmp_path, limits):
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    file = folder / "processor_config.json"
    file.write_text(file.read_text().replace('"longest_edge": 3136', '"longest_edge": 12544'))
    config = EngineConfig(kind="transformers", path=str(folder), dtype="float32", **limits)
    images = ImageReader(limits=ImageLimits())
    engine = build_engine(config, images)
    assert engine_fingerprint(config, images) == engine.fingerprint
    engine.close()


def test_a_fingerprint_needs_no_model_library():
    code = (
        "import sys\n"
        "from ffr_core.engine.loading import picture_sizes\n"
        f"print(picture_sizes({BASE!r}), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(3136, 3136) False\n"


@pytest.mark.parametrize("change", ["older keys", "older file"])
def test_picture_sizes_are_those_of_the_processor(tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(BASE, folder)
    file = folder / "processor_config.json"
    saved = json.loads(file.read_text())
    if change == "older keys":
        saved["image_processor"] |= {"min_pixels": 784, "max_pixels": 7840}
    else:
        part = {**saved.pop("image_processor"), "size": None, "min_pixels": 784}
        (folder / "preprocessor_config.json").write_text(json.dumps(part | {"max_pixels": 7840}))
    file.write_text(json.dumps(saved))
    size = load_processor(folder).image_processor.size
    assert picture_sizes(folder) == (784, 7840) == (size["shortest_edge"], size["longest_edge"])


def test_a_folder_without_a_processor_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no processor at"):
        picture_sizes(tmp_path)
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(NotFoundError, match="no processor at"):
        picture_sizes(tmp_path)
