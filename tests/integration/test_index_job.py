"""The index job on real Ray Data and Milvus Lite, with the hashing encoder."""

import json
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import boto3
import PIL.Image
import psutil
import pytest
from index_place import (
    NUM_CALM,
    PROFILE,
    Place,
    assert_same,
    record,
    start,
    wait_for_payloads,
    write,
)

from ffr_core.errors import ConfigError, NotFoundError
from ffr_core.parts import build_builder, build_encoder, open_system
from ffr_core.profile import load_profile
from ffr_core.records import dialogue_from_record
from ffr_core.types import Dialogue, Fragment, Turn
from ffr_core.writing import delete_dialogue
from jobs.index_corpus import run
from jobs.index_owner import Claim, IndexOwner
from jobs.index_report import describe, exceeds


@pytest.fixture
def place(tmp_path, ray_cluster):
    return Place(tmp_path)


def test_runs_do_only_what_is_left_to_do(place):
    """A dry run, then index, an edit beside a deletion, and back to what the library has."""
    PIL.Image.new("RGB", (8, 8)).save(place.corpus / "here.png")
    records = [record(f"d{i}", num_turns=6 + i, image="here.png") for i in range(6)]
    write(place.corpus / "a.jsonl", [*records[:3], b"{"])
    write(place.corpus / "b.jsonl", records[3:])
    dry = run(place.config(), dry_run=True)
    assert (dry["to_index"], dry["dead_lettered"], dry["bad_images"]) == (6, {"bad_json": 1}, 0)
    assert dry["estimate"]["turns_per_second"] > 0
    assert [path.name for path in place.home.iterdir()] == ["runs"]
    assert [folder.name for folder in (place.home / "runs").iterdir()] == ["dry-run"]
    assert not place.rows()[0]

    # The longer record of an id wins in every run, also when it is read last.
    write(place.corpus / "b.jsonl", [record("d5", num_turns=3), *records[3:]])
    first = place.run()
    assert (first["indexed"], first["turns"]) == (6, sum(6 + i for i in range(6)))
    assert first["skipped"] == {"duplicate_id": 1}
    assert first["tokens"] >= 7 * first["turns"]  # a speaker and six words a turn
    assert first["tokens_per_second"] > 0
    assert f"the encoder read {first['tokens']} tokens" in describe(first)
    assert_same(place.rows(), place.library_rows(records))

    records[1]["turns"] = records[1]["turns"][:2]
    write(place.corpus / "a.jsonl", [*records[:3], b"{"])
    with open_system(str(place.profile), place.home) as system:
        assert system.delete("d4")
        assert system.stats().dialogues == 5
    edited = place.run(stages="separate")
    assert (edited["updated"], edited["unchanged"], edited["passages"]) == (1, 4, 2)
    assert edited["skipped"] == {"deleted": 1, "duplicate_id": 1}
    assert edited["dead_lettered"] == {"bad_json": 1}
    assert not exceeds(edited, 0.2)
    assert 0 < edited["tokens"] < first["tokens"] / 4
    left = [r for r in records if r["dialogue_id"] != "d4"]
    assert place.rows()[0].keys() == place.library_rows(left)[0].keys()

    write(place.corpus / "b.jsonl", records[3:])
    report = {p: p.read_bytes() for p in (place.home / "runs" / "index").iterdir()}
    assert run(place.config(restore=True), dry_run=True)["to_index"] == 1
    assert report == {p: p.read_bytes() for p in report}
    restored = place.run(restore=True)
    assert (restored["indexed"], restored["unchanged"], restored["tokens"] > 0) == (1, 5, True)
    assert_same(place.rows(), place.library_rows(records))


MARKUP = '<|utt_id_start|>9<|utt_id_end|> <|im_end|> <script>alert(1)</script> " or tenant'
GOOD = [record(f"good/{i}", num_turns=3) for i in range(40)]
BROKEN = 10_000


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, ray_cluster, s3_endpoint):
    """One run over good, odd and broken records, in a folder and on S3; with its summary."""
    place = Place(tmp_path_factory.mktemp("mixed"))
    PIL.Image.new("RGB", (8, 8)).save(place.corpus / "here.png")
    PIL.Image.new("RGB", (8, 8)).save(place.corpus.parent / "outside.png")
    rng = random.Random(7)
    lines = [*GOOD, *(_broken(rng, i) for i in range(BROKEN))]
    rng.shuffle(lines)
    write(place.corpus / "a.jsonl", lines)
    write(place.corpus / "b.jsonl", [record("x", seed=1), record("y"), record("x", seed=2)])
    write(place.corpus / "c.jsonl", [record("x", seed=3)])
    write(place.corpus / "z-april.jsonl", [record("z", num_turns=9, seed=4)])
    write(place.corpus / "z.jsonl", [record("z", num_turns=8, seed=3)])
    images = {"dots": "../outside.png", "nul": "a\0b.png", "long": "x" * 300}
    images |= {"here": "here.png", "gone": "gone.png"}
    images["outside"] = str(place.corpus.parent / "outside.png")
    write(place.corpus / "images.jsonl", [record(f"image/{n}", image=u) for n, u in images.items()])
    odd = record('team/日本 #1? "q"')
    odd["turns"][0] |= {"text": MARKUP, "speaker": 'A" or "1"=="1'}
    write(place.corpus / "odd.jsonl", [odd])
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="chats")
    lines = "".join(json.dumps(record(name)) + "\n" for name in ("s3/x", "s3/y"))
    client.put_object(Bucket="chats", Key="in/a.jsonl", Body=lines.encode())
    place.profile.write_text(f'{PROFILE}[storage]\ns3_endpoint = "{s3_endpoint}"\n')
    return place, place.run(input=(str(place.corpus), "s3://chats/in"))


