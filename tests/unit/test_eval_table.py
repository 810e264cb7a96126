import json

import pytest
import typer

from ffr_core.errors import InputError
from jobs.eval_table import HEAD, SEGMENTERS, main, row


def scored(value):
    return {"pairwise": {"f1": value}}


def test_a_row_holds_the_best_baseline_and_leaves_out_what_was_not_measured():
    results = {
        "queries": 7,
        "segmentation": scored(0.72),
        "recall": {"recall@1": 0.5, "recall@5": 0.75},
        "selection": {"utterance": {"f1": 0.4}},
        "corpus": {"f1": 0.3},
        "baselines": {
            "segmentation": {name: scored(i / 10) for i, name in enumerate(SEGMENTERS, start=1)},
            "recall": {"bm25_fragments": {"recall@1": 0.4, "recall@5": 0.6}},
            "selection": {"a": {"utterance": {"f1": 0.2}}, "b": {"utterance": {"f1": 0.25}}},
            "corpus": {"a": {"f1": 0.1}, "b": {"f1": 0.05}},
        },
    }
    full = row("set", results)
    assert full == (
        "| set | 72.0 / 10.0 / 20.0 / 30.0 | 7 | 50.0 / 75.0 | 40.0 / 60.0 | 40.0 / 25.0"
        " | 30.0 / 10.0 |"
    )
    bare = row("bare", {"queries": 0, "baselines": {}})
    assert bare == "| bare |  | none |  |  |  |  |"
    columns = HEAD.splitlines()[0].count("|")
    assert full.count("|") == bare.count("|") == columns


def test_results_without_baselines_are_an_error_that_says_what_to_do(tmp_path, capsys):
    with pytest.raises(InputError, match=r"plain holds no .* --baseline`"):
        row("plain", {"queries": 3})
    path = tmp_path / "plain.json"
    path.write_text(json.dumps({"queries": 3}))
    with pytest.raises(typer.Exit):
        main([path])
    assert capsys.readouterr().err.startswith("error: plain holds no results of baselines")


def test_a_file_that_is_no_result_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "broken.json"
    for make in (lambda: None, lambda: path.write_text("{")):
        make()
        with pytest.raises(typer.Exit):
            main([path])
        assert "is no result of `ffrs eval --json`" in capsys.readouterr().err
