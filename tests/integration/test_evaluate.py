"""`ffrs eval` on a small file whose right answers are plain, with the hashing encoder."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffr_core.errors import InputError, RecordError
from jobs.eval_sets import load_set
from jobs.eval_text import describe
from jobs.evaluate import evaluate_file

PROFILE = '[encoder]\nkind = "hashing"\n[index]\nkind = "{index}"\nuri = "{{home}}/i.db"\n'
TOPICS = {
    "trip": ["which train to the sea", "the train to the sea leaves at nine", "nine is early"],
    "lamp": ["the lamp in the garden is broken", "buy a lamp for the garden", "a green lamp"],
    "invoice": ["the invoice from march is missing", "march invoice found", "send the invoice"],
}


def record(name, topics, image=False):
    turns, fragments, queries = [], [], []
    for number, topic in enumerate(topics):
        ids = list(range(len(turns), len(turns) + 3))
        fragments.append(ids)
        for i, text in zip(ids, TOPICS[topic], strict=True):
            turns.append({"turn_id": i, "speaker": "Ana", "text": f"{text} {name}"})
        queries.append(
            {"query": f"{TOPICS[topic][1]} {name}", "utt_ids": [ids[1]], "fragment": number}
        )
    queries.append({"query": "trap", "utt_ids": [0], "kind": "qa_adversarial", "fragment": 0})
    if image:
        turns[0]["images"] = [{"image_id": 0, "uri": None, "caption": "a red bicycle"}]
        queries.append({"query": "photo of the red bicycle", "utt_ids": [], "img_ids": [0]})
    return {"dialogue_id": name, "turns": turns, "fragments": fragments, "queries": queries}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("eval") / "set.jsonl"
    records = [record("one", ["trip", "lamp"], image=True), record("two", ["invoice", "trip"])]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def profile(tmp_path, index):
    path = tmp_path / f"{index}.toml"
    path.write_text(PROFILE.format(index=index))
    return str(path)


def test_every_part_is_measured_and_the_traps_are_left_out(data, tmp_path):
    results = evaluate_file(data, profile(tmp_path, "exact"), baseline=True)
    assert results["queries"] == 5
    assert results["recall"]["recall@5"] == 1
    assert results["recall"]["recall@1"] >= 0.75
    assert set(results["recall"]) == {f"recall@{k}" for k in (1, 5, 10, 15, 20)}
    for part in ("pairwise", "b_cubed"):
        assert set(results["segmentation"][part]) == {"precision", "recall", "f1"}
    for modality in ("utterance", "image", "joint"):
        assert set(results["selection"][modality]) == {"precision", "recall", "f1", "mcc"}
    assert set(results["corpus"]) == {"precision", "recall", "f1", "mcc", "latency_ms"}
    baselines = results["baselines"]
    assert set(baselines["segmentation"]) == {"even_cuts", "text_tiling", "reply_rule"}
    assert baselines["segmentation"]["even_cuts"]["pairwise"]["f1"] == 1
    assert baselines["recall"]["bm25_fragments"]["recall@1"] == 1
    difference = baselines["selection"]["bm25_turn"]["utterance_f1_difference"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert "even_cuts" in describe(results)


def test_milvus_and_the_exact_index_rank_alike(data, tmp_path):
    found = [evaluate_file(data, profile(tmp_path, kind)) for kind in ("exact", "milvus")]
    assert found[0]["recall"] == found[1]["recall"]
    assert found[0]["selection"] == found[1]["selection"]
    for results in found:
        results["corpus"].pop("latency_ms")
    assert found[0]["corpus"] == found[1]["corpus"]


def test_parts_without_gold_are_omitted_and_the_cache_changes_nothing(tmp_path):
    path = tmp_path / "set.jsonl"
    without = record("one", ["trip", "lamp"])
    del without["queries"]
    path.write_text(json.dumps(without))
    name = profile(tmp_path, "exact")
    results = evaluate_file(path, name, cache=tmp_path / "cache")
    assert set(results) == {"segmentation", "queries"}
    assert evaluate_file(path, name, cache=tmp_path / "cache") == results
    assert evaluate_file(path, name) == results


def test_a_file_without_gold_is_refused(tmp_path):
    path = tmp_path / "set.jsonl"
    plain = record("one", ["trip"])
    del plain["queries"], plain["fragments"]
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match="nothing can be measured"):
        load_set(path, None, False)


def test_parquet_with_the_same_columns_is_the_same_set(data, tmp_path):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    path = tmp_path / "set.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    read, expected = load_set(path, None, False), load_set(data, None, False)
    assert (read.dialogues, read.asked) == (expected.dialogues, expected.asked)


@pytest.mark.parametrize(
    ("rows", "reason", "where"),
    [
        ([record("one", ["trip"]), {"dialogue_id": "two", "turns": []}], "no_turns", "row 2: "),
        (None, "unreadable_file", "breaks off after row 0"),
    ],
)
def test_a_damaged_parquet_file_is_named_with_its_row(tmp_path, rows, reason, where):
    path = tmp_path / "set.parquet"
    if rows is None:
        path.write_bytes(b"PAR1")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(RecordError, match=rf"set\.parquet {where}") as caught:
        load_set(path, None, False)
    assert caught.value.reason == reason


def test_the_command_writes_json(data, tmp_path):
    out = tmp_path / "results" / "r.json"
    command = [sys.executable, "-m", "jobs.cli", "eval", "--config", profile(tmp_path, "exact")]
    command += ["--data", str(data), "--json", str(out), "--max-queries", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(out.read_text())["queries"] == 3
    assert "recall" in done.stdout


def test_a_profile_with_ocr_reads_the_pictures_for_every_part(tmp_path, monkeypatch):
    turns = [{"turn_id": i, "speaker": "Ana", "text": f"number {i}"} for i in range(6)]
    turns[4] |= {"text": "", "images": [{"image_id": 0, "uri": "p1.png"}]}
    query = {"query": "dentist invoice 42.50", "utt_ids": [], "img_ids": [0], "fragment": 1}
    dialogue = {"dialogue_id": "d", "turns": turns, "fragments": [[0, 1, 2], [3, 4, 5]]}
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({**dialogue, "queries": [query]}))
    opened = []
    monkeypatch.setattr(
        "ffr_core.ocr.OcrReader.read",
        lambda self, uri: opened.append(uri) or "dentist invoice total 42.50",
    )
    plain = profile(tmp_path, "exact")
    blind = evaluate_file(path, plain)
    assert opened == []
    with open(plain, "a") as file:
        file.write("[ocr]\nenabled = true\n")
    seeing = evaluate_file(path, plain)
    assert opened == [str(tmp_path / "p1.png")]
    assert seeing["recall"]["recall@1"] == 1
    assert seeing["corpus"]["recall"] == 1
    assert seeing["selection"]["image"]["f1"] >= blind["selection"]["image"]["f1"]
