"""What `ffrs reindex` takes along: all tenants, and dialogues whose pictures are gone."""

import PIL.Image
import pytest
from typer.testing import CliRunner

import jobs.reindex as reindexing
from ffr_core.parts import open_system
from ffr_core.profile import load_profile, remember_root
from ffr_core.storage import open_storage
from ffr_core.types import Dialogue, Image, Turn
from jobs.cli import app

OLD = '[encoder]\nkind = "hashing"\n[index]\nkind = "milvus"\nuri = "{home}/i.db"\n'
NEW = f'fragment_vector = "encode"\n{OLD}'


@pytest.fixture
def profiles(tmp_path):
    """Paths of the old and the new profile."""
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.toml").write_text(text)
    return str(tmp_path / "old.toml"), str(tmp_path / "new.toml")


def dialogue(*uris):
    """One turn with pictures."""
    images = tuple(Image(image_id=i, uri=str(uri)) for i, uri in enumerate(uris))
    turn = Turn(turn_id=0, speaker="Ana", text="the lamp is green", images=images)
    return Dialogue(dialogue_id="lamp", turns=(turn,))


def reindex(profile, home, *options):
    """Run the command."""
    command = ["reindex", "--profile", profile, "--home", str(home), *map(str, options)]
    return CliRunner().invoke(app, command)


def switched(profile, home):
    """Whether a reindex came to its end."""
    return open_storage(load_profile(profile, home).storage.uri).exists("serving/collections.json")


def test_without_an_index_there_is_nothing_to_reindex(tmp_path, profiles):
    home = tmp_path / "home"
    done = reindex(profiles[1], home)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: there is nothing to reindex: there is no index in {home}"
    )
    assert done.stderr.count("\n") == 1
    assert not home.exists()


def test_an_index_without_dialogues_is_not_switched(ray_cluster, tmp_path, profiles):
    old, new = profiles
    with open_system(old, tmp_path):
        pass
    done = reindex(new, tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is nothing to reindex" in done.stderr
    assert not switched(new, tmp_path)


def test_no_tenant_and_no_dialogue_without_its_picture_is_left_behind(
    ray_cluster, tmp_path, profiles
):
    old, new = profiles
    home, keys = tmp_path / "home", tmp_path / "keys.toml"
    kept, gone = tmp_path / "kept.png", tmp_path / "gone.png"
    remember_root(home, str(tmp_path))
    for path in (kept, gone):
        PIL.Image.new("RGB", (8, 8)).save(path)
    tenants = ("acme", "zeta")
    with open_system(old, home) as system:
        for tenant in tenants:
            system.add(dialogue(kept, gone), tenant)
    gone.unlink()
    refused = reindex(new, home, "--tenant", "acme")
    assert refused.exit_code == 2
    assert "not named: 1;" in refused.stderr
    assert "--keys" in refused.stderr
    assert not (home / "runs" / "reindex").exists()
    assert not switched(new, home)
    keys.write_text(f'[[keys]]\ntenant = "zeta"\nscopes = ["search"]\nsha256 = "{"0" * 64}"\n')
    done = reindex(new, home, "--tenant", "acme", "--keys", keys)
    assert done.exit_code == 0, done.stderr
    assert "2 dialogues" in done.stdout
    assert "images that cannot be read (dialogue kept): 2\n" in done.stdout
    assert switched(new, home)
    with open_system(new, home) as system:
        for tenant in tenants:
            assert len(system.search("the lamp is green", tenant=tenant)) == 1
            images = system.get("lamp", tenant).images
            assert [image.uri for image in images] == [str(kept), None]


def test_a_tenant_that_comes_while_it_runs_is_not_left_behind(
    ray_cluster, tmp_path, profiles, monkeypatch
):
    old, new = profiles
    with open_system(old, tmp_path) as system:
        system.add(dialogue())

    def come(*_):
        with open_system(old, tmp_path) as system:
            system.add(dialogue(), "late")
        return {}

    monkeypatch.setattr(reindexing, "_differences", come)
    refused = reindex(new, tmp_path)
    assert refused.exit_code == 2
    assert "not named: 1;" in refused.stderr
    assert not switched(new, tmp_path)
