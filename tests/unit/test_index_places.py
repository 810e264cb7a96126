"""Which index and which collections a job opens, without a Ray."""

import pytest

from ffr_core.errors import ConfigError
from ffr_core.parts import build_index
from ffr_core.profile import load_profile
from jobs import reindex as reindexing
from jobs.index_corpus import without_new_file

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "milvus"
uri = "{home}/i.db"
"""


def test_a_dry_run_makes_no_lite_file_and_opens_one_that_is_there(tmp_path):
    (tmp_path / "p.toml").write_text(PROFILE)
    profile = load_profile(str(tmp_path / "p.toml"), tmp_path / "home")
    opened = without_new_file(profile.model_dump())
    build_index(type(profile).model_validate(opened), "f", 8).close()
    assert not (tmp_path / "home").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "i.db").touch()
    assert without_new_file(profile.model_dump()) == profile.model_dump()
    remote = profile.index.model_copy(update={"uri": "http://milvus:19530"})
    dumped = profile.model_copy(update={"index": remote}).model_dump()
    assert without_new_file(dumped) == dumped


def test_a_reindex_brings_back_what_an_earlier_run_buried(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(reindexing, "run_index", lambda c: seen.append(c) or {"bad_images": 0})
    reindexing._index("laptop", tmp_path, "default", "ffrs_1", tmp_path / "work", {})
    assert (seen[0].restore, seen[0].prefix) == (True, "ffrs_1")


def test_a_profile_that_names_its_collections_cannot_be_switched(tmp_path):
    (tmp_path / "p.toml").write_text(PROFILE + 'prefix = "team"\n')
    (tmp_path / "i.db").touch()
    with pytest.raises(ConfigError, match="`prefix = 'team'`"):
        reindexing.reindex(str(tmp_path / "p.toml"), tmp_path)
