"""One report over a small corpus on Ray: every file, resuming, and what follows from it."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.compare import run
from jobs.report.config import load_config

PROFILE = '[encoder]\nkind = "hashing"\n[index]\nkind = "exact"\n'
ANSWER = "<|utt_ids_start|>[1]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
REPORT = """
name = "small"
reference = "ours"
resamples = 50
[[sets]]
name = "plain"
path = "{folder}/set.jsonl"
[[sets]]
name = "translated"
path = "{folder}/set.jsonl"
translation = "{folder}/translation.jsonl"
[[systems]]
name = "ours"
kind = "profile"
profile = "{folder}/profile.toml"
paper_row = {{ "11" = "FFRS" }}
[[systems]]
name = "BM25"
kind = "bm25"
[[systems]]
name = "zero-shot"
kind = "vlm"
windows = true
engine = {{ kind = "scripted", script = {{ "" = "{answer}" }} }}
[[systems]]
name = "CLIP"
kind = "clip"
paper_row = {{ "" = "CLIP-Embedding†" }}
[[systems]]
name = "replies"
kind = "reply_rule"
[[systems]]
name = "lost profile"
kind = "brute_force"
profile = "{folder}/nowhere.toml"
"""
TOPICS = {
    "trip": ["which train to the sea", "the train to the sea leaves at nine", "nine is early"],
    "lamp": ["the lamp in the garden is broken", "buy a lamp for the garden", "a green lamp"],
}


def record(name, topics):
    turns, fragments, queries = [], [], []
    for number, topic in enumerate(topics):
        ids = [len(turns) + i for i in range(3)]
        fragments.append(ids)
        turns += [
            {"turn_id": i, "speaker": "Ana", "text": f"{text} <script>{name}"}
            for i, text in zip(ids, TOPICS[topic], strict=True)
        ]
        queries.append({"query": TOPICS[topic][1], "utt_ids": [ids[1]], "fragment": number})
    return {"dialogue_id": name, "turns": turns, "fragments": fragments, "queries": queries}


@pytest.fixture(scope="module")
def made(tmp_path_factory, ray_cluster):
    """A report, its configuration and its folder."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "profile.toml").write_text(PROFILE)
    records = [record("one", ["trip", "lamp"]), record("two", ["lamp", "trip"])]
    (folder / "set.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "translation.jsonl").write_text(
        '{"query_id": "one/0", "query": "train to the sea"}\n'
    )
    path = folder / "report.toml"
    path.write_text(REPORT.format(folder=folder, answer=ANSWER))
    config = load_config(path)
    out = folder / "out"
    return run(config, out, "the command"), config, out


def test_every_system_is_measured_on_every_set_or_says_why_not(made):
    report, _, _ = made
    plain = report["results"]["plain"]
    assert plain["ours"]["recall"]["recall@5"] == 1
    assert plain["zero-shot"]["selection"]["micro"]["utterance"]["recall"] == 0.5
    assert plain["zero-shot"]["counts"]["windows"] == 4 + 2 * 4
    assert plain["replies"]["segmentation"]["dialogues"] == 2
    assert "has no `model`" in plain["CLIP"]["not_run"]
    assert "no configuration file" in plain["lost profile"]["not_run"]
    translated = report["results"]["translated"]
    assert translated["BM25"]["selection"]["queries"] == 1
    assert report["sets"][1]["left_out"] == {"no_translation": 3}
    difference = report["differences"]["plain"]["BM25"]["search_f1"]
    assert difference["low"] <= difference["mean"] <= difference["high"]


def test_all_files_are_there_and_nothing_typed_is_markup(made):
    _, _, out = made
    text = (out / "report.md").read_text()
    assert "| plain | CLIP | not run | not run |" in text and "48.74 / 30.80" in text
    assert "lost profile on plain, translated: not run" in text
    for name in ("report.html", "failures.html"):
        assert "<script" not in (out / name).read_text()
    assert {p.name for p in (out / "plots").iterdir()} == {
        "recall.png", "search.png", "seconds.png", "segmentation.png", "selection.png",
    }  # fmt: skip
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in (out / "plots").iterdir())


def test_a_second_run_measures_only_what_is_new(made):
    report, config, out = made
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    again = run(config, out, "the command")
    assert again["results"] == report["results"]
    measured = {
        json.loads(path.read_text())["system"]
        for path, at in before.items()
        if path.stat().st_mtime_ns != at
    }
    assert measured == {"CLIP", "lost profile"}


def test_the_commands_show_it_and_judge_it(made, tmp_path):
    _, _, out = made
    runner = CliRunner()
    shown = runner.invoke(app, ["report", str(out), "--readme"])
    assert shown.exit_code == 0 and "| plain | " in shown.output and " BM25 |" in shown.output
    wrong = runner.invoke(app, ["report", str(tmp_path)])
    assert wrong.exit_code == 2
    sheets = runner.invoke(app, ["judge", str(out), "--set", "plain", "--limit", "2"])
    assert sheets.exit_code == 0, sheets.output
    rows = list(csv.DictReader((out / "judging" / "sheet.csv").open(encoding="utf-8-sig")))
    assert len(rows) == 2 * 3
    filled = tmp_path / "ann.csv"
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "relevance": 4, "coverage": 3} for row in rows)
    read = runner.invoke(app, ["judge", str(out), "--read", str(filled)])
    assert set(json.loads(read.output)["ratings"]) == {"people"}
    engine = tmp_path / "judge.toml"
    reply = json.dumps({"relevance": 4, "coverage": 2})
    engine.write_text(
        f"max_attempts = 1\n[engine]\nkind = 'scripted'\nscript = {{ '' = '{reply}' }}\n"
    )
    asked = runner.invoke(
        app, ["judge", str(out), "--set", "plain", "--limit", "2", "--engine", str(engine)]
    )
    assert asked.exit_code == 0, asked.output
    # The script rates every answer, but never chooses: two dead letters, one a query.
    assert json.loads(asked.output)["dead_letters"] == 2
    text = Path(out / "report.md").read_text()
    assert "| people | BM25 | 4.00 (0.00) | 3.00 (0.00) | 3.50 (0.00) | 2 |" in text
    assert "| judge | BM25 | 4.00 (0.00) | 2.00 (0.00) | 3.00 (0.00) | 2 |" in text
    assert "Agreement of raters" in text
