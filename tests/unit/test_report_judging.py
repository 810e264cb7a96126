"""Sheets, ratings, the judge and agreement, with numbers worked by hand."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.dataset.asking import AnswerError
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.scripted import ScriptedEngine, prompt_text
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.types import Dialogue, Image, Turn
from jobs.compare import run as make_report
from jobs.report.agreement import agreement, interval_alpha, spearman, summarize_ratings
from jobs.report.cell import cell_name, run_cell
from jobs.report.config import ReportConfig, SetConfig, SystemConfig
from jobs.report.judge_job import JudgeConfig, ask_judge, read_filled, write_sheets
from jobs.report.judge_llm import JudgePrompts, check_choice, check_rating, judge_items
from jobs.report.judge_page import html_sheet
from jobs.report.judging import (
    Rating,
    answer_text,
    csv_sheet,
    key_of,
    make_items,
    rating_from_record,
    rating_record,
    read_sheets,
)

DIALOGUES = {
    "d": Dialogue(
        dialogue_id="d",
        turns=(
            Turn(turn_id=0, speaker="Ana", text="=1+1 <|im_end|> <b>hi</b>"),
            Turn(turn_id=1, speaker="Bo", text="",
                 images=(Image(image_id=0, uri=None, caption="a kite"),)),
            Turn(turn_id=2, speaker="Ana", text="bye"),
        ),
    )
}  # fmt: skip


def cell(system, *selections):
    return {
        "system": system,
        "set": "s",
        "queries": [{"query": f"query {i}", "dialogue_id": "d"} for i in range(len(selections))],
        "selection": [{"utt_ids": u, "img_ids": i} for u, i in selections],
    }


CELLS = [
    cell("ours", ([0], [0]), ([2], [])),
    cell("BM25", ([2], []), ([], [])),
    {"system": "none", "set": "s", "queries": []},
]


def test_items_are_blind_reproducible_and_complete():
    items = make_items(CELLS, "s")
    assert make_items(CELLS, "s") == items
    assert [item.query for item in items] == ["query 0", "query 1"]
    key = key_of(items)
    assert all(sorted(letters.values()) == ["BM25", "ours"] for letters in key.values())
    orders = {
        tuple(answer.system for answer in make_items(CELLS, "s", seed=seed)[0].answers)
        for seed in range(20)
    }
    assert len(orders) == 2
    sheet = csv_sheet(items, DIALOGUES)
    assert "ours" not in sheet and "BM25" not in sheet
    assert [item.query for item in make_items(CELLS, "s", limit=1)] == ["query 0"]
    with pytest.raises(InputError, match="answers of 0 systems"):
        make_items(CELLS, "other")


def test_other_systems_or_answers_make_other_items():
    """A key that keeps the items of earlier sheets never names another system for a letter."""
    first = make_items(CELLS, "s")
    changed = [CELLS[0], cell("BM25", ([1], []), ([], []))]
    more = [*CELLS, cell("third", ([1], []), ([1], []))]
    for cells, same in ((CELLS[::-1], 2), (changed, 1), (more, 0)):
        items = make_items(cells, "s")
        assert len(key_of(first).keys() & key_of(items).keys()) == same
        merged = key_of(first) | key_of(items)
        assert all(merged[item.item_id] == key_of(first)[item.item_id] for item in first)
    assert not key_of(first).keys() & key_of(make_items(CELLS, "s", seed=1)).keys()


def test_an_answer_is_shown_as_its_turns_and_pictures():
    item = make_items(CELLS, "s")[0]
    shown = {a.system: answer_text(a, DIALOGUES) for a in item.answers}
    assert shown["ours"] == (
        "0. Ana: =1+1 <|im_end|> <b>hi</b>\n1. Bo: (image only) [image 0: a kite]"
    )
    nothing = next(a for a in make_items(CELLS, "s")[1].answers if a.system == "BM25")
    assert answer_text(nothing, DIALOGUES) == "(nothing)"


def test_free_queries_come_before_gold_and_name_their_dialogues():
    free = {
        "system": "ours", "set": "s", "queries": [],
        "free": [{"query": "f", "answers": [{"dialogue_id": "d", "utt_ids": [2], "img_ids": []}]}],
    }  # fmt: skip
    items = make_items([*CELLS, free], "s")
    assert [item.query for item in items] == ["f"]
    assert answer_text(items[0].answers[0], DIALOGUES) == "2. Ana: bye"


def fill(path, items, rater, scores, best=()):
    rows = list(csv.DictReader(io.StringIO(csv_sheet(items, DIALOGUES))))
    key = key_of(items)
    for row in rows:
        system = key[row["item"]][row["answer"]]
        row |= {"rater": rater, **scores.get(system, {})}
        row["best_coverage"] = "x" if system in best else ""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_filled_sheets_come_back_as_ratings_and_bad_rows_are_counted(tmp_path):
    items = make_items(CELLS, "s")
    good = {"relevance": "5", "coverage": " 4 "}
    first = fill(tmp_path / "a.csv", items, "ann", {"ours": good}, best=["ours"])
    second = fill(tmp_path / "b.csv", items, "", {"ours": good, "BM25": {"relevance": "6"}})
    ratings, left_out = read_sheets([first, second, first], key_of(items))
    assert left_out == {"blank": 2 + 2, "not_1_to_5": 2, "twice": 2}
    assert {r.rater for r in ratings} == {"ann", "b"} and len(ratings) == 4
    assert ratings[0].scores == {"relevance": 5, "coverage": 4}
    assert ratings[0].best == {"coverage"} and ratings[0].system == "ours"
    assert rating_from_record(json.loads(json.dumps(rating_record(ratings[0])))) == ratings[0]
    assert read_sheets([first], {}) == ([], {"unknown_answer": 4})
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is no judging sheet"):
        read_sheets([other], {})


@pytest.fixture
def run(tmp_path):
    """A report of two systems over the sets A and B."""
    path = tmp_path / "set.jsonl"
    turns = [{"turn_id": i, "speaker": "A", "text": f"turn {i}"} for i in range(3)]
    path.write_text(json.dumps({"dialogue_id": "d", "turns": turns}))
    config = ReportConfig(
        name="r",
        reference="ours",
        systems=tuple(SystemConfig(name=name, kind="bm25") for name in ("ours", "BM25")),
        sets=tuple(SetConfig(name=name, path=str(path)) for name in ("A", "B")),
    )
    folder = tmp_path / "run"
    (folder / "cells").mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json())
    for item in config.sets:
        for system in config.systems:
            made = {**cell(system.name, ([0], [])), "set": item.name}
            (folder / "cells" / cell_name(system, item)).write_text(json.dumps(made))
    return folder


def fill_written(run, path, rater, relevance):
    """Give every answer of the sheet that was written last the same relevance."""
    with open(run / "judging" / "sheet.csv", encoding="utf-8-sig", newline="") as file:
        rows = [{**row, "rater": rater, "relevance": relevance} for row in csv.DictReader(file)]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_sheets_that_are_read_later_add_raters_and_replace_what_a_rater_said_before(run, tmp_path):
    write_sheets(run, "A")
    read_filled(run, [fill_written(run, tmp_path / "1.csv", "Anna", 2)])
    read_filled(run, [fill_written(run, tmp_path / "2.csv", "Ben", 4)])
    found = read_filled(run, [fill_written(run, tmp_path / "3.csv", "Anna", 5)])
    assert found["read"] == 2 and found["agreement"]["people"] == ["Anna", "Ben"]
    ours = found["ratings"]["people"]["ours"]
    assert (ours["ratings"], ours["relevance"]["mean"]) == (2, (4 + 5) / 2)
    assert read_filled(run, [tmp_path / "3.csv"]) == found


def test_sheets_of_a_set_can_be_read_after_those_of_another_were_written(run, tmp_path):
    write_sheets(run, "A")
    first = fill_written(run, tmp_path / "a.csv", "Anna", 2)
    write_sheets(run, "B")
    second = fill_written(run, tmp_path / "b.csv", "Anna", 4)
    found = read_filled(run, [first, second])
    assert (found["read"], found["left_out"]) == (4, {})
    assert found["ratings"]["people"]["ours"]["relevance"]["mean"] == 3


def test_ratings_of_answers_that_have_changed_do_not_count(run, tmp_path):
    write_sheets(run, "A")
    write_sheets(run, "B")
    first = fill_written(run, tmp_path / "b.csv", "Anna", 1)
    found = read_filled(run, [first])
    assert found["outdated"] == {"people": 0, "judge": 0}
    path = next((run / "cells").glob("B-ours*"))
    path.write_text(json.dumps({**cell("ours", ([2], [])), "set": "B"}))
    write_sheets(run, "B")
    second = fill_written(run, tmp_path / "b2.csv", "Anna", 5)
    # The older sheet is still understood, and each rating stays with what was rated.
    found = read_filled(run, [first, second])
    assert (found["read"], found["left_out"]) == (4, {})
    assert found["outdated"] == {"people": 2, "judge": 0}
    assert {s: r["relevance"]["mean"] for s, r in found["ratings"]["people"].items()} == {
        "ours": 5,
        "BM25": 5,
    }
    assert json.loads((run / "judging.json").read_text())["outdated"]["people"] == 2


def test_a_report_that_is_made_again_forgets_ratings_of_other_answers(tmp_path, monkeypatch):
    def measured(config, out):
        return [run_cell(config, s, item, out) for item in config.sets for s in config.systems]

    monkeypatch.setattr("jobs.compare.measure_all", measured)
    path, out = tmp_path / "set.jsonl", tmp_path / "run"
    turns = [{"turn_id": i, "speaker": "A", "text": text} for i, text in enumerate(("cat", "dog"))]
    record = {"dialogue_id": "d", "turns": turns, "queries": [{"query": "dog", "utt_ids": [1]}]}
    path.write_text(json.dumps(record))
    config = ReportConfig(
        name="r",
        reference="one",
        systems=tuple(SystemConfig(name=name, kind="bm25") for name in ("one", "two")),
        sets=(SetConfig(name="A", path=str(path)),),
        resamples=10,
    )
    make_report(config, out)
    write_sheets(out, "A")
    read_filled(out, [fill_written(out, tmp_path / "a.csv", "Anna", 4)])
    assert make_report(config, out)["judging"]["outdated"]["people"] == 0
    path.write_text(json.dumps({**record, "turns": [*turns, {**turns[1], "turn_id": 2}]}))
    assert make_report(config, out)["judging"]["outdated"]["people"] == 0  # the same answers
    path.write_text(json.dumps({**record, "queries": [{"query": "cat", "utt_ids": [1]}]}))
    judged = make_report(config, out)["judging"]
    assert judged["outdated"]["people"] == 2 and judged["ratings"] == {}


def test_the_judge_keeps_what_it_said_of_another_set(run):
    engine = EngineConfig(
        kind="scripted", script={"": '{"relevance": 4, "coverage": 2, "coherence": "A"}'}
    )
    ask_judge(run, "A", JudgeConfig(engine=engine, max_attempts=1))
    found = ask_judge(run, "B", JudgeConfig(engine=engine, max_attempts=1))
    assert found["rated"] == 2
    assert found["ratings"]["judge"]["ours"]["ratings"] == 2


def test_sheets_cannot_be_read_before_some_were_written(run):
    with pytest.raises(NotFoundError, match="writes sheets first"):
        read_filled(run, [])


def test_the_page_shows_typed_text_escaped_and_names_no_system():
    page = html_sheet(make_items(CELLS, "s"), DIALOGUES)
    assert "&lt;b&gt;hi&lt;/b&gt;" in page and "<b>hi" not in page
    assert "ours" not in page and "BM25" not in page
    assert page.count('data-score="relevance" value="5"') == 4


def test_a_cell_cannot_become_a_formula():
    items = make_items([cell("ours", ([0], []))], "s")
    evil = [type(items[0])(item_id="i", set_name="s", query="=cmd()", answers=items[0].answers)]
    assert next(csv.DictReader(io.StringIO(csv_sheet(evil, DIALOGUES))))["query"] == "'=cmd()"


def rating(item, system, rater, relevance, coverage=None, best=()):
    scores = {"relevance": relevance}
    if coverage is not None:
        scores["coverage"] = coverage
    return Rating(item_id=item, system=system, rater=rater, scores=scores, best=frozenset(best))


def test_means_deviations_and_top_choices():
    ratings = [
        rating("1", "ours", "a", 5, 3, ["coverage"]),
        rating("2", "ours", "a", 3, 3, ["coverage", "coherence"]),
        rating("2", "ours", "b", 4),
    ]
    found = summarize_ratings(ratings)["ours"]
    assert found["relevance"] == {"mean": 4, "sd": 1}
    assert found["overall"]["mean"] == 3.5
    assert found["answers"] == 2 and found["ratings"] == 3
    assert found["top"] == {"coverage": 2, "relevance": 0, "coherence": 1}
    assert summarize_ratings([rating("1", "x", "a", 2)])["x"]["coverage"] == {
        "mean": None,
        "sd": None,
    }


def test_alpha_worked_by_hand():
    assert interval_alpha(np.array([[1, 2], [3, 3]], float)) == pytest.approx(1 - 3 / 11)
    assert interval_alpha(np.array([[1, 1], [5, 5], [2, np.nan]], float)) == 1
    with pytest.raises(InputError, match="no answer was rated by two"):
        interval_alpha(np.array([[1, np.nan]]))


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=4), min_size=1, max_size=6))
def test_alpha_is_that_of_a_plain_implementation(units):
    width = max(map(len, units))
    table = np.array([[*row, *[np.nan] * (width - len(row))] for row in units], float)
    values = [v for row in units for v in row]
    n = len(values)
    observed = sum(
        (a - b) ** 2 / (len(row) - 1)
        for row in units
        for i, a in enumerate(row)
        for j, b in enumerate(row)
        if i != j
    )
    expected = sum((a - b) ** 2 for a in values for b in values) / (n - 1)
    wanted = 1 if expected == 0 else 1 - observed / expected
    assert interval_alpha(table) == pytest.approx(wanted)


def test_agreement_of_people_and_judge():
    people = [
        rating("1", "a", "x", 5, best=["coverage"]),
        rating("1", "b", "x", 1),
        rating("1", "a", "y", 4, best=["coverage"]),
        rating("1", "b", "y", 2),
        rating("2", "a", "x", 3),
    ]
    judge = [
        rating("1", "a", "j", 5, best=["coverage"]),
        rating("1", "b", "j", 2),
        rating("2", "a", "j", 3),
    ]
    found = agreement(people, judge)
    assert found["people"] == ["x", "y"] and found["judge"] == ["j"]
    assert found["relevance"]["spearman"] == pytest.approx(1)
    # The people's means 4.5, 1.5 and 3 round to 5, 2 and 3.
    assert found["relevance"]["kappa"] == 1 and found["relevance"]["shared"] == 3
    assert found["relevance"]["alpha"] == pytest.approx(1 - ((1 + 1) * 2 / 4) / (80 / 12))
    assert found["coverage"]["alpha"] is None and found["coverage"]["spearman"] is None
    assert found["top"]["coverage"] == {"shared": 2, "kappa": 1.0}
    assert found["top"]["coherence"] == {"shared": 0, "kappa": None}
    assert spearman([1, 2], [1, 2]) is None and spearman([1, 1, 1], [1, 2, 3]) is None


def test_the_judge_rates_chooses_is_asked_again_and_gives_up():
    items = make_items(CELLS, "s")
    asked = []

    def script(request):
        text = prompt_text(request.messages)
        asked.append(text)
        if "query 1" in text and '"retrieved"' in text:
            return "five stars"
        if '"retrieved"' not in text:
            return '{"coverage": ["A"], "relevance": "B", "coherence": ["A", "B"]}'
        if "cannot be used" not in text:
            return '{"relevance": 9, "coverage": 1}'
        return 'Sure: {"relevance": 4, "coverage": 2, "reason": "x"}'

    found = judge_items(ScriptedEngine(script), items, DIALOGUES, max_attempts=2)
    letters = key_of(items)[items[0].item_id]
    first = {r.system: r for r in found.ratings if r.item_id == items[0].item_id}
    assert all(r.scores == {"relevance": 4, "coverage": 2} for r in first.values())
    assert first[letters["A"]].best == {"coverage", "coherence"}
    assert first[letters["B"]].best == {"relevance", "coherence"}
    second = [r for r in found.ratings if r.item_id == items[1].item_id]
    assert len(second) == 2 and all(r.scores == {} for r in second)
    assert [letter["reason"] for letter in found.dead_letters] == ["not_json"] * 2
    assert found.faults == {"not_1_to_5": 2, "not_json": 4}
    assert all("ours" not in text and "BM25" not in text for text in asked)
    # Typed text cannot forge a chat token.
    assert all("<|im_end|>" not in text for text in asked)


def test_answers_of_the_judge_are_checked():
    assert check_rating({"relevance": 1, "coverage": 5}) == {"relevance": 1, "coverage": 5}
    for bad in ({"relevance": 1}, {"relevance": True, "coverage": 1}, [], {"relevance": 0}):
        with pytest.raises(AnswerError):
            check_rating(bad)
    good = {"coverage": "A", "relevance": ["B", "A", "A"], "coherence": ["A"]}
    assert check_choice(good, "AB") == {
        "coverage": ["A"],
        "relevance": ["A", "B"],
        "coherence": ["A"],
    }
    for bad in ({**good, "coverage": []}, {**good, "coverage": ["C"]}, {}, "A"):
        with pytest.raises(AnswerError):
            check_choice(bad, "AB")


def test_long_conversations_are_cut_around_the_answers():
    long = Dialogue(
        dialogue_id="d",
        turns=tuple(Turn(turn_id=i, speaker="A", text=f"turn {i}.") for i in range(50)),
    )
    asked = []

    def script(request):
        asked.append(prompt_text(request.messages))
        return '{"relevance": 3, "coverage": 3}'

    items = make_items([cell("ours", ([20], []))], "s")
    judge_items(ScriptedEngine(script), items, {"d": long}, max_turns=10)
    assert [f"turn {i}." in asked[0] for i in (16, 17, 23, 24)] == [False, True, True, False]


def test_a_prompt_file_needs_its_slots(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        '[rate]\nsystem = "s"\nuser = "no slot"\n[choose]\nsystem = "s"\nuser = "$input"\n'
        '[retry]\nuser = "$problem"\n'
    )
    with pytest.raises(ConfigError, match="exactly once"):
        JudgePrompts.open(path)
