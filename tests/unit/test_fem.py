"""FEM: training pairs, mined negatives, steps, the job's resume."""

import json
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from torch import nn

from ffr_core.errors import ConfigError, FfrError, InputError, RecordError
from ffr_core.records import record_from_dialogue
from ffr_core.types import Dialogue, Passage, Query, Selection, Turn
from jobs.fem import loop, losses, sharing
from jobs.fem.config import FemConfig, resolve_paths
from jobs.fem.mining import mine
from jobs.fem.pairs import (
    build_corpus,
    question_answers,
    read_dialogues,
    read_written_pairs,
    split_dialogues,
    window_around,
)
from jobs.fem.steps import Source, StepShape, draw_frozen_step, plan_step
from jobs.train_fem import run, table_of
from jobs.training.logs import series
from jobs.training.session import LocalSession


def dialogue(name, topics):
    """Topics of four turns; the query of topic `cats` is answered by its turn `cats 1?`."""
    turns, fragments, queries = [], [], []
    for number, topic in enumerate(topics):
        first = 4 * number
        fragments.append(tuple(range(first, first + 4)))
        for k in range(4):
            mark = "?" if k in (0, 1) else ""
            speaker = "Ann" if k in (0, 1) else "Bob"
            turns.append(Turn(turn_id=first + k, speaker=speaker, text=f"{topic} {k}{mark}"))
        queries.append(
            Query(
                query=f"about {topic}",
                relevance=Selection(utterance_ids=frozenset({first + 1})),
                source_kind="qa",
                fragment_id=number,
            )
        )
    return Dialogue(
        dialogue_id=name, turns=tuple(turns), fragments=tuple(fragments), queries=tuple(queries)
    )


DIALOGUES = [
    dialogue("a", ["cats", "dogs", "rain"]),
    dialogue("b", ["cars", "dogs", "snow"]),
    dialogue("c", ["wine", "cats", "maps"]),
]


def vector(text):
    """A bag of letters."""
    counts = np.array([text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"])
    return (counts / max(1e-6, np.linalg.norm(counts))).astype(np.float32)


def encode(rows):
    return np.stack([vector(row if isinstance(row, str) else row.text) for row in rows])


def source(dialogues=None):
    corpus = build_corpus("toy", DIALOGUES if dialogues is None else dialogues)
    return Source(
        corpus=corpus,
        mined=mine(corpus, "turn", encode, encode, depth=5),
        pairs=question_answers(corpus, {}),
        lengths=[dict.fromkeys(f.turn_ids, 5) for f in corpus.fragments],
        weight=1.0,
    )


def test_queries_that_cannot_be_used_are_counted_with_their_reason():
    first = DIALOGUES[0]
    bad = (
        Query(query="x", relevance=Selection(), source_kind="qa_adversarial"),
        Query(query="y", relevance=Selection(utterance_ids=frozenset({0}))),
        Query(query="z", relevance=Selection(utterance_ids=frozenset({9})), fragment_id=0),
    )
    corpus = build_corpus("toy", [replace(first, queries=(*first.queries, *bad))])
    assert len(corpus.queries) == 3
    assert corpus.left_out == {
        "nothing answers it": 1,
        "no gold fragment": 1,
        "no gold turn in its fragment": 1,
    }


def test_a_pair_is_a_question_and_the_next_turn_of_another_speaker():
    # Turns 0 and 1 are Ann's questions, both answered by turn 2: one answer is no choice.
    assert question_answers(build_corpus("toy", DIALOGUES), {}) == {}
    turns = tuple(
        replace(turn, speaker="AB"[turn.turn_id % 2], text=f"t{turn.turn_id}?")
        for turn in DIALOGUES[0].turns
    )
    found = question_answers(build_corpus("toy", [replace(DIALOGUES[0], turns=turns)]), {})
    assert [(p.question, p.answer.text, p.answer_turn) for p in found[0]] == [
        ("t0?", "B: t1?", 1),
        ("t1?", "A: t2?", 2),
        ("t2?", "B: t3?", 3),
    ]


def test_written_pairs_take_the_place_of_question_marks(tmp_path):
    record = record_from_dialogue(DIALOGUES[0])
    pairs = [
        {"fragment_id": 0, "question": f"q{i}", "answer": f"a{i}", "answer_turns": [i]}
        for i in DIALOGUES[0].fragments[0][:2]
    ]
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({**record, "qa_pairs": pairs}) + "\n")
    corpus = build_corpus("toy", read_dialogues(path, None, 0))
    found = question_answers(corpus, read_written_pairs(path))
    assert [(p.question, p.answer.text, p.answer_turn) for p in found[0]] == [
        (f"q{i}", f"a{i}", i) for i in DIALOGUES[0].fragments[0][:2]
    ]
    assert list(found) == [0]
    path.write_text(json.dumps({**record, "qa_pairs": [{**pairs[0], "answer_turns": [99]}]}))
    with pytest.raises(RecordError, match="answer_turns of that fragment"):
        question_answers(corpus, read_written_pairs(path))


def test_splits_share_no_dialogue_and_depend_on_the_seed_alone():
    many = [replace(DIALOGUES[0], dialogue_id=str(i)) for i in range(20)]
    parts = split_dialogues(many, 0.1, 0.3, seed=4)
    ids = [{d.dialogue_id for d in part} for part in parts]
    assert [len(part) for part in ids] == [12, 2, 6]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])
    assert parts == split_dialogues(many, 0.1, 0.3, seed=4)


