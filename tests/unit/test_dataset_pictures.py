import json
import os

import pytest
from dataset_parts import short, tagged
from PIL import Image as Picture

from ffr_core.dataset.pictures import Pictures, image_key_of
from ffr_core.dataset.steps import read_records, write_records
from ffr_core.errors import ForbiddenError, NotFoundError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.records import dialogue_from_record, read_jsonl, record_from_dialogue
from jobs.fem import config as fem_config
from jobs.grpo.config import ModelConfig
from jobs.grpo.data import image_reader
from jobs.training import sft_config
from jobs.training.config import BatchConfig, LaunchConfig


@pytest.fixture
def corpus(tmp_path):
    """Two dialogues whose second pictures have the same content under different names."""
    folder = tmp_path / "corpus"
    items = []
    for name in ("a", "b"):
        dialogue = short(name, ["x", "y", "z"], {0: ["one"], 2: ["two"]})
        (folder / name).mkdir(parents=True)
        for number, color in enumerate((f"#{ord(name):02x}0000", "#00ff00")):
            Picture.new("RGB", (8, 8), color).save(folder / name / f"{number}.PNG")
        record = json.loads(json.dumps(record_from_dialogue(dialogue)).replace(".png", ".PNG"))
        item = tagged(dialogue_from_record(record, base=str(folder)), {})
        items.append(item)
    keys = {str(folder / n / f"{i}.PNG"): ("same" if i else n) for n in "ab" for i in (0, 1)}
    return folder, items, keys


def reader(folder):
    return ImageReader(limits=ImageLimits(roots=(str(folder),)))


def training_roots(file):
    """Where SFT, FEM and GRPO open pictures when their configuration names no image roots."""
    sft = sft_config.SftConfig(
        task="localize",
        model="m",
        train=(str(file),),
        batch=BatchConfig(tokens_per_step=1, tokens_per_microbatch=1),
        launch=LaunchConfig(name="n", storage_path="s"),
    )
    fem = fem_config.FemConfig(
        data=(fem_config.DataConfig(path=str(file)),),
        launch=LaunchConfig(name="n", storage_path="s"),
        num_steps=1,
    )
    grpo = image_reader(ModelConfig(path="m"), [str(file)])
    return (
        sft_config.resolve_paths(sft).image_roots,
        fem_config.resolve_paths(fem).image_roots,
        grpo.limits.roots,
    )


def test_a_published_folder_is_complete_wherever_it_is_moved(corpus, tmp_path):
    folder, items, keys = corpus
    out = tmp_path / "out"
    out.mkdir()
    pictures = Pictures(out, reader(folder), keys)
    records = [record_from_dialogue(item.dialogue) for item in items]
    write_records(out / "sft.jsonl", map(pictures.place, records))
    assert pictures.counts == {"images": 3, "images_elsewhere": 0}
    assert sorted(p.name for p in (out / "images").iterdir()) == ["a.png", "b.png", "same.png"]
    moved = out.rename(tmp_path / "elsewhere")
    found = list(read_jsonl(moved / "sft.jsonl"))
    for roots in training_roots(moved / "sft.jsonl"):
        beside = ImageReader(limits=ImageLimits(roots=roots))
        colors = [[beside.open(i.uri).getpixel((0, 0)) for i in d.images] for d in found]
        assert colors == [[(97, 0, 0), (0, 255, 0)], [(98, 0, 0), (0, 255, 0)]]
    captions = [i.caption for i in items[0].dialogue.images]
    assert [i.caption for i in found[0].images] == captions


def test_pictures_are_copied_where_links_are_refused(corpus, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    folder, items, keys = corpus
    record = record_from_dialogue(items[0].dialogue)
    placed = Pictures(tmp_path, reader(folder), keys).place(record)
    for turn, original in zip(placed["turns"], record["turns"], strict=True):
        for image, source in zip(turn["images"], original["images"], strict=True):
            with open(source["uri"], "rb") as stream:
                assert (tmp_path / image["uri"]).read_bytes() == stream.read()


def test_a_second_run_needs_no_source_and_changes_nothing(corpus, tmp_path):
    folder, items, keys = corpus
    record = record_from_dialogue(items[0].dialogue)
    first = Pictures(tmp_path, reader(folder), keys).place(record)
    for file in (folder / "a").iterdir():
        file.unlink()
    assert Pictures(tmp_path, reader(folder), keys).place(record) == first
    with pytest.raises(NotFoundError, match="vanished"):
        Pictures(tmp_path / "new", reader(folder), keys).place(record)


def test_references_stay_and_foreign_files_are_refused(corpus, tmp_path):
    folder, items, keys = corpus
    record = record_from_dialogue(items[0].dialogue)
    record["turns"][0]["images"][0]["uri"] = "s3://bucket/chats/a.png"
    limits = ImageLimits(roots=(str(folder), "s3://bucket/chats"))
    pictures = Pictures(tmp_path, ImageReader(limits=limits), keys)
    assert pictures.place(record)["turns"][0]["images"][0]["uri"] == "s3://bucket/chats/a.png"
    assert pictures.counts == {"images": 1, "images_elsewhere": 1}
    record["turns"][0]["images"][0]["uri"] = "/etc/passwd"
    with pytest.raises(ForbiddenError):
        pictures.place(record)


def test_keys_follow_the_images_of_every_dialogue(corpus):
    _, items, _ = corpus
    found = image_key_of(items)
    assert [found[i.uri] for item in items for i in item.dialogue.images] == [
        key for item in items for key in item.image_keys
    ]


def test_other_keys_of_a_record_stay(corpus, tmp_path):
    folder, items, keys = corpus
    record = {**record_from_dialogue(items[0].dialogue), "qa_pairs": [{"question": "q"}]}
    pictures = Pictures(tmp_path, reader(folder), keys)
    write_records(tmp_path / "fem.jsonl", [pictures.place(record)])
    (found,) = read_records(tmp_path / "fem.jsonl")
    assert found["qa_pairs"] == [{"question": "q"}]