@pytest.fixture(scope="module")
def mixed_system(mixed):
    with open_system(str(mixed[0].profile), mixed[0].home) as system:
        yield system


def test_ten_thousand_broken_records_cost_no_good_one(mixed, mixed_system):
    place, summary = mixed
    found = place.letters()
    letters = [letter for letter in found if letter["source"].endswith("/a.jsonl")]
    assert len(letters) == BROKEN
    assert all(letter["reason"] and letter["message"] for letter in letters)
    assert len({letter["position"] for letter in letters}) == BROKEN
    assert sum(summary["dead_lettered"].values()) == BROKEN + 2
    assert len(found) == BROKEN + 2 + 3 + 3  # and three duplicates, three pictures
    expected = {"x", "y", "z", 'team/日本 #1? "q"', "s3/x", "s3/y"}
    expected |= {g["dialogue_id"] for g in GOOD}
    expected |= {f"image/{name}" for name in ("here", "gone", "nul", "long")}
    assert set(mixed_system.dialogue_ids()) == expected
    assert summary["indexed"] == len(expected)
    assert exceeds(summary, 0.5)
    assert "left out" in describe(summary)
    assert not any(word in json.dumps(found) for word in ("secretword",))


def _broken(rng, number):
    """One way or another not a dialogue."""
    base = record(f"broken{number}", num_turns=2)
    base["turns"][0]["text"] = "secretword"
    kind = rng.randrange(15)
    if kind == 0:
        return json.dumps(base).encode()[: rng.randrange(1, 60)]
    if kind == 1:
        return b"\xff\xfe" + json.dumps(base).encode()
    if kind == 2:
        return rng.choice([b"null", b"[]", b"17", b'"x"', b"[[[[", b"{}", b"NaN"])
    if kind == 3:
        base["turns"] = rng.choice([None, [], {}, "x", 3, [None], [[]]])
    elif kind == 4:
        base["turns"][1]["turn_id"] = rng.choice([5, -1, None, "x", 1e999])
    elif kind == 5:
        base["dialogue_id"] = rng.choice([None, "", 5, [], {}])
    elif kind == 6:
        base["turns"][0]["text"] = rng.choice([5, [], {}])
    elif kind == 7:
        base["turns"][0]["images"] = [{"image_id": rng.choice([1, -1, None, "x"]), "uri": None}]
    elif kind == 8:
        base["turns"][0]["images"] = [{"image_id": 0, "uri": "/etc/passwd"}]
    elif kind == 9:
        base["fragments"] = rng.choice([[[0, 9]], [["x"]], 5, [5]])
    elif kind == 10:
        base["queries"] = rng.choice([[{"query": "q", "utt_ids": [9]}], [{}], [5], 5])
    elif kind == 11:
        return json.dumps(base).replace('"turn_id": 0', f'"turn_id": {"9" * 5000}').encode()
    elif kind == 12:
        base["dialogue_id"] = "x" * 1100
    elif kind == 13:
        base["turns"][0]["images"] = [{"image_id": 0, "uri": "s3://nowhere/x.png"}]
    else:
        base["turns"][0]["reply_to"] = rng.choice([7, -2, "x"])
    return base


def test_the_last_and_the_longest_record_of_an_id_wins_wherever_it_stands(mixed, mixed_system):
    assert mixed[1]["skipped"] == {"duplicate_id": 3}
    kept = mixed_system.get("x")
    assert kept.turns == dialogue_from_record(record("x", seed=3)).turns
    assert len(mixed_system.get("z").turns) == 9  # z-april.jsonl is read before z.jsonl


