import json
from dataclasses import replace

import numpy as np
import pytest
from dataset_parts import short, tagged

from ffr_core.dataset.card import card_json, card_markdown, make_card
from ffr_core.dataset.clean_corpus import CorpusRules, clean_corpus, load_features
from ffr_core.dataset.cleaning import CleaningRules
from ffr_core.dataset.features import (
    embed_dialogues,
    image_text_similarity,
    inspect_image,
    load_shard,
    mean_features,
    save_shard,
)
from ffr_core.dataset.split_files import fem_queries, write_splits
from ffr_core.dataset.splits import SplitRules
from ffr_core.dataset.steps import append_log, read_records, run_step, write_records
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import read_jsonl, record_from_dialogue
from ffr_core.types import Query, QueryKind, Selection


def test_a_step_runs_once_and_again_when_its_settings_change(tmp_path):
    runs = []

    def work(folder):
        runs.append([p.name for p in folder.iterdir()])
        (folder / "result").write_text("x")
        return {"n": len(runs)}

    one = run_step(tmp_path, "a", {"x": 1}, None, work)
    again = run_step(tmp_path, "a", {"x": 1}, None, work)
    assert (one.repeated, again.repeated, again.counts) == (True, False, {"n": 1})
    changed = run_step(tmp_path, "a", {"x": 2}, None, work)
    # What the older settings left behind is gone before the work starts.
    assert changed.counts == {"n": 2} and "result" not in runs[1]
    assert (
        run_step(tmp_path, "b", {}, one, work).key != run_step(tmp_path, "b", {}, changed, work).key
    )