def test_a_window_grows_to_both_sides_inside_its_fragment():
    corpus = build_corpus("toy", DIALOGUES[:1])
    lengths = {i: 10 for i in range(4, 8)}
    assert window_around(corpus, 1, 5, lengths, 10) == (5,)
    assert window_around(corpus, 1, 5, lengths, 29) == (4, 5)
    assert window_around(corpus, 1, 5, lengths, 500) == (4, 5, 6, 7)
    assert window_around(corpus, 1, 5, {**lengths, 4: 99}, 30) == (5, 6, 7)


def test_mined_negatives_are_the_best_unit_of_each_wrong_fragment():
    mined = source().mined[0]  # "about cats", dialogue a
    assert mined.positives == ((0, (1,)),)
    assert [fragment for fragment, _ in mined.siblings] in ([1, 2], [2, 1])
    others = [fragment for fragment, _ in mined.others]
    assert sorted(others) == [3, 4, 5, 6, 7] or len(others) == 5
    assert others[0] == 7  # the other dialogue about cats


SHAPE = StepShape(
    queries=6,
    views=("turn", "window"),
    siblings=1,
    others=1,
    pairs=4,
    positive_depth=3,
    negative_depth=5,
    window_tokens=(5, 15),
)


def test_every_row_of_a_step_has_a_positive_of_its_own_view():
    for step in range(20):
        plan = plan_step([source()], SHAPE, 0, step)
        assert len(plan.queries) == 6 and plan.positive_RN.shape[0] == 12
        assert plan.positive_RN.any(axis=1).all()
        assert not (plan.positive_RN & plan.ignored_RN).any()
        # A query about cats may not count a turn of its own fragment without gold as wrong.
        for row, query in enumerate(plan.query_rows_R):
            for column, candidate in enumerate(plan.candidates):
                if plan.positive_RN[row, column]:
                    assert plan.queries[query].removeprefix("about ") in candidate.text


@pytest.mark.parametrize("view", ["turn", "window", "fragment"])
def test_mined_negatives_of_other_dialogues_take_part_in_every_view(view):
    shape = replace(SHAPE, queries=1, views=(view,), siblings=0, others=1, negative_depth=1)
    given = source()
    for step in range(10):
        plan = plan_step([given], shape, 0, step)
        number = next(i for i, q in enumerate(given.corpus.queries) if q.text == plan.queries[0])
        fragment, turn_ids = given.mined[number].others[0]
        _, other = plan.candidates
        assert given.corpus.passage(fragment, turn_ids).text in other.text
        assert plan.positive_RN.tolist() == [[True, False]]
    assert len(plan_step([given], replace(shape, others=0), 0, 0).candidates) == 1