def test_images_outside_the_roots_and_images_that_are_gone(mixed, mixed_system):
    place, summary = mixed
    reasons = Counter(
        letter["reason"] for letter in place.letters() if letter["source"].endswith("/images.jsonl")
    )
    assert reasons == {"image_outside_roots": 2, "bad_image": 3}
    assert summary["bad_images"] == 3
    assert mixed_system.get("image/here").images[0].uri == str(place.corpus / "here.png")
    assert mixed_system.get("image/gone").images[0].uri is None


def test_markup_in_texts_comes_back_as_text(mixed_system):
    name = 'team/日本 #1? "q"'
    assert mixed_system.get(name).turns[0].text == MARKUP
    assert mixed_system.search(MARKUP)[0].dialogue_id == name


def test_a_bucket_that_is_not_there_is_named(mixed):
    with pytest.raises(NotFoundError, match="no bucket 'none'"):
        run(mixed[0].config(input=("s3://none/in",)))


def test_what_the_index_refuses_costs_no_neighbor(place):
    profile = load_profile(str(place.profile), place.home)
    encoder = build_encoder(profile.encoder)
    builder = build_builder(profile, encoder)
    names = ("gone", "kept", "crowd")
    gone, kept, _ = (dialogue_from_record(record(name)) for name in names)
    people = tuple(Turn(turn_id=i, speaker=f"P{i}", text="hello") for i in range(4_100))
    whole = Dialogue(dialogue_id="crowd", turns=people)
    one_fragment = (Fragment(fragment_id=0, turn_ids=tuple(range(4_100))),)
    items = [*builder.build([gone, kept]), *builder.embed([(whole, one_fragment)])]
    owner = IndexOwner(profile.model_dump(), encoder.fingerprint, encoder.dim, "default", "run")
    order = [((1, "a.jsonl", i), pickle.dumps(item)) for i, item in enumerate(items)]
    claim = Claim(dialogue_id="gone", order=(1, "a.jsonl", 0), fingerprint=items[0].fingerprint)
    assert owner.decide([claim], False) == ["new"]
    assert owner.write(order[:1]) == [None]
    assert owner.decide([claim], False) == ["new"]  # the same answer, also when it is written
    assert delete_dialogue(owner._index, owner._payloads, "default", "gone")
    refusals = owner.write(order)
    assert [refusal and refusal[0] for refusal in refusals] == [
        "deleted",
        None,
        "too_many_speakers",
    ]
    owner.close()
    assert set(place.rows()[1]) == {"gone", "kept"}
    assert len(place.payloads()) == 1


@pytest.fixture
def big(place, calm):
    """The calm corpus with a home of its own; yields the rows that must come out."""
    place.corpus = calm[0].corpus
    return calm[1]


def ray_worker(title):
    found = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]]
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    return [p for p in found if p.pid in mine and title in p.info["cmdline"][0]]


@pytest.mark.timeout(600)
def test_killing_the_driver_and_running_again(place, big, ray_cluster):
    process = start(place, ray_cluster)
    wait_for_payloads(place, 20, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(place.payloads()) < NUM_CALM
    place.run()
    assert_same(place.rows(), big)


@pytest.mark.timeout(400)
def test_killing_the_workers_in_the_middle(place, big, ray_cluster):
    process = start(place, ray_cluster)
    for victim, written in (("ray::MapWorker", 0), ("ray::IndexOwner", 10)):
        wait_for_payloads(place, written, process)
        while not (victims := ray_worker(victim)):
            assert process.poll() is None, (place.home.parent / "job.log").read_text()
            time.sleep(0.02)
        for worker in victims:
            worker.kill()
    assert process.wait(300) == 0, (place.home.parent / "job.log").read_text()
    summary = json.loads((place.home / "runs" / "index" / "summary.json").read_text())
    assert summary["indexed"] + summary["updated"] + summary["unchanged"] == NUM_CALM
    assert_same(place.rows(), big)


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("{home}/%.db", ConfigError, "Milvus Lite cannot use a file named '%.db'"),
        ("{home}/file/i.db", OSError, "home/file"),
    ],
)
def test_an_index_that_cannot_be_opened_says_why(place, uri, error, message):
    write(place.corpus / "a.jsonl", [record("x")])
    place.home.mkdir()
    (place.home / "file").touch()
    place.profile.write_text(PROFILE.replace("{home}/i.db", uri))
    with pytest.raises(error, match=message):
        place.run()


def test_a_report_that_cannot_be_written_stops_the_run_first(place):
    write(place.corpus / "a.jsonl", [record("x")])
    with pytest.raises(NotADirectoryError):
        place.run(report=str(place.corpus / "a.jsonl" / "report"))
    assert not place.home.exists()


def test_a_missing_input_is_one_sentence(place):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "index", "nowhere", "--home", str(place.home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: there is no file or folder nowhere; check the path\n"
    assert not Path(place.home).exists()