def test_a_step_that_was_cut_off_finds_what_it_had_written(tmp_path):
    def broken(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run_step(tmp_path, "a", {}, None, broken)
    done = run_step(tmp_path, "a", {}, None, lambda f: {"found": (f / "half").exists()})
    assert done.counts == {"found": True}


def test_a_log_loses_its_cut_off_line_and_what_is_to_be_repeated(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [{"key": "a"}, {"key": "b", "bad": 1}, {"key": "c"}]
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"key": "d')
    assert append_log(path, keep=lambda row: "bad" not in row) == {"a", "c"}
    assert [r["key"] for r in read_records(path)] == ["a", "c"]
    assert append_log(tmp_path / "none", keep=lambda row: True) == set()


class Clip:
    """Pictures are embedded as the words of their file names."""

    def __init__(self):
        self.encoder = HashingEncoder(64)

    def embed_texts(self, texts):
        return self.encoder.encode_queries(texts)

    def embed_images(self, uris):
        return {u: self.embed_texts([u.rsplit("/", 1)[1].split(".")[0]])[0] for u in uris}


@pytest.fixture
def pictures(tmp_path):
    from PIL import Image

    for name, size, color in (
        ("boat", (600, 500), 1),
        ("bread", (600, 500), 2),
        ("tiny", (499, 600), 3),
    ):
        Image.new("RGB", size, (color * 40, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def with_pictures(dialogue, folder, names):
    turns, names = [], iter(names)
    for turn in dialogue.turns:
        images = tuple(replace(i, uri=str(folder / f"{next(names)}.png")) for i in turn.images)
        turns.append(replace(turn, images=images))
    return replace(dialogue, turns=tuple(turns))


def test_a_corpus_from_pictures_to_features(pictures, tmp_path):
    """Two kept dialogues, one copy, one wrong picture, one small picture, one unreadable."""
    boat = short("boat", ["boat", "sail away", "to the lake"], {0: ["a boat"]})
    bread = short("bread", ["bread", "bake now", "with flour"], {0: [None], 1: [None]})
    dialogues = [
        with_pictures(boat, pictures, ["boat"]),
        with_pictures(bread, pictures, ["bread", "tiny"]),
        with_pictures(replace(boat, dialogue_id="copy"), pictures, ["boat"]),
        with_pictures(replace(boat, dialogue_id="wrong"), pictures, ["bread"]),
        with_pictures(replace(bread, dialogue_id="lost"), pictures, ["gone", "tiny"]),
    ]
    reader = ImageReader(limits=ImageLimits(roots=(str(pictures),)))
    out = tmp_path / "out"
    out.mkdir()
    write_records(out / "corpus.jsonl", map(record_from_dialogue, dialogues))
    shards = []
    for number, part in enumerate((dialogues[:2], dialogues[2:])):
        items = embed_dialogues(part, HashingEncoder(64), Clip(), reader)
        shards.append(out / f"{number}.npz")
        save_shard(shards[-1], [d.dialogue_id for d in part], items)
    counts = clean_corpus(
        out / "corpus.jsonl",
        shards,
        out,
        CleaningRules(min_image_text=0.5, max_drift=2.0),
        CorpusRules(drift_deviations=0),
    )
    assert (counts["in"], counts["kept"]) == (5, 2)
    assert counts["reasons"] == {
        "low_image_text_similarity": 1,
        "near_duplicate": 1,
        "small_image": 1,
    }
    assert counts["image_reasons"] == {
        "low_image_text_similarity": 1,
        "small_image": 2,
        "unreadable_image": 1,
        "with_dialogue": 1,
    }
    decisions = {d["dialogue_id"]: d for d in read_records(out / "decisions.jsonl")}
    assert decisions["copy"]["copy_of"] == "boat"
    kept = list(read_jsonl(out / "dialogues.jsonl"))
    assert [d.dialogue_id for d in kept] == ["boat", "bread"] and len(kept[1].images) == 1
    features = load_features(out)
    assert features.text_ND.shape == (2, 64) and features.clip_image_ND.shape == (2, 64)
    expected = mean_features(load_shard(shards[0])[1][1], [0])
    assert np.allclose(features.text_ND[1], expected["text"], atol=1e-3)
    assert len(features.image_keys[0]) == 1 and not features.image_keys[0] & features.image_keys[1]
    assert list(load_features(out, [1]).image_keys) == [features.image_keys[1]]


def test_shards_come_back_as_they_were(pictures):
    dialogue = with_pictures(
        short("d", ["boat", "", "x"], {0: ["a boat"], 1: [None]}), pictures, ["boat", "bread"]
    )
    reader = ImageReader(limits=ImageLimits(roots=(str(pictures),)))
    (item,) = embed_dialogues([dialogue], HashingEncoder(64), Clip(), reader)
    assert item.text_turns == (0, 2)
    save_shard(pictures / "s.npz", ["d"], [item])
    ids, (found,) = load_shard(pictures / "s.npz")
    assert ids == ["d"] and found.text_turns == (0, 2) and found.facts == item.facts
    assert np.allclose(found.clip_images_IC, item.clip_images_IC, atol=1e-3)
    similarity = image_text_similarity(dialogue, found)
    # The second picture's turn has no text and the picture no caption.
    assert similarity[0] == pytest.approx(1.0, abs=1e-2) and similarity[1] == -1.0
    (plain,) = embed_dialogues([dialogue], HashingEncoder(64), None, reader)
    assert image_text_similarity(dialogue, plain) is None
    assert set(mean_features(plain, [0])) == {"text"}


def test_equal_pictures_under_two_names_are_one_image(pictures):
    (pictures / "copy.png").write_bytes((pictures / "boat.png").read_bytes())
    reader = ImageReader(limits=ImageLimits(roots=(str(pictures),)))
    one, two = (inspect_image(str(pictures / n), reader) for n in ("boat.png", "copy.png"))
    other = inspect_image(str(pictures / "bread.png"), reader)
    assert one == two and one.key != other.key
    assert inspect_image(None, reader).width == 0


def long(name, query, fragment=0, kind=QueryKind.UTTERANCE_ONLY):
    dialogue = short(name, [f"{name} one", f"{name} two", "three"])
    item = tagged(dialogue, {0: ("c", "f"), 1: ("c", "f"), 2: ("c", "f")}, fragments=((0, 1), (2,)))
    asked = Query(
        query=query,
        relevance=Selection(utterance_ids=frozenset({0})),
        kind=kind,
        fragment_id=fragment,
    )
    return replace(item, dialogue=replace(item.dialogue, queries=(asked,)))


def test_split_files_and_their_numbers(tmp_path):
    pools = {
        "sft": [long("s", "q1")],
        "rft": [long("r", "q2"), long("n", "q3", kind=QueryKind.NEGATIVE)],
        "validation": [long(f"v{i}", f"v q{i}") for i in range(4)],
        "boundary_test": [long("b", "q5"), long("x", "q6", fragment=None)],
    }
    texts = {i.dialogue.dialogue_id: i.dialogue.dialogue_id for p in pools.values() for i in p}
    rules = SplitRules(num_validation=3, num_fem_test=2, num_fem_clusters=2)
    found = write_splits(pools, texts, tmp_path, rules, HashingEncoder(64).encode_queries)
    assert found["sizes"] == {
        "sft": 1,
        "rft": 2,
        "validation": 3,
        "boundary_train": 3,
        "boundary_test": 2,
        "fem_train_pairs": 2,
        "fem_test_pairs": 2,
    }
    assert found["left_out"] == {
        "validation_surplus": 1,
        "without_queries": 0,
        "fem_pairs_not_sampled": 2,
    }
    assert fem_queries(pools["boundary_test"][1]) == []
    assert all(d.queries is None for d in read_jsonl(tmp_path / "boundary_train.jsonl"))
    # The same dialogue in two pools is a defect that is never written down as a split.
    with pytest.raises(AssertionError, match="dialogue s is in sft and rft"):
        write_splits(
            {**pools, "rft": pools["sft"]},
            texts,
            tmp_path,
            rules,
            HashingEncoder(64).encode_queries,
        )


def test_the_card_counts_by_hand():
    items = [long("a", "q"), long("b", "q")]
    card = make_card(items, {"validation": 1}, {"3-clean": {"in": 5, "reasons": {"off_topic": 2}}})
    assert card.numbers["turns"] == 6 and card.numbers["turns_per_dialogue"] == 3.0
    assert card.coarse_tags == {"c": 2} and card.fine_tags == 1
    assert card_json(card)["turn_lengths"] == {"3": 2}
    text = card_markdown(card, "command")
    assert "| turns | 6 | 942,414 |" in text
    assert "| reasons: off_topic | 2 |" in text
