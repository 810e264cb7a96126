"""The calibration job: what counts as right, which half measures, a file that a profile takes."""

import json

import PIL.Image
import pytest

from ffr_core.errors import InputError, NotFoundError
from ffr_core.index.payload import PayloadStore
from ffr_core.localization.calibrated import CalibratedLocalizer
from ffr_core.localization.calibration import Calibration, Calibrator
from ffr_core.parts import build_encoder, build_localizer
from ffr_core.profile import load_profile
from ffr_core.types import (
    Candidate,
    Dialogue,
    Fragment,
    Image,
    Localization,
    Query,
    Selection,
    Turn,
)
from jobs.calibrate import calibrate, describe, fits, gold_inside

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "exact"
[localizer]
kind = "embedding"
"""
TOPICS = ("harbor lantern", "mountain hut", "chess club", "apple cake", "night train")


def record(number):
    """Ten turns on two topics, and a query for each."""
    topics = [TOPICS[(number + k) % len(TOPICS)] for k in (0, 2)]
    turns = [
        {
            "turn_id": i,
            "speaker": "AB"[i % 2],
            "text": f"the {topics[i // 5]} of week {number} was number {i}",
        }
        for i in range(10)
    ]
    queries = [
        {"query": f"{topics[k]} number {5 * k + 1}", "utt_ids": [5 * k + 1], "fragment": k}
        for k in (0, 1)
    ]
    fragments = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    return {
        "dialogue_id": f"d{number}",
        "turns": turns,
        "fragments": fragments,
        "queries": queries,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    (folder / "p.toml").write_text(PROFILE)
    (folder / "c.jsonl").write_text("\n".join(json.dumps(record(n)) for n in range(12)))
    results = calibrate(str(folder / "p.toml"), [folder / "c.jsonl"], folder / "out" / "c.json")
    return folder, results


def test_files_are_written_and_the_other_half_is_measured(run):
    folder, results = run
    assert {path.name for path in (folder / "out").iterdir()} == {
        "c.json",
        "c.png",
        "c.report.json",
    }
    assert (folder / "out" / "c.png").read_bytes().startswith(b"\x89PNG")
    half = sum(not fits(f"d{n}") for n in range(12))
    assert 0 < half < 12
    assert results["queries"] == 24
    counts = results["candidates"]
    share = counts["measured_on"] / (counts["measured_on"] + counts["fitted_on"])
    assert share == pytest.approx(half / 12)
    error = results["expected_calibration_error"]
    assert counts["left_out"] == 0
    assert 0 <= error["relevance"]["calibrated"] <= error["relevance"]["raw"] <= 1
    assert "image" not in error
    assert "expected calibration error" in describe(results)


def test_a_dialogue_that_is_gone_is_counted_and_stops_nothing(run, tmp_path, monkeypatch):
    folder, whole = run
    read = PayloadStore.get

    def get(self, tenant, name):
        dialogue = read(self, tenant, name)
        if dialogue.dialogue_id == "d3":
            raise NotFoundError("gone")
        return dialogue

    monkeypatch.setattr(PayloadStore, "get", get)
    results = calibrate(str(folder / "p.toml"), [folder / "c.jsonl"], tmp_path / "c.json")
    counts = results["candidates"]
    assert counts["left_out"] > 0
    assert sum(counts.values()) == sum(whole["candidates"].values())
    assert f"gone: {counts['left_out']} candidates" in describe(results)


def test_a_profile_takes_the_file(run):
    folder, _ = run
    path = folder / "calibrated.toml"
    path.write_text(PROFILE + f'calibration = "{folder / "out" / "c.json"}"\n')
    profile = load_profile(str(path), folder)
    encoder = build_encoder(profile.encoder)
    localizer = build_localizer(profile.localizer, encoder)
    assert isinstance(localizer, CalibratedLocalizer)
    turns = tuple(Turn(turn_id=i, speaker="A", text=f"chess club {i}") for i in range(4))
    dialogue = Dialogue(dialogue_id="x", turns=turns)
    raw = localizer.inner.localize("chess club 2", dialogue)
    found = localizer.localize("chess club 2", dialogue)
    calibration = Calibration.load(folder / "out" / "c.json")
    assert found.relevance == calibration.relevance(raw.relevance)
    assert found.selection == raw.selection
    assert found.utterances == {i: calibration.utterance(p) for i, p in raw.utterances.items()}


def test_calibration_changes_probabilities_and_no_selection():
    shares = {"utterance_share": 0.7, "image_share": 0.9}
    half = Calibrator(scores=(0.0, 1.0), probabilities=(0.0, 0.5))

    class Fixed:
        def localize(self, query, dialogue, turn_ids=None, evidence=()):
            return Localization(utterances={3: 0.8}, images={0: 0.6}, relevance=1.0, **shares)

    calibration = Calibration(utterance=half, image=half, relevance=half)
    found = CalibratedLocalizer(Fixed(), calibration).localize("q", None)
    assert found == Localization(utterances={3: 0.4}, images={0: 0.3}, relevance=0.5, **shares)


def test_gold_counts_inside_the_candidate_only():
    turns = tuple(
        Turn(turn_id=i, speaker="A", text="x", images=(Image(image_id=i, uri=None),))
        for i in range(4)
    )
    dialogue = Dialogue(dialogue_id="d", turns=turns)
    gold = Selection(utterance_ids=frozenset({0, 2}), image_ids=frozenset({1, 3}))
    query = Query(query="q", relevance=gold)

    def candidate(name):
        fragment = Fragment(fragment_id=0, turn_ids=(2, 3))
        return Candidate(dialogue_id=name, fragment=fragment, score=1.0, payload="p")

    assert gold_inside(candidate("d"), dialogue, query) == Selection(
        utterance_ids=frozenset({2}), image_ids=frozenset({3})
    )
    assert not gold_inside(candidate("other"), dialogue, query)


def test_what_cannot_be_split_is_refused(run, tmp_path):
    folder, _ = run
    (tmp_path / "one.jsonl").write_text(json.dumps(record(0)))
    with pytest.raises(InputError, match="of 1 dialogues cannot be split"):
        calibrate(str(folder / "p.toml"), [tmp_path / "one.jsonl"], tmp_path / "c.json")


def test_pictures_beside_the_file_are_read(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    PIL.Image.new("RGB", (32, 32), "red").save(corpus / "red.png")
    records = [record(number) for number in range(12)]
    for one in records:
        one["turns"][1]["images"] = [{"image_id": 0, "uri": "red.png"}]
    (corpus / "c.jsonl").write_text("\n".join(map(json.dumps, records)))
    answer = "<|utt_ids_start|>[1]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
    (tmp_path / "p.toml").write_text(
        PROFILE.replace('"embedding"', '"f2rvlm"\ngrammar = false')
        + f'[engine]\nkind = "scripted"\nscript = {{ "" = "{answer}" }}\n'
    )
    results = calibrate(str(tmp_path / "p.toml"), [corpus / "c.jsonl"], tmp_path / "c.json")
    assert results["scores"]["relevance"] == results["candidates"]["measured_on"] > 0