def test_a_step_is_a_function_of_seed_and_number():
    one, again = (plan_step([source()], SHAPE, 0, 3) for _ in range(2))
    assert one.queries == again.queries and one.candidates == again.candidates
    assert one.queries != plan_step([source()], SHAPE, 0, 4).queries


def test_a_frozen_step_names_gold_units_and_answers():
    talk = replace(
        DIALOGUES[0],
        turns=tuple(replace(turn, speaker="AB"[turn.turn_id % 2]) for turn in DIALOGUES[0].turns),
    )
    plan = draw_frozen_step([source([talk])], [], SHAPE, 0, 0)
    assert plan.gold_QU.sum(axis=1).tolist() == [1] * len(plan.queries)
    for query, gold_U in zip(plan.queries, plan.gold_QU, strict=True):
        place = int(gold_U.argmax())
        assert place % 4 == 1 and query == f"about {['cats', 'dogs', 'rain'][place // 4]}"
    for question, (turns, answer) in zip(plan.questions, plan.answers, strict=True):
        asked = next(t.turn_id for t in talk.turns if t.text == question)
        assert turns[answer] == asked + 1


def test_anchor_texts_of_a_step_are_drawn_without_changing_its_queries():
    shape, texts = replace(SHAPE, anchor_texts=3), ["a", "b", "c", "d"]
    plain = draw_frozen_step([source()], [], shape, 0, 1)
    plan = draw_frozen_step([source()], texts, shape, 0, 1)
    assert plain.anchor_texts == [] and plan.queries == plain.queries
    assert len(set(plan.anchor_texts) & set(texts)) == 3
    assert len(draw_frozen_step([source()], texts[:2], shape, 0, 1).anchor_texts) == 2


def test_the_distance_of_an_anchor_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    plain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert losses.mean_distance(vectors, plain).item() == pytest.approx(0.1)
    assert losses.mean_distance(vectors[:0], plain[:0]).item() == 0


