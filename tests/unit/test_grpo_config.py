"""Shipped TOML files of difficulty scoring, GRPO and ablations, and what they are made of."""

import json
from pathlib import Path

import pytest

from ffr_core.config import read_toml
from ffr_core.curriculum import SCRIPT_CURRICULUM, Difficulty
from ffr_core.errors import ConfigError, FfrError, InputError, NotFoundError
from ffr_core.rewards import PAPER_REWARDS, Reward, RewardSettings
from ffr_core.rollout import Group, Rollout
from jobs.ablate import AblationConfig, merge, render, slug, split_corpora
from jobs.ablate import run as ablate
from jobs.grpo.carrying import from_json, to_json
from jobs.grpo.config import (
    FREE_KEYS,
    CurriculumConfig,
    DifficultyConfig,
    GrpoConfig,
    resolve_paths,
)
from jobs.grpo.data import in_sft_share, load_samples, make_sampler
from jobs.training.config import check_same_run
from jobs.training.run import LaunchResult
from jobs.training.sft_config import SftConfig

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


def load(name):
    return GrpoConfig.load(CONFIGS / name)


@pytest.mark.parametrize("name", ["paper/grpo.toml", "paper/grpo_multinode.toml"])
def test_the_papers_settings(name):
    config = load(name)
    assert config.rewards.settings() == PAPER_REWARDS
    rollout, policy = config.rollout, config.policy
    assert (rollout.group_size, rollout.sampling_temperature, rollout.top_p) == (8, 1.0, 0.85)
    assert rollout.max_new_tokens == 1024
    assert (policy.clip_low, policy.clip_high, policy.beta) == (0.2, 0.28, 0.02)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_share) == (2e-6, 0.03)
    assert (config.model.max_images, config.model.max_pixels) == (8, 602_112)
    assert config.epochs == 1
    made, script = config.curriculum.settings(), SCRIPT_CURRICULUM
    assert [made.fractions.get(d, 1.0) for d in Difficulty] == [
        script.fractions.get(d, 1.0) for d in Difficulty
    ]
    assert (made.labels, made.drop_empty_gold) == (script.labels, script.drop_empty_gold)


def test_defaults_are_our_preset():
    config = load("tiny/grpo.toml")
    assert config.rewards.settings() == RewardSettings(order_weight=0.0)
    assert config.rollout.top_p == 1.0


@pytest.mark.parametrize("name", ["paper/difficulty.toml", "tiny/difficulty.toml"])
def test_difficulty_files_name_their_command(name):
    config = DifficultyConfig.load(CONFIGS / name)
    assert config.model.cold_start.endswith(("best/adapter", "f2rvlm-sft"))
    first = (CONFIGS / name).read_text().splitlines()[0]
    assert first == f"# python -m jobs.score_difficulty --config jobs/configs/{name}"


@pytest.mark.parametrize("size", ["paper", "tiny"])
@pytest.mark.parametrize("table", ["curriculum", "table6", "table7"])
def test_every_ablation_row_is_a_valid_run(size, table):
    path = CONFIGS / size / "ablations" / f"{table}.toml"
    if not path.is_file():
        pytest.skip("the paper has no such table")
    assert f"# python -m jobs.ablate --config jobs/configs/{size}/ablations/{table}.toml" in (
        path.read_text().splitlines()
    )
    config = AblationConfig.load(path)
    base = merge(read_toml(path.parent / config.grpo), config.changes)
    rows = [GrpoConfig.parse(merge(base, row.changes), row.name) for row in config.rows]
    assert len({slug(row.name) for row in config.rows}) == len(rows)
    if table == "table6":
        made = [
            (r.rewards.accuracy, r.rewards.order_weight > 0, bool(r.curriculum.difficulty))
            for r, row in zip(rows, config.rows, strict=True)
            if row.grpo
        ]
        assert made == [
            ("exact", False, True),
            ("f1", False, True),
            ("f1", True, False),
            ("f1", True, True),
        ]
    elif table == "table7":
        assert [row.sft_share for row in config.rows] == [1.0, 0.001, 0.05, 0.1, 0.25, 0.5]
    if config.sft is not None:
        values = merge(read_toml(path.parent / config.sft), config.sft_changes)
        assert SftConfig.parse(values, "sft").model == rows[0].model.path
    else:
        assert not any(row.sft_share for row in config.rows)


