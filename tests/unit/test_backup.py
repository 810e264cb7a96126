"""A backup brings back the same rows, vectors and answers, or says why it does not."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from ffr_core.errors import BusyError, ConfigError, FfrError, NotFoundError
from ffr_core.index.collections import switch_collections
from ffr_core.index.milvus_connection import Connection
from ffr_core.index.milvus_schema import HEADERS, Layout
from ffr_core.operations import restore as restoring
from ffr_core.operations.backup import back_up
from ffr_core.operations.manifest import Manifest
from ffr_core.operations.tables import Tables
from ffr_core.parts import open_system
from ffr_core.storage import LocalStorage
from ffr_core.types import Dialogue, Image, Turn
from jobs.operations import back_up as back_up_profile
from jobs.operations import restore as restore_profile

PROFILE = '[encoder]\nkind = "hashing"\n[index]\nkind = "milvus"\nuri = "{home}/i.db"\n'
TEXTS = {
    "lamp": ["the lamp is green", "no, it is blue", "who paints lamps?"],
    "boat": ["a boat sails at noon", "bring the oars to the harbor"],
    "火锅": ["明天我们去吃火锅吧", "好的，六点见"],
    "gone": ["this one is deleted again"],
}


def dialogue(name, texts):
    picture = (Image(image_id=0, uri="s3://x/a.png", caption="map"),)
    turns = tuple(
        Turn(turn_id=i, speaker="Ana", text=text, images=picture if i == 1 else ())
        for i, text in enumerate(texts)
    )
    return Dialogue(dialogue_id=name, turns=turns, title=name.upper())


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "p.toml"
    path.write_text(PROFILE)
    return str(path)


@pytest.fixture(scope="module")
def home(profile, tmp_path_factory):
    """An index of two tenants, one dialogue deleted."""
    folder = tmp_path_factory.mktemp("home")
    with open_system(profile, folder) as system:
        for name, texts in TEXTS.items():
            system.add(dialogue(name, texts))
        system.add(dialogue("lamp", ["a foreign lamp"]), tenant="other")
        assert system.delete("gone")
    return folder


@pytest.fixture(scope="module")
def saved(profile, home, tmp_path_factory):
    """A backup of it, its manifest and what was said."""
    place, said = tmp_path_factory.mktemp("backup") / "b", []
    manifest = back_up_profile(profile, home, str(place), None, said.append)
    return place, manifest, said


def contents(profile, home):
    """All that can be asked of an index, in comparable form."""
    found = {}
    with open_system(profile, home) as system:
        for tenant in ("default", "other"):
            headers = list(system.index.scan_headers(tenant))
            found[tenant] = {
                "headers": [asdict(header) for header in headers],
                "stats": asdict(system.stats(tenant)),
                "vectors": [
                    [
                        (
                            part.fragment,
                            part.vector_D.tobytes(),
                            *((p.turn_ids, p.vector_D.tobytes()) for p in part.passages),
                        )
                        for part in system.index.fragments(tenant, header.dialogue_id)
                    ]
                    for header in headers
                ],
                "dialogues": [system.get(h.dialogue_id, tenant) for h in headers if not h.deleted],
                "answers": [
                    (query, a.dialogue_id, a.score, a.spans)
                    for query in ("green lamp", "火锅", "harbor oars")
                    for a in system.search(query, tenant=tenant)
                ],
            }
    return found


def test_the_restored_index_is_the_same(profile, home, saved, tmp_path):
    place, manifest, said = saved
    assert (manifest.dialogues, manifest.deleted, manifest.left_out) == (4, 1, {})
    assert any("passages" in line for line in said)
    done = restore_profile(profile, tmp_path, str(place), None, said.append)
    assert (done.dialogues, done.deleted, done.payloads) == (4, 1, 4)
    assert sum(done.left_out.values()) == 0
    before, after = contents(profile, home), contents(profile, tmp_path)
    assert before["default"]["answers"] and before["other"]["vectors"] != [[]]
    assert after == before
    with open_system(profile, tmp_path) as system, pytest.raises(FfrError, match="was deleted"):
        system.add(dialogue("gone", TEXTS["gone"]))
    assert place.stat().st_mode & 0o077 == 0


def test_a_place_with_a_backup_and_an_index_in_use_are_refused(profile, home, saved, tmp_path):
    with pytest.raises(ConfigError, match="backup at this place"):
        back_up_profile(profile, home, str(saved[0]), None, print)
    with open_system(profile, home), pytest.raises(BusyError, match="open in another process"):
        back_up_profile(profile, home, str(tmp_path / "x"), None, print)


def test_only_an_empty_index_is_filled(profile, home, saved, tmp_path):
    with pytest.raises(ConfigError, match="not empty"):
        restore_profile(profile, home, str(saved[0]), None, print)
    LocalStorage(tmp_path / "store").write("payloads/aa/bb", b"x")
    with pytest.raises(ConfigError, match="holds dialogues already"):
        restore_profile(profile, tmp_path, str(saved[0]), None, print)


def copy_of(saved, folder, **changed):
    """A copy of a backup with other values in its manifest."""
    source, target = LocalStorage(saved[0]), LocalStorage(folder)
    for key in source.list():
        target.write(key, source.read(key))
    values = {**json.loads(source.read("manifest.json")), **changed}
    target.write("manifest.json", json.dumps(values).encode())
    return target


def test_what_is_no_backup_of_ours_is_refused(profile, saved, tmp_path):
    with pytest.raises(NotFoundError, match="no complete backup"):
        restore_profile(profile, tmp_path / "h", str(tmp_path / "nothing"), None, print)
    copy_of(saved, tmp_path / "newer", format=2)
    with pytest.raises(ConfigError, match=r"format 2, this program reads 1"):
        restore_profile(profile, tmp_path / "h", str(tmp_path / "newer"), None, print)
    copy_of(saved, tmp_path / "forged", dialogues=5)
    with pytest.raises(ConfigError, match="does not fit its fingerprint"):
        restore_profile(profile, tmp_path / "h", str(tmp_path / "forged"), None, print)


def test_a_damaged_file_is_found_and_nothing_becomes_visible(profile, saved, tmp_path):
    target = copy_of(saved, tmp_path / "damaged")
    [name] = [key for key in target.list("ffrs/fragments")]
    target.write(name, target.read(name)[:-1])
    with pytest.raises(FfrError, match="is damaged"):
        restore_profile(profile, tmp_path / "h", str(tmp_path / "damaged"), None, print)
    with open_system(profile, tmp_path / "h") as system:
        assert system.search("green lamp") == []


def test_a_restore_that_broke_off_goes_on(profile, home, saved, tmp_path, monkeypatch):
    def killed(*_):
        raise OSError("killed after the first rows")

    monkeypatch.setattr(restoring, "_compare", killed)
    with pytest.raises(OSError, match="killed"):
        restore_profile(profile, tmp_path, str(saved[0]), None, print)
    monkeypatch.undo()
    with open_system(profile, tmp_path) as system:
        assert list(system.dialogue_ids()) == []
    copy = copy_of(saved, tmp_path / "b")
    Manifest.read(copy).model_copy(update={"made_at": "later"}).sealed().write(copy)
    with pytest.raises(ConfigError, match="another backup was being restored"):
        restore_profile(profile, tmp_path, str(tmp_path / "b"), None, print)
    restore_profile(profile, tmp_path, str(saved[0]), None, print)
    assert contents(profile, tmp_path) == contents(profile, home)


class Moving(Tables):
    """An index where one dialogue gets a new revision between the two looks at the headers."""

    looks = 0

    def rows(self, prefix, kind, fields=None, expression=""):
        self.looks += kind == HEADERS
        for row in super().rows(prefix, kind, fields, expression):
            moved = kind == HEADERS and self.looks == 2 and row["dialogue_id"] == "boat"
            yield {**row, "revision": row["revision"] + 1} if moved else row


def test_a_dialogue_that_changes_meanwhile_stays_out_and_is_indexed_again(profile, home, tmp_path):
    tables = Moving(Connection(str(home / "i.db")), ["ffrs"])
    try:
        target = LocalStorage(tmp_path / "b")
        manifest = back_up(tables, LocalStorage(home / "store"), target, print)
    finally:
        tables.close()
    assert manifest.left_out == {"changed_meanwhile": 1}
    assert manifest.dialogues == 3
    done = restore_profile(profile, tmp_path, str(tmp_path / "b"), None, print)
    assert done.left_out["fragments"] >= 1
    with open_system(profile, tmp_path) as system:
        assert "boat" not in set(system.dialogue_ids())
        assert system.add(dialogue("boat", TEXTS["boat"])) == "indexed"
        assert system.search("harbor oars")[0].dialogue_id == "boat"


class Shared(Tables):
    """The layout of a server, as far as Lite can hold it."""

    def layout(self, prefix):
        return Layout(prefix=prefix, shared=True, partition_key=False, vector_index="FLAT")


def test_a_backup_of_lite_fills_collections_that_tenants_share(home, saved, tmp_path):
    manifest, source = Manifest.read(LocalStorage(saved[0])), LocalStorage(saved[0])
    tables = Shared(Connection(str(tmp_path / "s.db")), ["ffrs"])
    try:
        restoring.restore(tables, LocalStorage(tmp_path / "store"), source, manifest, print)
        assert tables.collections("ffrs", HEADERS) == ["ffrs_headers"]
        rows = {row["id"]: row for row in tables.rows("ffrs", "passages")}
        again = LocalStorage(tmp_path / "again")
        second = back_up(tables, LocalStorage(tmp_path / "store"), again, print)
    finally:
        tables.close()
    assert (second.dialogues, second.deleted) == (4, 1)
    first = Tables(Connection(str(home / "i.db")), ["ffrs"])
    try:
        original = {row["id"]: row for row in first.rows("ffrs", "passages")}
    finally:
        first.close()
    assert set(rows) == set(original)
    for name, row in rows.items():
        assert np.array_equal(row.pop("vector"), original[name].pop("vector"))
        assert list(row.pop("participants")) == list(original[name].pop("participants"))
        assert row == original[name]


def test_which_collections_are_searched_comes_along(profile, saved, tmp_path):
    storage = LocalStorage(tmp_path / "store")
    other = copy_of(saved, tmp_path / "b")
    manifest = Manifest.read(LocalStorage(saved[0]))
    values = {"current": "ffrs_new", "encoders": {"f": "ffrs_new"}}
    manifest.model_copy(update={"collections": values}).sealed().write(other)
    restore_profile(profile, tmp_path, str(tmp_path / "b"), None, print)
    assert switch_collections(storage, "g", "x").of("f") == "ffrs_new"


def test_a_backup_at_a_file_uri_is_readable_by_this_user_only(profile, home, tmp_path):
    back_up_profile(profile, home, (tmp_path / "my backup").as_uri(), None, lambda _: None)
    assert (tmp_path / "my backup").stat().st_mode & 0o077 == 0


def test_a_profile_that_would_find_nothing_of_a_backup_is_refused(profile, saved, tmp_path):
    named = tmp_path / "named.toml"
    named.write_text(PROFILE.replace("[index]\n", '[index]\nprefix = "team"\n'))
    with pytest.raises(ConfigError, match=r"holds the collections \['ffrs'\].*\['team'\]"):
        restore_profile(str(named), tmp_path / "home", str(saved[0]), None, print)
    assert not (tmp_path / "home").exists()
    values = {"tables": {"team": saved[1].tables["ffrs"].model_dump(mode="json")}}
    place = copy_of(saved, tmp_path / "b", **values)
    manifest = Manifest.parse(json.loads(place.read("manifest.json")), "manifest.json").sealed()
    manifest.write(place)
    with pytest.raises(ConfigError, match=r"\['team'\], the profile searches \['ffrs'\]"):
        restore_profile(profile, tmp_path / "home", str(tmp_path / "b"), None, print)
