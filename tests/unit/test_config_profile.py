import pytest

from ffr_core.errors import ConfigError
from ffr_core.profile import Profile, load_profile, remember_root
from jobs.index_corpus import IndexJobConfig


def test_every_problem_is_named_at_once():
    values = {"encoder": {"kind": "x"}, "serch": {}, "search": {"num_candidates": 0}}
    with pytest.raises(ConfigError) as caught:
        Profile.parse(values, "p.toml")
    message = str(caught.value)
    assert all(part in message for part in ("p.toml", "encoder.kind", "serch", "num_candidates"))


def test_a_missing_or_broken_file(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file"):
        IndexJobConfig.load(tmp_path / "none.toml")
    path = tmp_path / "x.toml"
    path.write_text("a = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        IndexJobConfig.load(path)


def test_the_home_is_filled_in_and_its_image_roots_are_remembered(tmp_path):
    remember_root(tmp_path, "/pictures")
    remember_root(tmp_path, "/pictures")
    profile = load_profile("laptop", tmp_path)
    assert profile.index.uri == f"{tmp_path}/ffrs.db"
    assert profile.images.roots == ("/pictures",)


def test_an_unknown_profile_lists_those_that_ship():
    with pytest.raises(ConfigError, match="laptop"):
        load_profile("none")


def test_a_profile_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[encoder]\nkind = "hashing"\n[index]\nkind = "exact"\n')
    assert load_profile(str(path), tmp_path).encoder.kind == "hashing"


def test_a_folder_of_pictures_is_added_for_all_that_open_them(tmp_path):
    profile = Profile.parse({"images": {"roots": ["/a"]}}, "p.toml")
    assert profile.with_image_root(tmp_path).images.roots == ("/a", str(tmp_path.resolve()))
    fem = {"kind": "fem", "path": "m", "image_roots": ["/b"]}
    reading = Profile.parse({"encoder": fem}, "p.toml").with_image_root(tmp_path)
    assert reading.encoder.image_roots == ("/b", str(tmp_path.resolve()))
    assert reading.images.roots == (str(tmp_path.resolve()),)
