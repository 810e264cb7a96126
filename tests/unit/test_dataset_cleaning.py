import json

import numpy as np
import pytest
from dataset_parts import short

from ffr_core.dataset.clean_corpus import count_decisions
from ffr_core.dataset.cleaning import (
    CleaningRules,
    ImageFacts,
    clean_dialogue,
    drift_limit,
    image_problem,
    structure_problem,
    topic_drift,
)
from ffr_core.dataset.sources import Unreadable, dialogue_from_entry, list_files, read_file
from ffr_core.errors import NotFoundError, RecordError

RULES = CleaningRules(min_image_text=0.3, max_drift=0.3)
GOOD = ImageFacts(width=800, height=600, key="k")


@pytest.mark.parametrize(
    ("width", "height", "problem"),
    [
        (500, 500, ""),
        (499, 900, "small_image"),
        (900, 499, "small_image"),
        (3750, 500, ""),
        (4000, 500, "extreme_aspect_ratio"),
        (500, 3751, "extreme_aspect_ratio"),
        (0, 0, "unreadable_image"),
    ],
)
def test_image_quality_at_the_edges(width, height, problem):
    assert image_problem(ImageFacts(width=width, height=height, key="k"), RULES) == problem


@pytest.mark.parametrize(
    ("speakers", "start", "throughout"),
    [
        ("ab", False, False),
        ("aba", True, True),
        ("aab", False, False),
        ("abc", False, False),
        ("ababb", True, False),
        ("aaa", False, False),
    ],
)
def test_turn_structure(speakers, start, throughout):
    dialogue = short("d", ["x"] * len(speakers), speakers=speakers)
    for pattern, fits in (("start", start), ("throughout", throughout)):
        rules = CleaningRules(turn_pattern=pattern)
        assert (structure_problem(dialogue, rules) == "") is fits


def test_drift_known_values():
    e = np.eye(3, dtype=np.float32)
    assert topic_drift(e[[0, 0, 0]], e[:1]) == 0.0
    assert topic_drift(e[[0, 0, 0, 1]], e[:2]) == pytest.approx(0.25)
    assert topic_drift(e[[0, 1, 0, 1]], e[:2]) == pytest.approx(0.5)
    # A turn that belongs to no topic of the corpus strays nowhere.
    assert topic_drift(e[[0, 0, 2]], e[:2]) == 0.0
    assert topic_drift(e[:0], e[:2]) == 0.0
    assert drift_limit([0, 1, 2, 3, 100], 2) == pytest.approx(4.9652)


def test_each_filter_names_its_reason_and_counts_add_up():
    fine = short("fine", ["a", "b", "c"], {0: ["x"], 2: ["y"]})
    cases = [
        (fine, {}, {0: 0.9, 1: 0.9}, 0.1),
        (fine, {0: ImageFacts(width=499, height=499, key="k")}, {0: 0.9, 1: 0.9}, 0.1),
        (fine, {}, {0: 0.1, 1: 0.2}, 0.1),
        (fine, {}, {0: 0.9, 1: 0.9}, 0.4),
        (short("two", ["a", "b"], {0: ["x"]}), {}, {0: 0.9}, 0.1),
        (short("none", ["a", "b", "c"]), {}, {}, 0.1),
    ]
    verdicts = [
        (d, clean_dialogue(d, RULES, facts=facts, image_text=similarity, drift=drift))
        for d, facts, similarity, drift in cases
    ]
    assert [v.reason for _, v in verdicts] == [
        "",
        "",
        "low_image_text_similarity",
        "off_topic",
        "broken_turn_structure",
        "no_images",
    ]
    counts = count_decisions(
        [
            {"reason": v.reason, "images": len(d.images), "removed_images": v.removed_images}
            for d, v in verdicts
        ]
    )
    assert (counts["in"], counts["kept"]) == (6, 2)
    assert (counts["images_in"], counts["images_kept"]) == (9, 3)
    assert counts["image_reasons"] == {
        "low_image_text_similarity": 2,
        "small_image": 1,
        "with_dialogue": 3,
    }