class ToyBackbone:
    """Letters through one trained matrix."""

    def __init__(self, config):
        torch.manual_seed(config.seed)
        self.module = nn.Linear(26, 26, bias=False)
        with torch.no_grad():
            self.module.weight.add_(torch.eye(26))
        self.dim = 26

    def lengths(self, rows):
        return [len(row if isinstance(row, str) else row.text) for row in rows]

    def embed(self, rows):
        return nn.functional.normalize(self.module(torch.from_numpy(encode(rows))), dim=-1)

    def plain(self, rows):
        return encode(rows) if rows else np.zeros((0, 26), np.float32)

    def save(self, folder):
        folder.mkdir()
        torch.save(self.module.weight, folder / "weight.pt")


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A configuration on a file of toy dialogues, with the toy backbone."""
    monkeypatch.setattr(loop, "build_backbone", lambda config, device: ToyBackbone(config))
    file = tmp_path / "toy.jsonl"
    lines = [json.dumps(record_from_dialogue(d)) for d in DIALOGUES]
    file.write_text("\n".join(lines), "utf-8")
    return {
        "data": [{"path": str(file), "validation": 0.34}],
        "step": {"queries": 4, "views": ["turn"], "pairs": 0},
        "optimizer": {"learning_rate": 0.01},
        "launch": {"name": "toy", "storage_path": str(tmp_path / "runs"), "num_workers": 0},
        "num_steps": 6,
        "evaluate_every": 2,
    }


class TableBackbone:
    """One-dimensional vectors: 1 for a query, a number by topic for a passage."""

    def __init__(self, **scores):
        self._scores = scores

    def embed(self, rows):
        topics = ["" if isinstance(row, str) else row.text.split()[1] for row in rows]
        return torch.tensor([[self._scores.get(topic, 1.0)] for topic in topics])


def test_ranks_by_hand():
    corpus = build_corpus("toy", DIALOGUES[:1])
    for dogs, ranks in ((0.6, [0, 1, 2]), (0.5, [0, 2, 2]), (0.4, [0, 2, 1]), (0.9, [1, 1, 2])):
        backbone = TableBackbone(cats=0.9, dogs=dogs, rain=0.5)
        assert loop.rank_queries(backbone, corpus, "turn") == ranks


def test_an_encoder_that_tells_nothing_apart_finds_nothing():
    corpus = build_corpus("toy", DIALOGUES)
    assert loop.rank_queries(TableBackbone(), corpus, "turn") == [8] * 9


def test_vectors_that_are_not_finite_are_refused():
    corpus = build_corpus("toy", DIALOGUES)
    with pytest.raises(FfrError, match="2 of 9 passages of toy have a vector that is not finite"):
        loop.rank_queries(TableBackbone(cats=float("nan")), corpus, "fragment")
    frozen = np.ones((9, 1), np.float32)
    frozen[3] = np.inf
    with pytest.raises(FfrError, match="1 of 9 passages"):
        loop.rank_queries(TableBackbone(), corpus, "fragment", frozen)


def losses_of(folder):
    return series(folder / "metrics.csv", "train/loss")


@pytest.mark.parametrize("side", ["both", "queries"])
def test_a_run_that_was_cut_off_ends_like_an_undisturbed_one(toy, monkeypatch, side):
    values = {**toy, "model": {"trained_side": side}}
    (whole,) = run(FemConfig.parse(values, "toy"))
    cut = {**values, "launch": {**toy["launch"], "name": "cut"}}
    made = losses.backpropagate
    calls = []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return made(*arguments)

    monkeypatch.setattr(losses, "backpropagate", dies)
    with pytest.raises(RuntimeError, match="power cut"):
        run(FemConfig.parse(cut, "toy"))
    (resumed,) = run(FemConfig.parse(cut, "toy"))
    assert losses_of(resumed.folder) == losses_of(whole.folder)
    assert len(losses_of(whole.folder)) == 6
    assert (resumed.best / "adapter" / "weight.pt").is_file()


def test_anchor_texts_stay_where_they_are(toy, tmp_path):
    file = tmp_path / "words.jsonl"
    words = Dialogue(dialogue_id="w", turns=(Turn(turn_id=0, speaker="A", text="about cuts"),))
    file.write_text(json.dumps(record_from_dialogue(words)))
    moved = {}
    for weight in (0, 100):
        values = {
            **toy,
            "model": {"trained_side": "queries"},
            "anchor_texts": [str(file)],
            "loss": {"anchor_texts_weight": weight},
            "launch": {**toy["launch"], "name": f"w{weight}"},
        }
        (result,) = run(FemConfig.parse(values, "toy"))
        moved[weight] = series(result.folder / "metrics.csv", "train/texts_anchor")[-1][1]
    assert 0 < moved[100] < moved[0] / 3
    file.write_text(file.read_text().replace("about cuts", " "))
    with pytest.raises(ConfigError, match="no turn with words"):
        run(FemConfig.parse({**values, "launch": {**toy["launch"], "name": "empty"}}, "toy"))


@pytest.mark.parametrize("instant", ["while step 0 is saved", "before the first evaluation"])
def test_step_0_is_reported_once_whenever_a_run_was_cut_off(toy, monkeypatch, instant):
    reported = []
    report = LocalSession.report

    def record(session, step, metrics, save):
        if instant == "while step 0 is saved" and not reported:
            reported.append(None)
            raise RuntimeError("power cut")
        reported.append(step)
        report(session, step, metrics, save)

    def dies(*arguments):
        raise RuntimeError("power cut")

    monkeypatch.setattr(LocalSession, "report", record)
    with monkeypatch.context() as patch:
        patch.setattr(losses, "backpropagate", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            run(FemConfig.parse(toy, "toy"))
    (result,) = run(FemConfig.parse(toy, "toy"))
    assert [step for step in reported if step is not None] == [0, 2, 4, 6]
    logged = [step for step, _ in series(result.folder / "metrics.csv", loop.METRIC)]
    assert logged == [0, 2, 4, 6]


def test_the_loss_falls_and_cached_gradients_change_nothing(toy):
    values = {**toy, "num_steps": 30, "evaluate_every": 30}
    (plain,) = run(FemConfig.parse(values, "toy"))
    cached = {
        **values,
        "cached_gradients": True,
        "tokens_per_pass": 40,
        "launch": {**toy["launch"], "name": "cached"},
    }
    (other,) = run(FemConfig.parse(cached, "toy"))
    left, right = losses_of(plain.folder), losses_of(other.folder)
    assert np.allclose([v for _, v in left], [v for _, v in right], rtol=1e-3)
    assert np.mean([v for _, v in left[-5:]]) < 0.7 * np.mean([v for _, v in left[:5]])


def test_other_settings_do_not_go_on_from_a_checkpoint(toy):
    run(FemConfig.parse({**toy, "num_steps": 2}, "toy"))
    with pytest.raises(ConfigError, match="num_steps"):
        run(FemConfig.parse(toy, "toy"))


def change_turn(record):
    record["turns"][1]["text"] = "something else?"


def change_pairs(record):
    record["qa_pairs"][0]["answer"] = "something else"


@pytest.mark.parametrize("change", [change_turn, change_pairs])
def test_changed_data_does_not_go_on_from_a_checkpoint(toy, change):
    """Queries and dialogue ids stay as they were."""
    file = loop.Path(toy["data"][0]["path"])
    records = [record_from_dialogue(d) for d in DIALOGUES]
    for record in records:
        record["qa_pairs"] = [
            {"fragment_id": 0, "question": f"q{i}", "answer": f"a{i}", "answer_turns": [i]}
            for i in range(2)
        ]
    file.write_text("\n".join(map(json.dumps, records)))
    run(FemConfig.parse(toy, "toy"))
    run(FemConfig.parse(toy, "toy"))
    for record in records:
        change(record)
    file.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(ConfigError, match="started with data"):
        run(FemConfig.parse(toy, "toy"))


def test_a_sweep_makes_one_run_for_each_combination(toy):
    values = {**toy, "sweep": {"contrastive_temperature": [0.02, 0.05], "intra_weight": [0, 1]}}
    names = [single.launch.name for single in FemConfig.parse(values, "toy").runs()]
    assert names == ["toy-t0.02-l0", "toy-t0.02-l1", "toy-t0.05-l0", "toy-t0.05-l1"]
    seeds = FemConfig.parse({**toy, "sweep": {"seed": [3, 4]}}, "toy").runs()
    assert [(single.launch.name, single.seed) for single in seeds] == [
        ("toy-t0.02-l0.5-s3", 3),
        ("toy-t0.02-l0.5-s4", 4),
    ]


def test_a_sweep_over_seeds_leaves_a_table_of_the_held_out_side(toy, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(loop.Path(toy["data"][0]["path"]).read_text())
    values = {**toy, "num_steps": 1, "sweep": {"seed": [0, 1]}, "held_out": [str(held_out)]}
    config = FemConfig.parse(values, "toy")
    results = run(config)
    lines = table_of(config, results).read_text().splitlines()
    assert lines[0].startswith("| held-out | Recall@1 | Recall@5 |")
    zero, trained = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert (zero[0], zero[-1]) == ("zero-shot", "2")
    assert (trained[0], trained[-1]) == ("temperature 0.02, lambda 0.5", "2")
    values = [100 * result.best_metrics["held_out/recall@1"] for result in results]
    assert trained[1] == f"{mean(values):.1f} ± {stdev(values):.1f}"


def test_of_a_held_out_set_a_sample_can_be_scored(toy, tmp_path, monkeypatch):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(loop.Path(toy["data"][0]["path"]).read_text())
    sizes, build = {}, loop.build_corpus

    def record(name, dialogues):
        sizes[name] = len(dialogues)
        return build(name, dialogues)

    monkeypatch.setattr(loop, "build_corpus", record)
    values = {**toy, "num_steps": 1, "held_out": [str(held_out)], "max_held_out_dialogues": 2}
    run(FemConfig.parse(values, "toy"))
    assert sizes["held_out.jsonl"] == 2


def test_the_table_says_which_runs_of_a_sweep_are_not_finished(toy):
    launch = {**toy["launch"], "stop_after_minutes": 1e-9}
    values = {**toy, "launch": launch, "num_steps": 2, "sweep": {"intra_weight": [0, 1]}}
    config = FemConfig.parse(values, "toy")
    table = table_of(config, run(config)).read_text()
    assert "| temperature 0.02, lambda 1, stopped at step 1 of 2 |" in table
    table = table_of(config, run(config)).read_text()
    assert "stopped" not in table and "| temperature 0.02, lambda 1 |" in table


def test_a_file_that_is_missing_is_named_before_anything_is_trained(toy):
    for values in (
        {"data": [{"path": "gone.jsonl"}]},
        {"held_out": ["gone.jsonl"]},
        {"model": {"trained_side": "queries"}, "anchor_texts": ["gone.jsonl"]},
    ):
        with pytest.raises(ConfigError, match=r"no corpus file gone\.jsonl"):
            run(FemConfig.parse({**toy, **values}, "toy"))


def test_minilm_has_defaults_of_its_own(toy):
    model = FemConfig.parse({**toy, "model": {"kind": "minilm"}}, "toy").model
    assert (model.first_layer, model.max_tokens) == (4, 256)
    model = FemConfig.parse({**toy, "model": {"kind": "minilm", "first_layer": 0}}, "toy").model
    assert (model.first_layer, model.max_tokens) == (0, 256)
    assert FemConfig.parse(toy, "toy").model.first_layer == 8


def test_settings_that_do_not_fit_are_refused(toy):
    with pytest.raises(ConfigError, match="needs a path"):
        FemConfig.parse({**toy, "model": {"kind": "qwen2vl"}}, "toy")
    with pytest.raises(ConfigError, match="text encoders only"):
        FemConfig.parse(
            {**toy, "model": {"kind": "qwen2vl", "path": "x", "trained_side": "queries"}}, "toy"
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"trained_side": "queries"}, "loss": {"dims": [7]}}, "dims works with"),
        ({"loss": {"anchor_weight": 1}}, "anchor_weight works with"),
        ({"anchor_texts": ["a.jsonl"]}, "anchor_texts works with"),
        (
            {"model": {"trained_side": "queries"}, "step": {"views": ["turn", "fragment"]}},
            "cannot hold 'fragment'",
        ),
        ({"lora": {"dropout": 0.1}}, "dropout works with"),
        ({"model": {"kind": "qwen2vl", "path": "m"}, "cache": "kept"}, "cache does not work with"),
    ],
)
def test_options_without_effect_are_refused(toy, values, message):
    with pytest.raises(ConfigError, match=message):
        FemConfig.parse({**toy, **values}, "toy")


def test_the_text_encoder_is_not_put_on_a_gpu(toy):
    with pytest.raises(ConfigError, match="'e5' is trained on CPUs, so launch"):
        FemConfig.parse({**toy, "launch": {**toy["launch"], "use_gpu": True}}, "toy")


def test_a_relative_cache_is_that_of_the_command(toy):
    config = FemConfig.parse({**toy, "cache": "kept"}, "toy")
    assert resolve_paths(config).cache == str(loop.Path("kept").resolve())


def test_queries_of_dialogues_without_fragments_are_counted(toy):
    file = loop.Path(toy["data"][0]["path"])
    bare = record_from_dialogue(replace(DIALOGUES[0], dialogue_id="bare", fragments=None))
    file.write_text(f"{file.read_text()}\n{json.dumps(bare)}\n")
    (result,) = run(FemConfig.parse({**toy, "num_steps": 1}, "toy"))
    assert result.value["left_out"] == {"dialogue without gold fragments": 3}
    said = (result.folder / "progress.txt").read_text()
    assert said.startswith("6 training queries, 3 left out: dialogue without gold fragments\n")


def test_a_dialogue_that_occurs_twice_is_refused(toy):
    file = loop.Path(toy["data"][0]["path"])
    file.write_text(f"{file.read_text()}\n{json.dumps(record_from_dialogue(DIALOGUES[1]))}\n")
    with pytest.raises(InputError, match="dialogue 'b' occurs twice"):
        run(FemConfig.parse(toy, "toy"))


def test_a_share_that_leaves_nothing_to_validate_on_is_refused(toy):
    data = [{**toy["data"][0], "validation": 0.1}]
    with pytest.raises(ConfigError, match="no query is left to validate on"):
        run(FemConfig.parse({**toy, "data": data}, "toy"))
    data[0]["validation"] = 0
    (result,) = run(FemConfig.parse({**toy, "data": data, "num_steps": 1}, "toy"))
    assert result.best is None and (result.latest / "adapter" / "weight.pt").is_file()


def test_an_exchanged_model_does_not_go_on_from_a_checkpoint(toy, monkeypatch):
    run(FemConfig.parse(toy, "toy"))
    monkeypatch.setattr(loop, "fingerprint", lambda config: "another")
    with pytest.raises(ConfigError, match="started with model e5, now it is another"):
        run(FemConfig.parse(toy, "toy"))


def test_a_gradient_that_is_not_finite_reaches_neither_weights_nor_checkpoint(toy, monkeypatch):
    made = losses.backpropagate

    def overflows(backbone, rows, loss_of, config):
        loss = made(backbone, rows, loss_of, config)
        backbone.module.weight.grad[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(losses, "backpropagate", overflows)
    config = FemConfig.parse({**toy, "evaluate_every": 1}, "toy")
    with pytest.raises(FfrError, match=r"step 1 has the loss .* and the gradient norm inf; lower"):
        run(config)
    saved = list((resolve_run(config) / "checkpoints").iterdir())
    assert [path.name for path in saved] == ["step-00000000"]


def resolve_run(config):
    return loop.Path(config.launch.storage_path) / config.launch.name


@pytest.mark.parametrize("cached", [False, True])
def test_a_worker_without_rows_takes_part(toy, monkeypatch, cached):
    from jobs.training import distributed

    config = FemConfig.parse({**toy, "cached_gradients": cached}, "toy")
    backbone = ToyBackbone(config)
    backbone.embed = lambda rows: ToyBackbone.embed(backbone, rows) if rows else torch.zeros(0, 26)
    monkeypatch.setattr(distributed, "rank_and_world", lambda: (5, 8))
    loss = losses.backpropagate(backbone, ["a", "b"], lambda table: table.sum(), config)
    assert loss == 0 and backbone.module.weight.grad is None


def test_each_worker_embeds_its_share_and_all_get_the_same(monkeypatch):
    rows, shares = [f"row {i}" for i in range(7)], []

    def numbers(part):
        return np.array([[float(row.split()[1])] for row in part], np.float32).reshape(-1, 1)

    def told(own):
        shares.append(own)
        raise KeyError

    monkeypatch.setattr(sharing, "gather_objects", told)
    for rank in range(3):
        monkeypatch.setattr(sharing, "rank_and_world", lambda rank=rank: (rank, 3))
        with pytest.raises(KeyError):
            sharing.shared_vectors(numbers, rows)
    assert [share[:, 0].tolist() for share in shares] == [[0, 3, 6], [1, 4], [2, 5]]
    monkeypatch.setattr(sharing, "gather_objects", lambda own: shares)
    assert sharing.shared_vectors(numbers, rows)[:, 0].tolist() == list(range(7))
    monkeypatch.undo()
    monkeypatch.setattr(sharing, "CHUNK", 2)
    sizes = []
    sharing.shared_vectors(lambda part: sizes.append(len(part)) or numbers(part), rows)
    assert sizes == [2, 2, 2, 1]
    assert sharing.shared_vectors(numbers, []).shape == (0, 1)


def test_passages_are_read_from_files(toy):
    dialogues = read_dialogues(loop.Path(toy["data"][0]["path"]), 2, 0)
    assert len(dialogues) == 2
    assert isinstance(build_corpus("toy", dialogues).passage(0, (0,)), Passage)


def test_sets_whose_files_share_a_name_are_told_apart():
    paths = ["a/x/d.jsonl", "a/y/d.jsonl", "a/e.jsonl", "d.jsonl", "a/x/d.jsonl"]
    assert loop.set_names(paths) == {
        "a/x/d.jsonl": "x/d.jsonl",
        "a/y/d.jsonl": "y/d.jsonl",
        "a/e.jsonl": "e.jsonl",
        "d.jsonl": "d.jsonl",
    }
