from pathlib import Path

import pytest

from ffr_core import parts
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.engine.build import close_shared_engines
from ffr_core.errors import ConfigError
from ffr_core.localization.f2rvlm import F2rvlmLocalizer
from ffr_core.profile import load_profile
from ffr_core.segmentation.vlm import VlmSegmenter
from ffr_core.types import Dialogue, Turn

SCRIPTED = """
[encoder]
kind = "hashing"
[index]
kind = "exact"
[engine]
kind = "scripted"
[engine.script]
"<|query_start|>" = "<|utt_ids_start|>[1]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
"" = "[[0,1],[2]]"
[segmenter]
kind = "vlm"
prompts = "compact"
[localizer]
kind = "f2rvlm"
prompts = "compact"
"""
TALK = Dialogue(
    dialogue_id="d",
    turns=tuple(Turn(turn_id=i, speaker="A", text=t) for i, t in enumerate(["hi", "dog", "bye"])),
)


def write(folder: Path, text: str) -> str:
    (folder / "profile.toml").write_text(text)
    return str(folder)


def test_a_profile_of_models_searches(tmp_path: Path) -> None:
    with parts.open_system(write(tmp_path, SCRIPTED), tmp_path / "home") as system:
        assert isinstance(system.builder.segmenter, VlmSegmenter)
        assert isinstance(system.localizer, F2rvlmLocalizer)
        assert system.builder.segmenter._engine is system.localizer.engine
        [(_, fragments)] = system.builder.segment([TALK])
        assert [f.turn_ids for f in fragments] == [(0, 1), (2,)]
        assert set(system.localizer.localize("dog", TALK, [0, 1]).utterances) == {1}
    close_shared_engines()


def test_parts_may_have_engines_of_their_own(tmp_path: Path) -> None:
    own = '\n[localizer.engine]\nkind = "scripted"\nscript = {"" = "x"}\n'
    profile = load_profile(write(tmp_path, SCRIPTED + own), tmp_path)
    first = parts.part_engine(profile, profile.segmenter)
    second = parts.part_engine(profile, profile.localizer)
    assert first is not second and first is parts.part_engine(profile, profile.segmenter)
    close_shared_engines()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    profile = load_profile(
        write(tmp_path, SCRIPTED.replace('kind = "scripted"', 'kind = "vllm"')), tmp_path
    )
    with pytest.raises(ConfigError, match="needs 'path'"):
        parts.part_engine(profile, profile.segmenter)
    with pytest.raises(ConfigError, match="needs an engine"):
        parts.build_localizer(profile.localizer, HashingEncoder())
    named = SCRIPTED.replace('kind = "vlm"', 'kind = "vlm"\nadapter = "segmenter"')
    profile = load_profile(write(tmp_path, named), tmp_path)
    with pytest.raises(ConfigError, match=r"'segmenter' is not in \[engine.adapters\]"):
        parts.build_builder(profile, HashingEncoder())
    close_shared_engines()


def test_the_tiny_profile_points_into_the_package(tmp_path: Path) -> None:
    profile = load_profile("tiny", tmp_path)
    package = Path(parts.__file__).parent
    assert profile.engine.path == str(package / "data/checkpoints/tiny/base")
    assert profile.segmenter.adapter in profile.engine.adapters
    assert profile.localizer.adapter in profile.engine.adapters
    laptop = load_profile("laptop", tmp_path)
    assert parts.part_engine(laptop, laptop.segmenter) is None
