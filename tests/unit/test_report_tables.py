"""The paper's numbers, and the text of tables."""

import pytest

from ffr_core.errors import ConfigError
from ffr_core.metrics.selection import SelectionScores, joint
from jobs.report.config import ReportConfig, load_config
from jobs.report.page import html, markdown
from jobs.report.paper import check_rows, paper_row, paper_rows, paper_tables
from jobs.report.paper_layouts import overall
from jobs.report.tables import all_tables, readme_table

FOUR = ("precision", "recall", "f1", "mcc")
EXCEPTIONS = {
    ("3", "MiMo-7B-RL", "precision"),
    ("4", "BLIP2-Embedding†", "mcc"),
    ("4", "Qwen2.5-VL-7B†", "mcc"),
}


def joint_of(row):
    parts = [
        SelectionScores(**{name: row[modality][name] / 100 for name in FOUR})
        for modality in ("utterance", "image")
    ]
    return joint(*parts)


def test_joint_columns_of_the_paper_follow_from_its_other_columns():
    differs = {
        (number, name, metric)
        for number in ("3", "4", "14")
        for name, row in paper_rows(number).items()
        for metric in FOUR
        if abs(100 * getattr(joint_of(row), metric) - row["joint"][metric]) > 0.02
    }
    assert differs == EXCEPTIONS


def test_table_2_repeats_the_joint_columns_of_tables_3_and_4():
    for name, row in paper_rows("2").items():
        plain = name.rstrip("∗")
        for number, column in (("3", "MLDR"), ("4", "WeChat")):
            for other in (name, plain, plain.replace("LLaVA", "LLaVa"), f"{plain}-3B"):
                if other in paper_rows(number):
                    assert paper_rows(number)[other]["joint"] == row[column], (name, number)
                    break
            else:
                raise AssertionError(f"{name} is not in table {number}")


def test_the_paper_tables_are_complete():
    sizes = {number: len(paper_rows(number)) for number in paper_tables() if number != "source"}
    assert sizes == {
        "2": 29, "3": 29, "4": 29, "5": 10, "8": 1, "9": 8, "10": 4, "11": 2, "12": 1, "14": 14,
    }  # fmt: skip
    assert paper_rows("9")["FEM (Ours)"]["recall@1"] == 62.8


def test_rows_of_the_paper_are_checked():
    assert paper_row({"": "GPT-4o†"}, "2") == "GPT-4o†"
    assert paper_row({"": "GPT-4o†", "9": "FEM (Ours)"}, "9") == "FEM (Ours)"
    assert paper_row({"": "GPT-4o†"}, "11") is None
    with pytest.raises(ConfigError, match="no row of the paper"):
        check_rows({"2": "GPT-5"}, "mine")
    with pytest.raises(ConfigError, match="no row of the paper"):
        check_rows({"6": "GPT-4o†"}, "mine")


def scores(f1):
    return {"precision": 0.5, "recall": 0.25, "f1": f1, "mcc": 0.1}


def report():
    micro = {name: scores(0.4) for name in ("utterance", "image", "joint")}
    group = {**scores(0.4), "queries": 3, "headline": "joint", "left_empty": 0.5, "tp_fn": 4}
    negative = {**group, "recall": 1, "left_empty": 1, "tp_fn": 0}
    return {
        "name": "r<b>",
        "command": "cmd",
        "commit": "abc",
        "machine": "m",
        "made": "now",
        "reference": "ours",
        "systems": [
            {"name": "ours", "kind": "profile", "paper_row": {}, "parts": ["selection"]},
            {"name": "CLIP", "kind": "clip", "paper_row": {"": "CLIP-Embedding†"},
             "parts": ["selection"]},
            {"name": "cuts", "kind": "even_cuts", "paper_row": {}, "parts": ["segmentation"]},
        ],
        "sets": [
            {"name": "a|b", "beside": "MLDR", "dialogues": 1, "turns": 9, "queries": 3,
             "left_out": {"no_translation": 2}, "parts": ["selection"]},
        ],
        "results": {
            "a|b": {
                "ours": {
                    "not_run": None,
                    "counts": {"malformed": 1},
                    "selection": {
                        "queries": 3,
                        "headline": "joint",
                        "micro": micro,
                        "intervals": {"f1": [0.3, 0.5], "mcc": [0.0, 0.2]},
                        "per_dialogue": micro,
                        "groups": {
                            "kind": {"multi-modal": group, "negative": negative},
                            "language": {}, "turns": {}, "span": {},
                        },
                    },
                },
                "CLIP": {"not_run": "no <model>", "counts": {}},
                "cuts": {"not_run": None, "counts": {}},
            }
        },
        "differences": {},
        "judging": None,
    }  # fmt: skip


