import json
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
from dataset_oracle import write_truth

from ffr_core.dataset.long_dialogue import from_json
from ffr_core.dataset.queries import is_negative
from ffr_core.dataset.steps import read_records
from ffr_core.dataset.synthetic import SynthConfig
from ffr_core.dataset.synthetic.write import write
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import read_jsonl
from ffr_core.types import QueryKind
from jobs.build_dataset import run
from jobs.dataset_config import DatasetConfig

pytestmark = pytest.mark.timeout(480)
DIALOGUES, DEFECTS = 48, 0.25


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    config = SynthConfig(dialogues=DIALOGUES, defects=DEFECTS, topics=(1, 1), turns=(6, 10))
    write(config, folder, "dialogcc")
    write_truth(config, folder)
    return folder


@pytest.fixture(scope="module")
def built(ray_cluster, corpus, tmp_path_factory):
    """The whole pipeline once, over Ray, with the scripted engine."""
    config = DatasetConfig.parse(
        {
            "input": [str(corpus)],
            "out": str(tmp_path_factory.mktemp("built")),
            "encoder": {"kind": "e5", "threads": 1},
            "embedding": {"shard": 20, "cpus": 0.5},
            # Ray's workers import from the current folder, the root of the repository.
            "clip": {"factory": "tests.integration.dataset_oracle:make"},
            "cleaning": {"min_image_text": 0.5, "max_drift": 0.07},
            "corpus": {"drift_deviations": 0},
            "queries": {"derive_one_modality": True},
            "splits": {"num_validation": 3, "num_fem_test": 12, "num_fem_clusters": 4},
            "negatives_by_embedding": False,
            "engine": {"kind": "scripted"},
            "annotate": {"batch": 32, "max_new_tokens": 100_000},
        },
        "test",
    )
    return config, run(config)


def counts(built, name):
    return built[1]["steps"][name]


def test_every_planted_defect_is_caught_under_its_reason(built, corpus):
    found = read_records(Path(built[0].out) / "steps" / "3-clean" / "decisions.jsonl")
    decisions = {decision["dialogue_id"]: decision for decision in found}
    planted = json.loads((corpus / "defects.json").read_text())["defects"]
    assert len({defect["defect"] for defect in planted}) == 6
    for defect in planted:
        decision = decisions[defect["dialogue_id"]]
        reasons = {decision["reason"], *(reason for _, reason in decision["removed_images"])}
        assert defect["reason"] in reasons, defect
        if defect["image_ids"]:
            assert [i for i, _ in decision["removed_images"]] == defect["image_ids"]
    innocent = [
        d for d in decisions.values() if d["dialogue_id"] not in {p["dialogue_id"] for p in planted}
    ]
    wrong = [d for d in innocent if d["reason"] or d["removed_images"]]
    assert len(wrong) <= 2, wrong


def test_counts_add_up_at_every_step(built):
    clean = counts(built, "3-clean")
    assert counts(built, "1-read")["kept"] == clean["in"] == DIALOGUES
    assert clean["in"] == clean["kept"] + sum(clean["reasons"].values())
    assert clean["images_in"] == clean["images_kept"] + sum(clean["image_reasons"].values())
    triplets = counts(built, "5-triplets")
    assert triplets["possible"] == 4 * clean["kept"]
    assert triplets["possible"] == triplets["kept"] + sum(triplets["reasons"].values())
    annotate = counts(built, "6-annotate")
    assert annotate["in"] == triplets["kept"]
    assert annotate["in"] == annotate["kept"] + sum(annotate["reasons"].values())
    assert annotate["kept"] == counts(built, "7-queries")["dialogues"]
    splits = counts(built, "8-splits")
    sizes = splits["sizes"]
    written = sizes["sft"] + sizes["rft"] + sizes["validation"] + sizes["boundary_test"]
    assert splits["in"] == written + splits["left_out"]["validation_surplus"]


def test_the_files_are_corpora_that_share_nothing(built):
    out = Path(built[0].out)
    sizes = counts(built, "8-splits")["sizes"]
    names = ("sft", "rft", "validation", "boundary_test")
    files = {name: list(read_jsonl(out / f"{name}.jsonl")) for name in names}
    assert {name: len(found) for name, found in files.items()} == {n: sizes[n] for n in names}
    assert len(files["validation"]) == 3
    images = {name: {i.uri for d in found for i in d.images} for name, found in files.items()}
    beside = ImageReader(limits=ImageLimits(roots=(str(out),)))
    for uri in set().union(*images.values()):
        beside.check_readable(uri)
    for a in names:
        for b in names:
            assert a == b or not images[a] & images[b]
    kinds = Counter(q.kind for name in ("sft", "rft") for d in files[name] for q in d.queries)
    assert set(kinds) == set(QueryKind)
    for dialogue in files["sft"]:
        assert len(dialogue.fragments) == 3
        assert sorted(i for ids in dialogue.fragments for i in ids) == [
            turn.turn_id for turn in dialogue.turns
        ]
    tested = list(read_jsonl(out / "fem_test.jsonl"))
    assert sum(len(d.queries) for d in tested) == 12 == sizes["fem_test_pairs"]
    first = next(iter(read_records(out / "fem_train.jsonl")))
    assert all(pair["question"] and pair["answer"] for pair in first["qa_pairs"])


def test_negatives_are_negative(built):
    folder = Path(built[0].out) / "steps" / "7-queries"
    items = [
        from_json(r) for pool in ("sft", "rft") for r in read_records(folder / f"{pool}.jsonl")
    ]
    found = [
        (query.query, item)
        for item in items
        for query in item.dialogue.queries
        if query.kind is QueryKind.NEGATIVE
    ]
    assert found and all(is_negative(text, item) for text, item in found)


def test_the_card_shows_the_numbers_beside_the_papers(built):
    out = Path(built[0].out)
    card = json.loads((out / "card.json").read_text())
    assert card["numbers"]["dialogues"] == counts(built, "7-queries")["dialogues"]
    assert card["numbers"]["topics_per_dialogue"] == 3.0
    assert sum(card["turn_lengths"].values()) == card["numbers"]["dialogues"]
    text = (out / "card.md").read_text()
    assert "| turns a dialogue, mean |" in text and "| 25.45 |" in text
    for name in ("turns.png", "topics.png", "queries.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_again_does_nothing_and_a_lost_step_comes_back_the_same(built):
    config, before = built
    out = Path(config.out)
    log = out / "steps" / "6-annotate" / "annotated.jsonl"
    lines = log.read_text().splitlines()
    files = {p.name: p.read_bytes() for p in out.glob("*.jsonl")}
    # As a kill leaves it: no mark, some finished lines, one line cut off.
    (log.parent / "done.json").unlink()
    log.write_text("\n".join(lines[:-20]) + "\n" + lines[-20][:50])
    after = run(config)
    assert after["repeated"] == ["6-annotate"]
    assert sorted(log.read_text().splitlines()) == sorted(lines)
    assert after["steps"] == before["steps"]
    assert {p.name: p.read_bytes() for p in out.glob("*.jsonl")} == files


def test_prompts_are_known_by_their_words_and_not_by_their_name(built, tmp_path):
    config, _ = built
    shipped = resources.files("ffr_core").joinpath("data", "prompts", "dataset_en.toml").read_text()
    path = tmp_path / "own.toml"
    path.write_text(shipped)
    own = config.model_copy(update={"prompts": str(path)})
    assert run(own)["repeated"] == []
    path.write_text(shipped.replace("$problem", "$problem !"))
    assert run(own)["repeated"][0] == "6-annotate"
