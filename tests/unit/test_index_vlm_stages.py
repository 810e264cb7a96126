"""Stages of the index job that hold an engine: records that end their process, budgets, recipes."""

import pickle

import pytest

from ffr_core.engine.build import close_shared_engines
from ffr_core.profile import Profile
from ffr_core.types import Dialogue, Turn
from jobs import index_models
from jobs.index_models import SegmentStage, split_by_tokens
from jobs.index_owner import IndexOwner
from jobs.index_rows import batch_of, empty_row, rows_of

PROFILE = Profile.parse(
    {
        "encoder": {"kind": "hashing"},
        "index": {"kind": "exact"},
        "engine": {"kind": "scripted", "script": {"": "[[0,1],[2]]"}},
        "segmenter": {"kind": "vlm", "prompts": "compact"},
    },
    "test",
).model_dump()


class EngineDeadError(Exception):
    """As vLLM's."""


class Method:
    """A bound method as an actor handle offers it."""

    def __init__(self, call):
        self.remote = call


class Owner:
    """An `IndexOwner`'s memory of what was begun, without its index."""

    def __init__(self):
        owner = IndexOwner.__new__(IndexOwner)
        owner._begun = stages_counter()
        self.begin, self.end = Method(owner.begin), Method(owner.end)


def stages_counter():
    from collections import Counter

    return Counter()


@pytest.fixture(autouse=True)
def plain_calls(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "get", lambda value: value)
    yield
    close_shared_engines()


def row(number, num_turns=3):
    turns = tuple(Turn(turn_id=i, speaker="A", text=f"text {i}") for i in range(num_turns))
    item = pickle.dumps(Dialogue(dialogue_id=f"d{number}", turns=turns))
    return {**empty_row("file", number, 10), "dialogue_id": f"d{number}", "item": item}


def test_a_record_that_ends_its_process_is_found_and_the_others_are_kept(monkeypatch):
    owner, deaths = Owner(), []

    def die(code):
        deaths.append(code)
        raise SystemExit

    monkeypatch.setattr(index_models.os, "_exit", die)
    batch = batch_of([row(number) for number in range(5)])

    def run():
        """One process: its engine dies over d3."""
        stage = SegmentStage(PROFILE, [owner])
        segment = stage._builder.segmenter.segment

        def fatal(dialogues):
            if any(dialogue.dialogue_id == "d3" for dialogue in dialogues):
                raise EngineDeadError
            return segment(dialogues)

        monkeypatch.setattr(stage._builder.segmenter, "segment", fatal)
        return stage(batch)

    runs = 0
    while True:
        runs += 1
        try:
            done = run()
            break
        except SystemExit:
            assert runs < 10
    assert len(deaths) == 1 + index_models.MAX_DEATHS
    found = {
        r["dialogue_id"]: (r["status"], r["reason"], int(r["fragments"])) for r in rows_of(done)
    }
    assert found.pop("d3") == ("dead", "ends_process", 0)
    assert set(found.values()) == {("", "", 2)}
    assert run_again_is_calm(owner)


def run_again_is_calm(owner):
    """Nothing that ended well is remembered."""
    stage = SegmentStage(PROFILE, [owner])
    done = rows_of(stage(batch_of([row(number) for number in (7, 8)])))
    return all(not r["status"] for r in done)


def test_an_ordinary_error_is_a_dead_letter_and_no_death(monkeypatch):
    stage = SegmentStage(PROFILE, [Owner()])
    segment = stage._builder.segmenter.segment

    def picky(dialogues):
        if any(dialogue.dialogue_id == "d1" for dialogue in dialogues):
            raise ValueError("no")
        return segment(dialogues)

    monkeypatch.setattr(stage._builder.segmenter, "segment", picky)
    done = rows_of(stage(batch_of([row(number) for number in range(3)])))
    assert [r["reason"] for r in done] == ["", "segment_failed", ""]


def test_a_budget_cuts_a_batch_in_order():
    rows = [{"item": b"x" * size} for size in (400, 400, 4000, 40, 40)]
    parts = list(split_by_tokens(rows, 200))
    assert [[len(r["item"]) for r in part] for part in parts] == [[400, 400], [4000], [40, 40]]
    assert list(split_by_tokens(rows, None)) == [rows]
    assert list(split_by_tokens([], 5)) == []


def test_a_recipe_needs_no_engine(monkeypatch):
    def refuse(config, images):
        raise AssertionError("no engine is needed")

    monkeypatch.setattr(index_models.LazyEngine, "_running", refuse)
    recipe = index_models.describe_models(PROFILE)
    assert recipe.dim > 0
    assert "vlm:" in recipe.text
    other = {**PROFILE, "engine": {**PROFILE["engine"], "script": {"": "[[0]]"}}}
    assert index_models.describe_models(other).text != recipe.text
    assert index_models.describe_models(other).encoder_fingerprint == recipe.encoder_fingerprint
