"""`jobs.fem_recall`: recall of a profile with and without a trained adapter."""

import json

import pytest
import torch

from ffr_core.embedding.fem_text import LoraBert, TextFem
from ffr_core.embedding.sentence import MiniLmEncoder
from ffr_core.errors import ConfigError, NotFoundError
from ffr_core.profile import Profile
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue, Query, Selection, Turn
from jobs.fem.config import FemConfig
from jobs.fem.loop import hashed_records
from jobs.fem_recall import compare, render, unseen
from jobs.training.checkpoints import data_hash

TOPICS = ["cats sleep", "the train is late", "bread and cheese", "rain in May"]


def dialogue(name):
    """Two turns a topic; its query is the text of the first."""
    turns = [
        Turn(turn_id=2 * i + k, speaker="Ann", text=f"{name}: {topic} {k}")
        for i, topic in enumerate(TOPICS)
        for k in range(2)
    ]
    queries = [
        Query(
            query=topic,
            relevance=Selection(utterance_ids=frozenset({2 * i})),
            source_kind="qa",
            fragment_id=i,
        )
        for i, topic in enumerate(TOPICS)
    ]
    fragments = [(2 * i, 2 * i + 1) for i in range(len(TOPICS))]
    return Dialogue(
        dialogue_id=name, turns=tuple(turns), fragments=tuple(fragments), queries=tuple(queries)
    )


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "set.jsonl"
    records = [record_from_dialogue(dialogue(name)) for name in "abcd"]
    file.write_text("\n".join(map(json.dumps, records)))
    return FemConfig.parse(
        {
            "data": [{"path": str(file), "validation": 0.25, "test": 0.25}],
            "model": {"kind": "minilm", "max_tokens": 256, "trained_side": "queries"},
            "num_steps": 1,
            "launch": {"name": "run", "storage_path": str(tmp_path)},
        },
        "toy",
    )


def hash_of_run():
    """Data hash of a run on the only set."""
    return data_hash(hashed_records("set.jsonl", [dialogue(name) for name in "abcd"], {}))


def test_an_adapter_of_queries_changes_their_side_alone(tmp_path, config, monkeypatch):
    encoder = MiniLmEncoder(threads=1)
    model = LoraBert(encoder.bert, first_layer=5, rank=2, alpha=4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    run = tmp_path / "run"
    TextFem(encoder, model, 512).save(run / "best" / "adapter")
    (run / "config.json").write_text(config.model_dump_json())
    (run / "provenance.json").write_text(json.dumps({"data_hash": hash_of_run()}))
    read = []
    plain = MiniLmEncoder.encode_passages

    def counted(self, passages):
        read.append(self.fingerprint)
        return plain(self, passages)

    monkeypatch.setattr(MiniLmEncoder, "encode_passages", counted)
    weights = {
        "dense_passage": 1.0,
        "dense_fragment": 0.0,
        "bm25_passage": 0.0,
        "bm25_fragment": 0.0,
    }
    profile = Profile.parse({"index": {"weights": weights}}, "dense alone")
    found = compare(run, profile, cache=tmp_path / "kept")
    scores = found["set.jsonl"]
    assert scores["queries"] == 4
    assert scores["plain recall@1"] == 1.0
    assert scores["adapted recall@1"] < 1
    assert read and set(read) == {encoder.fingerprint}
    nearly = compare(run, profile, share=0.05, cache=tmp_path / "kept")["set.jsonl"]
    assert nearly["adapted recall@1"] == 1.0
    assert render(found).splitlines()[2].startswith("| set.jsonl | 4 | 100.0 -> ")


def test_only_dialogues_that_were_not_trained_on_are_asked(tmp_path, config):
    trained_on = hash_of_run()
    (found,) = unseen(config, trained_on).values()
    assert len(found) == 1
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(record_from_dialogue(dialogue("e"))))
    both = config.model_copy(update={"held_out": (str(other),)})
    found = unseen(both, trained_on)
    assert {name: len(ds) for name, ds in found.items()} == {"set.jsonl": 1, "other.jsonl": 1}
    other.write_text("\n".join(json.dumps(record_from_dialogue(dialogue(n))) for n in "efg"))
    some = both.model_copy(update={"max_held_out_dialogues": 2})
    assert len(unseen(some, trained_on)["other.jsonl"]) == 2
    anchored = config.model_copy(update={"anchor_texts": (str(other),)})
    with pytest.raises(ConfigError, match="files changed since the run"):
        unseen(anchored, trained_on)
    data = tuple(part.model_copy(update={"test": 0.0}) for part in config.data)
    with pytest.raises(ConfigError, match="neither test dialogues nor held_out"):
        unseen(config.model_copy(update={"data": data}), trained_on)
    file = tmp_path / "set.jsonl"
    file.write_text(f"{file.read_text()}\n{json.dumps(record_from_dialogue(dialogue('f')))}\n")
    with pytest.raises(ConfigError, match="files changed since the run"):
        unseen(config, trained_on)


def test_a_folder_without_an_adapter_and_another_kind_of_encoder_are_refused(tmp_path, config):
    with pytest.raises(NotFoundError, match="best/adapter"):
        compare(tmp_path, Profile())
    (tmp_path / "best" / "adapter").mkdir(parents=True)
    model = config.model.model_copy(update={"kind": "qwen2vl", "path": "m", "trained_side": "both"})
    (tmp_path / "config.json").write_text(
        config.model_copy(update={"model": model}).model_dump_json()
    )
    (tmp_path / "provenance.json").write_text('{"data_hash": "unread"}')
    with pytest.raises(ConfigError, match="the profile's encoder is 'e5'"):
        compare(tmp_path, Profile())