def test_a_removed_image_renumbers_the_rest():
    dialogue = short("d", ["a", "b", "c"], {0: ["x", "y"], 2: ["z"]})
    facts = {0: ImageFacts(width=100, height=100, key="k"), 1: GOOD, 2: GOOD}
    verdict = clean_dialogue(dialogue, RULES, facts=facts)
    assert verdict.kept_images == (1, 2)
    assert [(i.image_id, i.caption) for i in verdict.dialogue.images] == [(0, "y"), (1, "z")]


def test_switched_off_filters_pass_everything():
    dialogue = short("d", ["a", "b", "c"], {0: ["x"]})
    assert clean_dialogue(dialogue, RULES, facts={}).dialogue == dialogue


DIALOGCC = {
    "dialogue_id": "daily:17",
    "split": "train",
    "dialogue": [
        {
            "utterance_idx": 0,
            "utterance": "Look at my dog!",
            "speaker": "Emma",
            "rationale": "to show",
            "shared_image": [{"image_url": "http://x/dog.jpg", "caption": "a dog"}, "img/2.png"],
            "description": "a happy dog",
        },
        {"utterance_idx": 1, "utterance": "Cute", "speaker": "Liam", "shared_image": []},
    ],
}


def test_dialogcc_entry():
    dialogue = dialogue_from_entry(DIALOGCC, base="/data")
    assert dialogue.dialogue_id == "daily:17"
    assert [(i.uri, i.caption) for i in dialogue.images] == [
        ("http://x/dog.jpg", "a dog"),
        ("/data/img/2.png", "a happy dog"),
    ]
    assert [turn.speaker for turn in dialogue.turns] == ["Emma", "Liam"]


@pytest.mark.parametrize("shared", [[3], {"caption": "only"}, [{"url": 5}]])
def test_dialogcc_image_without_place_is_refused(shared):
    entry = {"dialogue_id": "d", "dialogue": [{"utterance": "x", "shared_image": shared}]}
    with pytest.raises(RecordError) as error:
        dialogue_from_entry(entry)
    assert error.value.reason == "bad_image"


@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize("as_array", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_files_are_streamed_and_bad_entries_have_positions(
    tmp_path, monkeypatch, encoding, as_array, chunk
):
    monkeypatch.setattr("ffr_core.dataset.sources._CHUNK", chunk)
    entries = [DIALOGCC, {"dialogue_id": "no-turns"}, {**DIALOGCC, "dialogue_id": "è 2"}]
    texts = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    text = f"[\n{', '.join(texts)}\n]" if as_array else "\n".join([texts[0], "{oops", *texts[1:]])
    (tmp_path / "train.json").write_text(text, encoding)
    found = list(read_file(tmp_path / "train.json"))
    reasons = [(f.position, f.reason) for f in found if isinstance(f, Unreadable)]
    assert reasons == ([(2, "no_turns")] if as_array else [(2, "bad_json"), (3, "no_turns")])
    ids = [f.dialogue_id for f in found if not isinstance(f, Unreadable)]
    assert ids == ["daily:17", "è 2"]


def test_a_broken_array_ends_with_a_reason(tmp_path):
    (tmp_path / "a.json").write_text("[" + json.dumps(DIALOGCC) + ', {"dialogue_id": ')
    found = list(read_file(tmp_path / "a.json"))
    assert [getattr(f, "reason", "") for f in found] == ["", "bad_json"]


def test_folders_are_searched_and_an_empty_one_is_an_error(tmp_path):
    with pytest.raises(NotFoundError, match="holds no corpus file"):
        list_files([str(tmp_path)])
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "defects.json").write_text("{}")
    assert [p.name for p in list_files([str(tmp_path)])] == ["a.jsonl"]
