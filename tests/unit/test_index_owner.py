"""The owner of the index job answers for its whole run, also when it is lost in the middle."""

import pickle

import pytest

from ffr_core.index.exact import ExactIndex
from ffr_core.parts import build_builder, build_encoder
from ffr_core.profile import load_profile
from ffr_core.storage import LocalStorage
from ffr_core.types import Dialogue, Turn
from ffr_core.writing import delete_dialogue
from jobs import index_owner
from jobs.index_notes import NOTES, Note, RunNotes
from jobs.index_owner import Claim, IndexOwner

PROFILE = """
[encoder]
kind = "hashing"
"""


class Home:
    """A data folder, an index that outlives its owners, and these, one after the other."""

    def __init__(self, folder, monkeypatch):
        (folder / "p.toml").write_text(PROFILE)
        self._profile = load_profile(str(folder / "p.toml"), folder / "home")
        self._encoder = build_encoder(self._profile.encoder)
        self._builder = build_builder(self._profile, self._encoder)
        shape = {"dim": self._encoder.dim, "encoder_fingerprint": self._encoder.fingerprint}
        index = ExactIndex(**shape)
        monkeypatch.setattr(index_owner, "build_index", lambda *_: index)
        self.storage = LocalStorage(self._profile.storage.uri)

    def owner(self, run):
        """An owner in place of the one before, which is lost without a word."""
        parts = (self._profile.model_dump(), self._encoder.fingerprint, self._encoder.dim)
        return IndexOwner(*parts, "default", run)

    def record(self, name, text, position, file="a.jsonl", num_turns=1):
        """What the stages send about a record: a claim, and what is written of it."""
        turns = tuple(Turn(turn_id=i, speaker="Ana", text=text) for i in range(num_turns))
        (item,) = self._builder.build([Dialogue(dialogue_id=name, turns=turns)])
        order = (num_turns, file, position)
        claim = Claim(dialogue_id=name, order=order, fingerprint=item.fingerprint)
        return claim, (order, pickle.dumps(item))

    def notes(self):
        return list(self.storage.list(NOTES))


@pytest.fixture
def home(tmp_path, monkeypatch):
    return Home(tmp_path, monkeypatch)


def test_an_owner_that_was_lost_gives_the_same_answers(home):
    names = ("same", "edited", "gone")
    before = [home.record(name, "red bus", i) for i, name in enumerate(names)]
    first = home.owner("first")
    assert first.decide([claim for claim, _ in before], False) == ["new"] * 3
    assert first.write([item for _, item in before]) == [None] * 3
    assert delete_dialogue(first._index, first._payloads, "default", "gone")
    records = [
        before[0],
        home.record("edited", "blue bus", 1),
        before[2],
        home.record("twice", "old", 3),
        home.record("twice", "in between", 5),
        home.record("twice", "last", 4),
        home.record("added", "rain", 6),
    ]
    claims = [claim for claim, _ in records]
    expected = ["unchanged", "changed", "deleted", "new", "new", "duplicate", "new"]

    owner = home.owner("second")
    assert owner.decide(claims[:4], False) == expected[:4]
    assert owner.decide(claims[4:], False) == expected[4:]
    owner.write([records[number][1] for number in (1, 4, 6)])
    for _ in range(2):
        assert owner.decide(claims, False) == expected
        owner = home.owner("second")
    assert owner.decide(claims[::-1], False) == expected[::-1]


def test_an_owner_that_was_lost_still_keeps_the_last_record(home):
    first, last = home.record("x", "first", 0), home.record("x", "last", 9)
    owner = home.owner("run")
    owner.decide([first[0]], False)
    owner.decide([last[0]], False)
    assert owner.write([last[1]]) == [None]
    owner = home.owner("run")
    (refusal,) = owner.write([first[1]])
    assert refusal and refusal[0] == "duplicate_id"
    (header,) = owner._index.headers("default", ["x"]).values()
    assert header.fingerprint == last[0].fingerprint


@pytest.mark.parametrize("grown", ["ana-april/x.jsonl", "april/x.jsonl", "zoo/x.jsonl"])
def test_the_longer_export_of_a_chat_wins_whatever_its_folder_is_called(grown, home):
    march = home.record("ana", "hi", 0, "ana/x.jsonl", num_turns=3)
    april = home.record("ana", "hi", 0, grown, num_turns=5)
    for run, records in enumerate(([march, april], [april, march])):
        owner = home.owner(f"run {run}")
        owner.decide([claim for claim, _ in records], False)
        for _, item in records:
            owner.write([item])
        (header,) = owner._index.headers("default", ["ana"]).values()
        assert header.fingerprint == april[0].fingerprint


def test_a_restored_dialogue_is_new_for_the_whole_run(home):
    claim, item = home.record("x", "red bus", 0)
    owner = home.owner("first")
    owner.write([item])
    delete_dialogue(owner._index, owner._payloads, "default", "x")
    assert home.owner("second").decide([claim], True) == ["new"]
    owner = home.owner("second")
    assert owner.decide([claim], True) == ["new"]
    assert owner.write([item]) == [None]
    assert home.owner("second").decide([claim], True) == ["new"]


def test_notes_end_with_their_run(home):
    claim, item = home.record("x", "red bus", 0)
    owner = home.owner("broken off")
    owner.decide([claim], False)
    owner.decide([claim], False)
    assert len(home.notes()) == 1
    owner.write([item])
    owner = home.owner("next")
    assert len(home.notes()) == 1
    assert owner.decide([claim], False) == ["unchanged"]
    assert len(home.notes()) == 1
    owner.close()
    assert home.notes() == []


def test_a_dry_run_keeps_no_notes(home):
    claim, _ = home.record("x", "red bus", 0)
    assert home.owner("dry").decide([claim], False, True) == ["new"]
    assert home.notes() == []


def test_owners_of_a_run_and_tenants_keep_their_notes_apart(tmp_path):
    storage = LocalStorage(tmp_path)
    note = Note("ab" * 16, (3, "söurce\udcff.jsonl", 1), "new")
    one, ten, other = (
        RunNotes(storage, "default", "run", 1),
        RunNotes(storage, "default", "run", 10),
        RunNotes(storage, "other tenant", "older", 1),
    )
    for number, notes in enumerate((one, ten, other)):
        notes.add([note._replace(order=(3, "söurce\udcff.jsonl", number))])
    again = RunNotes(storage, "default", "run", 1)
    assert list(again.read()) == [note._replace(order=(3, "söurce\udcff.jsonl", 0))]
    again.clear()
    assert [len([*notes.read()]) for notes in (one, ten, other)] == [0, 1, 1]
    broken = (tmp_path / next(storage.list(ten._prefix))).with_name(".writing-x")
    broken.touch()
    RunNotes(storage, "default", "next run").add([note])
    assert not broken.exists()
    assert [len([*notes.read()]) for notes in (one, ten, other)] == [0, 0, 1]
    assert not broken.exists()


def test_an_owner_that_only_looks_leaves_the_notes_of_a_run_alone(home):
    claim, _ = home.record("x", "red bus", 0)
    home.owner("running").decide([claim], False)
    dry = home.owner("dry")
    assert dry.decide([claim], False, True) == ["new"]
    dry.close()
    home.owner("starting").close()
    assert len(home.notes()) == 1


def test_notes_leave_no_empty_folder(home):
    claim, _ = home.record("x", "red bus", 0)
    owner = home.owner("run")
    owner.decide([claim], False)
    assert (home.storage.root / NOTES).is_dir()
    owner.close()
    assert not (home.storage.root / NOTES).exists()