def test_measured_cells_stand_beside_the_papers_and_the_rest_says_not_run():
    rows = {row[1]: row for row in overall(report()).rows}
    assert rows["ours"][2:8] == (
        "joint", "50.00", "25.00", "40.00 [30.0, 50.0]", "10.00 [0.0, 20.0]", "40.00",
    )  # fmt: skip
    assert rows["ours"][8:] == ("", "")
    assert rows["CLIP"][2:] == (
        *("not run",) * 6,
        "48.74 / 30.80 / 42.73 / 21.14",
        "20.44 / 49.91 / 31.56 / 17.62",
    )
    assert rows["GPT-4o†"][0] == "paper only" and rows["GPT-4o†"][2] == "not run"
    assert "CLIP-Embedding†" not in rows and "cuts" not in rows
    assert len(rows) == 2 + 28


def test_every_table_has_its_columns_and_negative_queries_say_what_was_left_empty():
    tables = {table.number: table for table in all_tables(report())}
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
    assert tables["kind"].rows[1][3] == "left empty 100.00"
    assert tables["12"].rows[0][2] == "not run"
    assert tables["12"].rows[1][2] == "4.22 (0.41)"
    assert tables["agreement"].rows == (("all", *("not run",) * 4),)
    assert tables["5"].rows[0][2] == "not run"


def test_ratings_and_agreement_stand_beside_the_papers():
    spread = {"mean": 4.0, "sd": 0.5}
    none = {"mean": None, "sd": None}
    found = {"relevance": spread, "coverage": none, "overall": none, "answers": 7, "ratings": 9,
             "top": {"coverage": 1, "relevance": 2, "coherence": 3}}  # fmt: skip
    one = {"alpha": 0.5, "spearman": None, "kappa": 0.25, "shared": 6}
    top = {"shared": 4, "kappa": 1.0}
    judging = {
        "ratings": {"people": {"ours": found}},
        "agreement": {
            "relevance": one,
            "coverage": one,
            "top": {"coverage": top, "relevance": top, "coherence": top},
        },
    }
    tables = {table.number: table for table in all_tables({**report(), "judging": judging})}
    assert tables["12"].rows[0] == (
        "people", "ours", "4.00 (0.50)", "not run", "not run", "7", "1", "2", "3",
    )  # fmt: skip
    assert tables["agreement"].rows[0] == ("relevance", "0.500", "not run", "0.250", "6")
    assert tables["agreement"].rows[4] == ("best coherence", "", "", "1.000", "4")


def test_names_cannot_break_markdown_or_html(tmp_path):
    tables = all_tables(report())
    text = markdown(report(), tables, [])
    assert "a\\|b" in text and "2 no_translation" in text
    assert "CLIP on a|b: not run, no <model>" in text
    page = html(report(), tables, [], tmp_path)
    assert "r&lt;b&gt;" in page and "no &lt;model&gt;" in page and "<script" not in page


def test_the_readme_table_holds_what_was_measured_and_where_it_comes_from():
    text = readme_table(report())
    assert "| a\\|b |  |  |  | 40.00 | 10.00 |  |" in text
    assert "CLIP" not in text and "`cmd`, commit abc, m." in text


def test_the_readme_table_sets_the_best_other_system_beside_the_reference():
    made = report()
    cells = made["results"]["a|b"]
    cells["ours"]["segmentation"] = {"pairwise": {"f1": 0.5}}
    cells["cuts"]["segmentation"] = {"pairwise": {"f1": 0.3}}
    cells["replies"] = {"segmentation": {"pairwise": {"f1": 0.6}}}
    assert "| a\\|b | 50.00 / 60.00 replies |" in readme_table(made)


def test_a_report_needs_distinct_names_and_a_known_reference(tmp_path):
    path = tmp_path / "r.toml"
    head = 'name = "r"\nreference = "b"\n[[sets]]\nname = "s"\npath = "{package}/x"\n'
    path.write_text(head + '[[systems]]\nname = "b"\nkind = "bm25"\n')
    config = load_config(path)
    assert config.sets[0].path.endswith("ffr_core/x") and config.sets[0].beside == "MLDR"
    assert config.abilities(config.systems[0]) == ("selection", "recall", "search")
    for other in ("[[systems]]\nname = 'b'\nkind = 'bm25'\n", "name = 'x'\n"):
        with pytest.raises(ConfigError):
            path.write_text(head.replace('"b"', '"none"') + '[[systems]]\nname = "b"\n' + other)
            load_config(path)


def test_shipped_reports_are_valid_and_name_rows_of_the_paper():
    from importlib import resources

    found = sorted((resources.files("jobs") / "configs").glob("*/report*.toml"))
    assert len(found) >= 3
    for path in found:
        config = load_config(path)
        assert isinstance(config, ReportConfig)
        for system in config.systems:
            check_rows(system.paper_row, system.name)
        assert path.read_text().startswith("# python -m jobs.compare --config jobs/configs/")
