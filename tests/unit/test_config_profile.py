import pytest

from ffr_core.errors import ConfigError, NotFoundError
from ffr_core.profile import Profile, load_profile, remember_root, require_index
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
    more = load_profile("laptop", tmp_path, ["/pictures", "s3://b/c"])
    assert more.images.roots == ("/pictures", "s3://b/c")
    assert load_profile("laptop", tmp_path) == profile


def test_an_index_that_must_exist(tmp_path):
    profile = load_profile("laptop", tmp_path)
    with pytest.raises(NotFoundError, match=f"no index in {tmp_path}; run `ffrs index PATH"):
        require_index(profile, tmp_path)
    elsewhere = Profile.parse({"index": {"uri": "/nowhere/x.db"}}, "p.toml")
    with pytest.raises(NotFoundError, match=r"no index in /nowhere/x\.db"):
        require_index(elsewhere, tmp_path)
    (tmp_path / "ffrs.db").touch()
    require_index(profile, tmp_path)
    for index in ({"uri": "http://milvus:19530"}, {"kind": "exact"}):
        require_index(Profile.parse({"index": index}, "p.toml"), tmp_path / "new")
    with pytest.raises(ConfigError, match=r"ffrs\.db is a file"):
        require_index(profile, tmp_path / "ffrs.db")


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