def test_a_held_out_file_that_is_missing_is_named_before_anything_is_trained(tmp_path):
    path = CONFIGS / "tiny/ablations/curriculum.toml"
    values = {**read_toml(path), "out": str(tmp_path), "held_out": ["gone.jsonl"]}
    with pytest.raises(ConfigError, match=r"no corpus file gone\.jsonl"):
        ablate(AblationConfig.parse(values, "test"), path.parent)


def test_the_order_reward_needs_a_clip_model():
    values = merge(read_toml(CONFIGS / "tiny/grpo.toml"), {"rewards": {"order_weight": 1.0}})
    with pytest.raises(ConfigError, match="order reward needs clip"):
        GrpoConfig.parse(values, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": {"kind": "vllm"}}, "'vllm' needs engine.actors of 1 or more"),
        (
            {"engine": {"kind": "vllm", "actors": 1}, "launch": {"use_gpu": True}},
            "gpus_per_actor is 0: with launch.use_gpu",
        ),
        (
            {
                "engine": {
                    "kind": "vllm",
                    "actors": 1,
                    "gpus_per_actor": 1,
                    "tensor_parallel_size": 2,
                }
            },
            "tensor_parallel_size 2 and gpus_per_actor 1: an actor needs all GPUs",
        ),
        (
            {"engine": {"kind": "vllm", "actors": 2, "gpus_per_actor": 0.5}},
            "gpu_memory_utilization 0.9 and gpus_per_actor 0.5: engines that share",
        ),
    ],
)
def test_engines_that_could_not_start_are_refused(changes, message):
    values = merge(read_toml(CONFIGS / "tiny/grpo.toml"), {"launch": {"num_workers": 1}})
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        GrpoConfig.parse(merge(values, changes), "test")
    half = {"kind": "vllm", "actors": 2, "gpus_per_actor": 0.5, "gpu_memory_utilization": 0.45}
    assert GrpoConfig.parse(merge(values, {"engine": half}), "test").engine.actors == 2


def test_rows_that_would_share_their_results_are_refused():
    rows = [{"name": "F1, no order"}, {"name": "F1 no order"}]
    with pytest.raises(ConfigError, match="'F1, no order' and 'F1 no order' would share"):
        AblationConfig.parse({"out": "o", "grpo": "g.toml", "rows": rows}, "test")


def test_finished_rows_are_not_mixed_with_those_of_other_settings(tmp_path, monkeypatch):
    from jobs import ablate as module

    scores = dict.fromkeys(("f1", "mcc", "utterance_f1", "image_f1"), 0.5)
    made = []
    monkeypatch.setattr(module, "_run_row", lambda *arguments: made.append(1) or scores)
    (tmp_path / "g.toml").write_text("epochs = 1\n")
    values = {"out": str(tmp_path / "out"), "grpo": "g.toml", "rows": [{"name": "a"}]}

    def start(**changes):
        return ablate(AblationConfig.parse({**values, **changes}, "test"), tmp_path)

    start(seeds=[0])
    start(seeds=[0, 1], rows=[{"name": "a", "paper_f1": 87.0}, {"name": "b"}])
    assert len(made) == 4  # a-0, then a-1, b-0 and b-1
    with pytest.raises(ConfigError, match="'a' was scored with other values of row; restore"):
        start(rows=[{"name": "a", "changes": {"epochs": 2}}])
    (tmp_path / "g.toml").write_text("epochs = 3\n")
    with pytest.raises(ConfigError, match=r"other values of grpo;.*a-0\.json"):
        start()


