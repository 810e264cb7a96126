"""Systems on a small corpus whose right answers are plain."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.scripted import ScriptedEngine, prompt_text
from ffr_core.errors import InputError, NotFoundError
from ffr_core.generation import Completion
from ffr_core.metrics.ranking import rank_of
from ffr_core.types import Image, Selection
from jobs.eval_sets import load_set
from jobs.report.cell import cell_name, measure, run_cell
from jobs.report.config import ReportConfig, SetConfig, SystemConfig
from jobs.report.embedding_systems import EncoderElements, stand_out, vector_system
from jobs.report.fingerprints import fingerprint
from jobs.report.reading import vlm_system
from jobs.report.scoring import summarize_selection
from jobs.report.sets import load_data, query_rows
from jobs.report.simple import bm25, even_lengths
from jobs.report.systems import NotRun, build_system

PROFILE = '[encoder]\nkind = "hashing"\n[index]\nkind = "exact"\n'
TOPICS = {
    "trip": ["which train to the sea", "the train to the sea leaves at nine", "nine is early"],
    "lamp": ["the lamp in the garden is broken", "buy a lamp for the garden", "a green lamp"],
    "invoice": ["the invoice from march is missing", "march invoice found", "send the invoice"],
}


def record(name, topics):
    turns, fragments, queries = [], [], []
    for number, topic in enumerate(topics):
        ids = list(range(len(turns), len(turns) + 3))
        fragments.append(ids)
        turns += [
            {"turn_id": i, "speaker": "Ana", "text": text}
            for i, text in zip(ids, TOPICS[topic], strict=True)
        ]
        queries.append({"query": TOPICS[topic][1], "utt_ids": [ids[1]], "fragment": number})
    return {"dialogue_id": name, "turns": turns, "fragments": fragments, "queries": queries}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "set.jsonl"
    records = [record("one", ["trip", "lamp"]), record("two", ["invoice"])]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return load_data(SetConfig(name="s", path=str(path)))


def test_bm25_finds_the_turn_the_fragment_and_the_place_in_the_corpus(data):
    cell = measure(bm25(1), data, ("selection", "segmentation", "recall", "search"))
    assert [row["utt_ids"] for row in cell["selection"]] == [[1], [4], [1]]
    assert cell["recall"] == {"of": [0, 1, 2], "ranks": [0, 0, 0], "cosines": None}
    assert [(row["tp"], row["fp"], row["fn"]) for row in cell["search"]] == [(1, 0, 0)] * 3
    assert "segmentation" not in cell


def test_vectors_find_the_same_and_give_cosines(data):
    system = vector_system(EncoderElements(encoder=HashingEncoder()), best_turns=1)
    cell = measure(system, data, ("selection", "recall", "search"))
    assert [row["utt_ids"] for row in cell["selection"]] == [[1], [4], [1]]
    assert cell["recall"]["ranks"] == [0, 0, 0]
    assert all(0 < c <= 1 for c in cell["recall"]["cosines"])


def test_even_cuts_use_the_mean_gold_length(data):
    cell = measure(even_lengths(data.gold), data, ("segmentation",))
    assert [row["pairwise"]["f1"] for row in cell["segmentation"]] == [1, 1]


def test_what_stands_out_worked_by_hand():
    query_D = np.array([1.0, 0.0], np.float32)
    cosines = [0.1, 0.1, 0.1, 0.9]
    vectors = {i: np.array([c, np.sqrt(1 - c * c)], np.float32) for i, c in enumerate(cosines)}
    assert stand_out(vectors, query_D, 1.0) == {3}
    assert stand_out({7: query_D}, query_D, 1.0) == {7}
    assert stand_out({}, query_D, 1.0) == set()


@settings(max_examples=60)
@given(st.floats(-0.9, 0.9), st.floats(1e-4, 0.1), st.booleans())
def test_the_higher_of_two_stands_out_and_of_equal_ones_none(low, more, first):
    cosines = [low + more, low] if first else [low, low + more]
    query_D = np.array([1.0, 0.0], np.float32)
    vectors = {i: np.array([c, np.sqrt(1 - c * c)], np.float32) for i, c in enumerate(cosines)}
    assert stand_out(vectors, query_D, 1.0) == {0 if first else 1}
    same = {i: vectors[0] for i in range(3)}
    assert stand_out(same, query_D, 1.0) == stand_out(same, query_D, 0.0) == set()


def test_ties_count_only_before():
    scores_N = np.array([1.0, 2.0, 2.0, 2.0], np.float32)
    assert [rank_of(i, scores_N) for i in range(4)] == [3, 0, 1, 2]


def scripted(answer, **more):
    engine = EngineConfig(kind="scripted", script={"": answer})
    return SystemConfig(name="v", kind="vlm", engine=engine, **more)


def test_a_zero_shot_model_reads_whole_dialogues_and_malformed_answers_are_counted(data):
    form = "<|utt_ids_start|>[1, 9]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
    system = vlm_system(scripted(form), data)
    cell = measure(system, data, ("selection", "search"))
    assert [row["utt_ids"] for row in cell["selection"]] == [[1], [1], [1]]
    # Brute force: every dialogue is read for every query.
    assert [len(row["answers"]) for row in cell["search"]] == [2, 2, 2]
    assert system.counts["windows"] == 3 + 6 and system.counts["unknown_ids"] == 9
    # Ids that do not exist are errors, of a selection and of a search.
    assert [row["unknown_utt"] for row in cell["selection"]] == [1, 1, 1]
    assert summarize_selection({"queries": query_rows(data), **cell}, 10)["micro"]["utterance"][
        "precision"
    ] == pytest.approx(2 / 6)
    assert [(row["tp"], row["fp"], row["unknown"]) for row in cell["search"]] == [
        (1, 3, 2),
        (0, 4, 2),
        (1, 3, 2),
    ]
    broken = vlm_system(scripted("turn one"), data)
    assert measure(broken, data, ("selection",))["selection"][0]["utt_ids"] == []
    assert broken.counts["malformed"] == 3


@pytest.mark.parametrize(("kind", "times"), [("profile", 2), ("brute_force", 1)])
def test_a_timed_search_takes_nothing_from_the_cache(data, tmp_path, monkeypatch, kind, times):
    read = []

    class Noting(HashingEncoder):
        def encode_queries(self, texts):
            read.extend(texts)
            return super().encode_queries(texts)

        def encode_passages(self, passages):
            read.extend(passage.text for passage in passages)
            return super().encode_passages(passages)

    monkeypatch.setattr("jobs.report.reading.build_encoder", lambda config: Noting())
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE)
    system = SystemConfig(name="p", kind=kind, profile=str(path))
    config = report([system], data.config).model_copy(update={"cache": str(tmp_path / "cache")})
    build_system(system, config, data).select(data.asked)
    read.clear()
    queries = [query.query for _, query in data.asked]
    assert len(build_system(system, config, data).search(data.dialogues, queries)) == 3
    # A profile reads a query for recall and for its localizer.
    assert [read.count(query) for query in queries] == [times] * 3
    if kind == "brute_force":
        assert sum(text.startswith("Ana: ") for text in read) == 6 + 3


def test_windows_of_35_turns_are_united(tmp_path):
    turns = [{"turn_id": i, "speaker": "A", "text": f"t{i}"} for i in range(60)]
    query = {"query": "q", "utt_ids": [0]}
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"dialogue_id": "d", "turns": turns, "queries": [query]}))
    long = load_data(SetConfig(name="l", path=str(path)))
    form = "<|utt_ids_start|>[0]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
    windowed = measure(vlm_system(scripted(form, windows=True), long), long, ("selection",))
    assert windowed["selection"][0]["utt_ids"] == [0, 20, 40]
    whole = measure(vlm_system(scripted(form), long), long, ("selection",))
    assert whole["selection"][0]["utt_ids"] == [0]


def test_pictures_are_elements_of_their_own_for_encoders_that_see_them(tmp_path):
    seen = []

    class Seeing(HashingEncoder):
        def encode_passages(self, passages):
            seen.extend(passages)
            return super().encode_passages(passages)

    turns = [
        {"turn_id": 0, "speaker": "A", "text": "look"},
        {"turn_id": 1, "speaker": "A", "text": "",
         "images": [{"image_id": 0, "uri": "a.png", "caption": "a red kite"}]},
    ]  # fmt: skip
    query = {"query": "red kite", "utt_ids": [], "img_ids": [0]}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"dialogue_id": "d", "turns": turns, "queries": [query]}))
    pictured = load_data(SetConfig(name="p", path=str(path)))
    system = vector_system(EncoderElements(encoder=Seeing(), pictures=True))
    row = measure(system, pictured, ("selection",))["selection"][0]
    assert row["img_ids"] == [0]
    assert [p.images for p in seen] == [
        (),
        (Image(image_id=0, uri=str(tmp_path / "a.png"), caption="a red kite"),),
    ]


def test_a_translation_replaces_queries_and_turns_and_counts_what_is_missing(data, tmp_path):
    path = tmp_path / "zh.jsonl"
    rows = [
        {"query_id": "one/0", "query": "火车几点"},
        {"dialogue_id": "two", "position": 0, "query": "发票"},
        {"dialogue_id": "one", "turn_id": 2, "text": "九点太早"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = data.config.model_copy(update={"translation": str(path)})
    translated = load_data(config)
    assert [query.query for _, query in translated.asked] == ["火车几点", "发票"]
    assert translated.left_out == {"no_translation": 1}
    assert translated.dialogues[0].turns[2].text == "九点太早"
    assert translated.asked[1][1].relevance == Selection(utterance_ids=frozenset({1}))
    assert config.beside == "WeChat-en"
    path.write_text('{"query": "no place"}\n')
    with pytest.raises(InputError, match="line 1 is no translation"):
        load_data(config)
    path.write_text('{"query_id": "one/0", "query": "火车"}\n', encoding="gb18030")
    with pytest.raises(InputError, match=r"zh\.jsonl is no UTF-8 text .*; save it as UTF-8"):
        load_data(config)
    path.write_text('{"query_id": "one/0", "query": "火车"}\n', encoding="utf-8-sig")
    assert [query.query for _, query in load_data(config).asked] == ["火车"]


def test_free_queries_are_asked_of_the_corpus_without_gold(data, tmp_path):
    free = tmp_path / "free.txt"
    free.write_text("green lamp\n\nmarch invoice\n")
    asked = load_data(data.config.model_copy(update={"queries": str(free)}))
    cell = measure(bm25(1), asked, ("search",))
    assert [row["query"] for row in cell["free"]] == ["green lamp", "march invoice"]
    assert cell["free"][0]["answers"] == [
        {"dialogue_id": "one", "utt_ids": [5], "img_ids": []},
    ]


def test_queries_are_thinned_out_evenly_and_counted(data):
    thin = load_data(data.config.model_copy(update={"max_queries": 2}))
    assert thin.ids == ["one/0", "one/1"] and thin.left_out == {"max_queries": 1}
    with pytest.raises(NotFoundError, match="correct `path`"):
        load_data(SetConfig(name="x", path="nowhere.jsonl"))


def test_two_dialogues_of_one_id_are_refused_with_both_files(tmp_path):
    for name, topic in (("a", "trip"), ("b", "lamp")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record("one", [topic])) + "\n")
    for read in (lambda p: load_data(SetConfig(name="s", path=str(p))),
                 lambda p: load_set(p, None, False)):  # fmt: skip
        with pytest.raises(InputError, match=r"'one' stands in .*a\.jsonl and again in .*b\.jsonl"):
            read(tmp_path)
        assert len(read(tmp_path / "a.jsonl").dialogues) == 1


@pytest.mark.parametrize(("fragments", "named"), [([[0, 1], []], 1), ([[0, 1]], 4)])
def test_a_gold_fragment_that_is_not_there_is_named(tmp_path, fragments, named):
    gold = record("one", ["trip"])
    gold["fragments"], gold["queries"][0]["fragment"] = fragments, named
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(gold) + "\n")
    for read in (lambda p: load_data(SetConfig(name="s", path=str(p))),
                 lambda p: load_set(p, None, False)):  # fmt: skip
        with pytest.raises(InputError, match=rf"'one'.* names the gold fragment {named},"):
            read(path)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("profile", ("selection", "recall", "search")), ("brute_force", ("selection", "search"))],
)
def test_a_profile_that_reads_pictures_reads_them_for_every_part(
    tmp_path, monkeypatch, kind, parts
):
    turns = [{"turn_id": i, "speaker": "Ana", "text": f"number {i}"} for i in range(6)]
    turns[4] |= {"text": "", "images": [{"image_id": 0, "uri": "p1.png"}]}
    query = {"query": "dentist invoice 42.50", "utt_ids": [], "img_ids": [0], "fragment": 1}
    dialogue = {"dialogue_id": "d", "turns": turns, "fragments": [[0, 1, 2], [3, 4, 5]]}
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({**dialogue, "queries": [query]}) + "\n")
    opened = []
    monkeypatch.setattr(
        "ffr_core.ocr.OcrReader.read",
        lambda self, uri: opened.append(uri) or "dentist invoice total 42.50",
    )
    item = SetConfig(name="s", path=str(path))
    cells = []
    for name, more in (("blind", ""), ("seeing", "[ocr]\nenabled = true\n")):
        (tmp_path / f"{name}.toml").write_text(PROFILE + more)
        system = SystemConfig(
            name=name, kind=kind, profile=str(tmp_path / f"{name}.toml"), parts=parts
        )
        cells.append(run_cell(report([system], item), system, item, tmp_path))
    assert opened == [str(tmp_path / "p1.png")]
    blind, seeing = cells
    assert (blind["selection"][0]["img_ids"], seeing["selection"][0]["img_ids"]) == ([], [0])
    assert seeing["search"][0]["answers"][0]["img_ids"] == [0]
    if kind == "profile":
        assert seeing["recall"]["ranks"] == [0]
        assert seeing["recall"]["cosines"][0] > blind["recall"]["cosines"][0]


def report(systems, item):
    return ReportConfig(
        name="r", reference=systems[0].name, systems=tuple(systems), sets=(item,), resamples=10
    )


def test_a_cell_is_measured_once_and_again_when_its_file_changes(data, tmp_path, monkeypatch):
    system = SystemConfig(name="BM25", kind="bm25")
    config = report([system], data.config)
    first = run_cell(config, system, data.config, tmp_path / "out")
    monkeypatch.setattr("jobs.report.cell.load_data", lambda item: 1 / 0)
    assert run_cell(config, system, data.config, tmp_path / "out") == first
    with open(data.config.path, "a") as file:
        file.write(json.dumps(record("three", ["lamp"])) + "\n")
    with pytest.raises(ZeroDivisionError):
        run_cell(config, system, data.config, tmp_path / "out")
    other = system.model_copy(update={"best_turns": 2})
    assert fingerprint(config, system, data.config) != fingerprint(config, other, data.config)
    assert cell_name(system, data.config) != cell_name(
        system.model_copy(update={"name": "BM-25"}), data.config
    )


def test_what_cannot_run_says_why(data, tmp_path):
    for kind in ("clip", "fem", "vlm"):
        system = SystemConfig(name=kind, kind=kind)
        config = report([system], data.config)
        with pytest.raises(NotRun):
            build_system(system, config, data)
        cell = run_cell(config, system, data.config, tmp_path)
        assert cell["not_run"].startswith(f"system '{kind}' has no") and cell["gold"]
    missing = SystemConfig(name="p", kind="profile", profile="nowhere")
    cell = run_cell(report([missing], data.config), missing, data.config, tmp_path)
    assert "there is no profile 'nowhere'" in cell["not_run"]


def test_a_dead_engine_is_no_measured_system(data, tmp_path, monkeypatch):
    async def at_once(seconds):
        pass

    monkeypatch.setattr("ffr_core.engine.openai.asyncio.sleep", at_once)
    engine = EngineConfig(kind="openai", path="m", url="http://127.0.0.1:9/v1", timeout=1.0)
    system = SystemConfig(name="dead", kind="vlm", engine=engine)
    for thin, reason in ((None, "left 3 requests in a row unanswered"), (1, "none of 1 requests")):
        item = data.config.model_copy(update={"max_queries": thin})
        cell = run_cell(report([system], item), system, item, tmp_path)
        assert reason in cell["not_run"] and "http://127.0.0.1:9/v1" in cell["not_run"]
        assert "selection" not in cell


class Flaky(ScriptedEngine):
    """Answers, but for prompts that hold a word."""

    def __init__(self, word, error):
        form = "<|utt_ids_start|>[1]<|utt_ids_end|>;<|img_ids_start|>[]<|img_ids_end|>"
        super().__init__({"": form})
        self.word, self.error = word, error

    def _answer(self, request):
        found = super()._answer(request)
        if self.word and self.word in prompt_text(request.messages):
            return Completion(
                request_id="",
                text="",
                finish_reason="error",
                error=self.error,
                unanswered="did not answer" in self.error,
            )
        return found


@pytest.mark.parametrize(
    ("error", "counted", "asked"),
    [
        ("http://x/v1 did not answer in 4 attempts, last status 503: busy", "engine_errors", 3),
        ("image 'a.png' cannot be used", "unreadable", 0),
    ],
)
def test_only_a_cell_with_engine_errors_is_measured_again(
    data, tmp_path, monkeypatch, error, counted, asked
):
    engine = Flaky("invoice", error)
    monkeypatch.setattr("ffr_core.engine.build.shared_engine", lambda *_: engine)
    system = scripted("", parts=("selection",))
    config = report([system], data.config)
    first = run_cell(config, system, data.config, tmp_path)
    assert (first["not_run"], first["counts"][counted]) == (None, 1)
    assert [row["utt_ids"] for row in first["selection"]] == [[1], [1], []]
    engine.requests.clear()
    engine.word = ""
    second = run_cell(config, system, data.config, tmp_path)
    assert len(engine.requests) == asked
    assert (second == first) is (asked == 0)


def test_a_system_that_can_read_nothing_says_why(data, tmp_path, monkeypatch):
    engine = Flaky("Ana", "status 401: no such key")
    monkeypatch.setattr("ffr_core.engine.build.shared_engine", lambda *_: engine)
    system = scripted("")
    for part, number in (("selection", 3), ("search", 6)):
        config = system.model_copy(update={"parts": (part,)})
        cell = run_cell(report([config], data.config), config, data.config, tmp_path)
        assert f"none of {number} requests was answered" in cell["not_run"]
        assert "no such key" in cell["not_run"]