def test_a_row_without_a_validated_checkpoint_is_no_result(tmp_path, monkeypatch):
    ended = LaunchResult(
        folder=tmp_path, latest=None, best=None, metrics={}, best_metrics={},
        value={"finished": True},
    )  # fmt: skip
    monkeypatch.setattr("jobs.train_grpo.run", lambda config: ended)
    values = {"out": str(tmp_path), "grpo": "grpo.toml", "rows": [{"name": "a"}], "seeds": [0]}
    with pytest.raises(FfrError, match=r"run a-0 has no best checkpoint; .*data\.validation"):
        ablate(AblationConfig.parse(values, "test"), CONFIGS / "tiny")
    assert not (tmp_path / "results").exists()


def test_resuming_with_other_settings_is_refused(tmp_path):
    config = load("tiny/grpo.toml").model_dump(mode="json")
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_same_run(merge(config, {"launch": {"num_workers": 2}}), tmp_path, FREE_KEYS)
    with pytest.raises(ConfigError, match="other values of rollout;"):
        check_same_run(merge(config, {"rollout": {"group_size": 4}}), tmp_path, FREE_KEYS)


def write_corpus(path, ids):
    records = [
        {
            "dialogue_id": i,
            "turns": [{"turn_id": 0, "speaker": "A", "text": "hi", "images": []}],
            "queries": [{"query": "q", "utt_ids": [0], "img_ids": []}] * 2,
        }
        for i in ids
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_samples_are_named_and_shares_divide_dialogues(tmp_path):
    file = write_corpus(tmp_path / "a.jsonl", [f"d{i}" for i in range(200)])
    samples = load_samples([file])
    assert list(samples)[:3] == ["d0#0", "d0#1", "d1#0"]
    left = {s.dialogue.dialogue_id for s in load_samples([file], sft_share=0.25).values()}
    assert 0.65 < len(left) / 200 < 0.85
    assert all(not in_sft_share(i, 0.25) for i in left)
    # The larger share holds the smaller one.
    assert all(in_sft_share(f"d{i}", 0.5) for i in range(200) if in_sft_share(f"d{i}", 0.25))
    sft, rft = split_corpora([file], 0.25, tmp_path / "split")
    assert {s.dialogue.dialogue_id for s in load_samples([str(rft)]).values()} == left
    assert len(load_samples([str(sft)])) + len(load_samples([str(rft)])) == 400
    assert len(load_samples([file], limit=5)) == 5
    with pytest.raises(InputError, match="occurs twice"):
        load_samples([file, file])
    with pytest.raises(NotFoundError, match="no corpus file"):
        load_samples([str(tmp_path / "b.jsonl")])


def test_sampler_follows_the_difficulty_file(tmp_path):
    ids = [f"d{i}#0" for i in range(8)]
    lines = [
        {"sample_id": i, "f1": 1 - n / 8, "entropy": n / 8, "gold_empty": False}
        for n, i in enumerate(ids)
    ]
    lines[7] = {"sample_id": ids[7], "gold_empty": False, "error": "too long"}
    path = tmp_path / "difficulty.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = CurriculumConfig(difficulty=str(path), labels="text")
    sampler, left_out = make_sampler(ids, config, seed=0, epochs=1)
    assert left_out == {"no_score": 1}
    assert sampler.stage == "easy"
    assert set(sampler.draw(99)) == {f"d{i}#0" for i in range(4)}
    assert sampler.stage == "confusing"
    mixed, _ = make_sampler(ids, config.model_copy(update={"ordered": False}), seed=0, epochs=1)
    assert mixed.stage == "all"
    assert len(mixed) == 7
    with pytest.raises(InputError, match="no score"):
        make_sampler([*ids, "x#0", "y#0"], config, seed=0, epochs=1)
    path.write_text(path.read_text() + '{"sample_id": "d8')
    with pytest.raises(ConfigError, match=r"line 9 is no score .* jobs\.score_difficulty again"):
        make_sampler(ids, config, seed=0, epochs=1)


def test_scores_of_other_settings_or_data_are_not_gone_on_with(tmp_path):
    from jobs.grpo.scoring import ScoreFile

    file = write_corpus(tmp_path / "a.jsonl", ["d0", "d1"])
    config = DifficultyConfig(
        out=str(tmp_path), model={"path": "m", "prompts": "compact"}, data={"train": [file]}
    )

    def open_file(**changes):
        model = config.model.model_copy(update=changes)
        samples = load_samples([file])
        return ScoreFile(tmp_path / "out", config.model_copy(update={"model": model}), samples)

    open_file().append(['{"sample_id": "d0#0"}'])
    assert list(open_file().done) == ["d0#0"]
    for name, value in (("max_images", 2), ("max_pixels", 3136), ("dtype", "float32")):
        with pytest.raises(ConfigError, match=f"other values of {name};"):
            open_file(**{name: value})
    moved = write_corpus(tmp_path / "b.jsonl", ["d0", "d1"])
    samples = load_samples([moved])
    assert list(ScoreFile(tmp_path / "out", config, samples).done) == ["d0#0"]
    Path(file).write_text(Path(file).read_text().replace('"hi"', '"ho"'))
    with pytest.raises(ConfigError, match="other values of samples;"):
        open_file()


def test_an_engine_that_dies_while_scoring_says_why_in_one_sentence(tmp_path, monkeypatch):
    import contextlib

    import ray

    import serve.runtime
    from ffr_core.errors import FfrError
    from jobs.score_difficulty import run

    class Data:
        def map_batches(self, *arguments, **options):
            return self

        def iter_batches(self, **options):
            raise ray.exceptions.RayError("died in __init__\n  File x\nNotFoundError: no model 'm'")

    monkeypatch.setattr(serve.runtime, "ray_session", lambda num_cpus: contextlib.nullcontext())
    monkeypatch.setattr(ray.data, "from_items", lambda *arguments, **options: Data())
    file = write_corpus(tmp_path / "a.jsonl", ["d0"])
    model = {"path": "m", "prompts": "compact"}
    config = DifficultyConfig(out=str(tmp_path / "out"), model=model, data={"train": [file]})
    with pytest.raises(FfrError, match=r"^scoring failed: NotFoundError: no model 'm'; the same"):
        run(config)


def test_carried_groups_survive_json():
    group = Group(
        sample_id="a#0",
        stage="easy",
        policy_version=3,
        rollouts=(
            Rollout(
                text="<|utt_ids_start|>",
                token_ids=(1, 2),
                logprobs=(-0.1, -2.5),
                reward=Reward(total=1.3, f1=1.0, order=0.0, format=1.0),
                finish_reason="length",
            ),
        ),
    )
    assert from_json(json.loads(json.dumps(to_json([group])))) == (group,)


def test_the_table_shows_mean_and_spread_in_percent():
    scores = [dict.fromkeys(("f1", "mcc", "utterance_f1", "image_f1"), v) for v in (0.8, 0.9)]
    rows = [
        {"name": "a", "runs": scores, "paper_f1": 87.0, "paper_mcc": None},
        {"name": "b", "runs": [], "paper_f1": None, "paper_mcc": None},
    ]
    lines = render(rows).splitlines()
    assert lines[2].startswith("| a | 85.00 ± 7.07 | 85.00 ± 7.07 |")
    assert lines[2].endswith("| 2 | 87.00 |  |")
    assert "not run" in lines[3]
    assert slug("100 % SFT") == "100-sft"


def test_an_empty_difficulty_file_stays_empty(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.touch()
    config = GrpoConfig(
        launch={"name": "x"},
        model={"path": "m"},
        data={"train": [str(corpus)]},
        rewards={"order_weight": 0.0},
        curriculum={"difficulty": ""},
    )
    assert resolve_paths(config).curriculum.difficulty == ""
