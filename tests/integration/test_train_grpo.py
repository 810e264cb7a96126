"""Difficulty scoring and GRPO from end to end on a tiny model, with a crash in the middle."""

import json
import os
import random
import signal

import pytest

from ffr_core.errors import ConfigError, InputError
from ffr_core.markup import render_selection
from ffr_core.prompts import Prompts
from ffr_core.records import dialogue_from_record
from ffr_core.types import Selection
from jobs.grpo.config import DifficultyConfig, GrpoConfig
from jobs.grpo.data import load_samples
from jobs.score_difficulty import run as score_difficulty
from jobs.training.logs import series
from jobs.training.run import launch

WORDS = ("look at the red bicycle", "on the beach,", "we meet", "on Saturday", "at the station")


def make_record(number):
    rng = random.Random(number)
    turns = [
        {
            "turn_id": i,
            "speaker": "Ana",
            "text": " ".join(rng.choices(WORDS, k=2)),
            "images": [{"image_id": 0, "uri": f"{number}.png"}] if i == 2 else [],
        }
        for i in range(5)
    ]
    queries = [
        {"query": rng.choice(WORDS), "utt_ids": sorted(rng.sample(range(5), 2)), "img_ids": images}
        for images in ([0], [])
    ]
    return {"dialogue_id": f"d{number}", "turns": turns, "queries": queries}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    import PIL.Image

    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        PIL.Image.new("RGB", (56, 56), (40 * number, 90, 120)).save(folder / f"{number}.png")
    for name, numbers in (("train", range(5)), ("validation", range(5, 6))):
        lines = [json.dumps(make_record(number)) for number in numbers]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model that has learned the answer form, so that rewards differ."""
    import torch

    from ffr_core.engine.inputs import PromptEncoder, collate
    from ffr_core.engine.loading import load_model, load_processor
    from jobs.tiny.architecture import write_random_model

    folder = tmp_path_factory.mktemp("tiny")
    write_random_model(folder, seed=1)
    model = load_model(folder, "float32")
    encoder = PromptEncoder(load_processor(folder), lambda uri: None)
    prompts, rng = Prompts.load("compact"), random.Random(0)
    record = make_record(99)
    for turn in record["turns"]:
        turn["images"] = []
    dialogue = dialogue_from_record({**record, "queries": []})
    messages = prompts.localize(dialogue, "red")
    optimizer = torch.optim.AdamW(model.model.language_model.parameters(), lr=4e-3)
    for _ in range(70):
        chosen = [frozenset(rng.sample(range(5), rng.randint(1, 3))) for _ in range(8)]
        encoded = [
            encoder.encode(messages, render_selection(Selection(utterance_ids=ids)))
            for ids in chosen
        ]
        batch = collate(encoded, encoder.tokenizer.pad_token_id)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        labels[:, : encoded[0].num_prompt_tokens] = -100
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random open_clip model in a folder."""
    import open_clip
    import safetensors.torch
    import torch

    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**config)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def difficulty(tmp_path_factory, tiny, corpus):
    """Scores of the training samples, made by one run."""
    out = tmp_path_factory.mktemp("difficulty")
    config = {
        "out": str(out),
        "model": {"path": str(tiny), "prompts": "compact"},
        "data": {"train": [str(corpus / "train.jsonl")]},
        "engine": {"actors": 0},
        "max_new_tokens": 16,
        "batch": 4,
    }
    return out, DifficultyConfig.parse(config, "test"), score_difficulty


def make_config(tmp_path, tiny, corpus, clip, workers=0, **changes):
    config = {
        "launch": {"name": "grpo", "storage_path": str(tmp_path), "num_workers": workers},
        "model": {"path": str(tiny), "prompts": "compact"},
        "data": {
            "train": [str(corpus / "train.jsonl")],
            "validation": [str(corpus / "validation.jsonl")],
        },
        "rewards": {"clip": str(clip)},
        "rollout": {
            "group_size": 4,
            "groups_per_step": 2,
            "max_new_tokens": 16,
            "oversample": 1.5,
        },
        "policy": {"minibatches": 2},
        "lora": {"rank": 4},
        "optimizer": {"learning_rate": 5e-3, "schedule": "linear"},
        "epochs": 2,
        "max_steps": 4,
        "eval_every": 4,
        "checkpoint_every": 2,
    }
    for name, values in changes.items():
        config[name] = {**config.get(name, {}), **values} if isinstance(values, dict) else values
    return GrpoConfig.parse(config, "test")


def start(config, train=None):
    from jobs.grpo.training import train as plain

    return launch(train or plain, config.model_dump(mode="json"), config.launch, metric="f1")


CURVES = (
    "train/loss",
    "train/kl",
    "train/tokens",
    "train/learning_rate",
    "reward/total",
    "sampling/groups_rolled",
)


def curves(result):
    return {name: dict(series(result.folder / "metrics.csv", name)) for name in CURVES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny, corpus, clip):
    return start(make_config(tmp_path_factory.mktemp("runs"), tiny, corpus, clip))


def test_difficulty_is_scored_and_a_second_run_has_nothing_to_do(difficulty, corpus):
    out, config, run = difficulty
    summary = run(config)
    samples = load_samples(config.data.train)
    assert summary["samples"] == summary["scored_now"] == len(samples) == 10
    records = [json.loads(line) for line in (out / "difficulty.jsonl").read_text().splitlines()]
    assert [record["sample_id"] for record in records] == list(samples)
    assert all(0 <= record["f1"] <= 1 and record["entropy"] > 0 for record in records)
    assert sum(summary["labels"]["script"].values()) == 10
    assert (out / "difficulty.png").stat().st_size > 5000

    # As after a kill: some records, and half a line.
    (out / "difficulty.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in records[:7]) + '{"sample_id": "d4'
    )
    again = run(config)
    assert again["scored_now"] == 3
    assert [json.loads(x) for x in (out / "difficulty.jsonl").read_text().splitlines()] == records
    other = config.model_copy(update={"max_new_tokens": 20})
    with pytest.raises(ConfigError, match="other values of max_new_tokens"):
        run(other)


@pytest.mark.slow
def test_actor_pools_score_as_one_process_does(ray_cluster, tmp_path, difficulty):
    out, config, run = difficulty
    run(config)
    pooled = config.model_copy(
        update={
            "out": str(tmp_path),
            "engine": config.engine.model_copy(update={"actors": 1, "cpus_per_actor": 0.5}),
        }
    )
    assert run(pooled)["scored_now"] == 10
    made = [
        {
            record["sample_id"]: record
            for record in map(json.loads, (folder / "difficulty.jsonl").read_text().splitlines())
        }
        for folder in (out, tmp_path)
    ]
    assert made[0].keys() == made[1].keys()
    for sample_id, here in made[0].items():
        there = made[1][sample_id]
        assert there.keys() == here.keys()
        for name, value in here.items():
            known = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            assert there[name] == known


def test_a_run_trains_validates_and_leaves_a_peft_folder(undisturbed):
    names = {
        row.split(",")[1] for row in (undisturbed.folder / "metrics.csv").read_text().splitlines()
    }
    for name in ("total", "f1", "order", "format"):
        assert f"reward/{name}" in names
    for name in ("clipped", "kl", "entropy", "ratio", "gradient_norm"):
        assert f"train/{name}" in names
    assert {"sampling/zero_variance_share", "eval/f1", "eval/image_f1"} <= names
    steps = [step for step, _ in series(undisturbed.folder / "metrics.csv", "train/loss")]
    assert steps == [1, 2, 3, 4]
    assert [step for step, _ in series(undisturbed.folder / "metrics.csv", "eval/f1")] == [0, 4]
    assert max(v for _, v in series(undisturbed.folder / "metrics.csv", "train/kl")) > 1e-6
    assert max(v for _, v in series(undisturbed.folder / "metrics.csv", "train/clipped")) > 0
    adapter = undisturbed.best / "adapter"
    assert (adapter / "adapter_model.safetensors").is_file()
    config = json.loads((undisturbed.best / "config.json").read_text())
    assert config["rollout"]["group_size"] == 4
    assert (undisturbed.folder / "curves" / "reward.png").is_file()


def test_a_crash_in_process_changes_nothing(tmp_path, tiny, corpus, clip, undisturbed, monkeypatch):
    from jobs.grpo.training import GrpoRun

    config = make_config(tmp_path, tiny, corpus, clip)
    update = GrpoRun._update

    def crash(self, filled, done):
        if self.step == 3:
            raise InputError("the power is gone")
        return update(self, filled, done)

    with monkeypatch.context() as patch:
        patch.setattr(GrpoRun, "_update", crash)
        with pytest.raises(InputError, match="power"):
            start(config)
    resumed = start(config)
    for name, curve in curves(undisturbed).items():
        assert curves(resumed)[name] == pytest.approx(curve, rel=1e-4), name


@pytest.mark.parametrize(
    ("name", "message"),
    [("model_fingerprint", "with model"), ("Prompts", "with prompts")],
)
def test_exchanged_files_are_not_gone_on_with(
    tiny, corpus, clip, undisturbed, monkeypatch, name, message
):
    from jobs.grpo import training

    class Other:
        load = staticmethod(lambda path: type("P", (), {"fingerprint": "other"}))

    exchanged = {"model_fingerprint": lambda path: "other", "Prompts": Other}
    monkeypatch.setattr(training, name, exchanged[name])
    with pytest.raises(ConfigError, match=f"was started {message} .* now it is other"):
        start(make_config(undisturbed.folder.parent, tiny, corpus, clip))


def test_a_cold_start_that_is_not_there_is_named_before_a_model_is_loaded(
    tmp_path, tiny, corpus, clip, monkeypatch
):
    from ffr_core.engine import loading
    from ffr_core.errors import NotFoundError

    monkeypatch.setattr(loading, "load_model", None)
    model = {"cold_start": str(tmp_path / "gone")}
    with pytest.raises(NotFoundError, match="gone has no adapter_config"):
        start(make_config(tmp_path, tiny, corpus, clip, model=model))


def test_a_crash_before_the_first_checkpoint_leaves_one_validation_of_step_0(
    tmp_path, tiny, corpus, clip, monkeypatch
):
    from jobs.grpo.training import GrpoRun

    config = make_config(tmp_path, tiny, corpus, clip, max_steps=1)

    def crash(self, filled, done):
        raise InputError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(GrpoRun, "_update", crash)
        with pytest.raises(InputError, match="power"):
            start(config)
    resumed = start(config)
    assert [step for step, _ in series(resumed.folder / "metrics.csv", "eval/f1")] == [0, 1]


@pytest.mark.slow
def test_kill_9_with_two_workers_and_an_engine_actor_changes_nothing(
    ray_cluster, tmp_path, tiny, corpus, clip, undisturbed
):
    marker = str(tmp_path / "killed")

    def train_and_die(values, session):
        from jobs.grpo import training

        update = training.GrpoRun._update

        def die_once(self, filled, done):
            if self.step == 3 and session.rank == 1 and not os.path.exists(marker):
                open(marker, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return update(self, filled, done)

        training.GrpoRun._update = die_once
        return training.train(values, session)

    config = make_config(tmp_path, tiny, corpus, clip, workers=2, engine={"actors": 1})
    result = start(config, train_and_die)
    assert os.path.exists(marker)
    assert result.value["finished"]
    for name, curve in curves(undisturbed).items():
        assert curves(result)[name] == pytest.approx(curve, rel=1e-4, abs=1e-6), name
    assert (result.best / "adapter" / "adapter_model.safetensors").is_file()


def test_the_rate_reaches_its_end_when_dropped_groups_use_up_the_prompts(
    tmp_path, tiny, corpus, clip, monkeypatch
):
    """Every second prompt gives no signal: five of ten groups in steps of two are three steps."""
    from dataclasses import replace

    from jobs.grpo.rolling import Roller
    from jobs.grpo.training import GrpoRun

    roll, fill, begun = Roller.roll, GrpoRun._fill, []

    def half(self, sample_ids, stage, version):
        groups = roll(self, sample_ids, stage, version)
        return [replace(g, rollouts=()) if g.sample_id.endswith("#1") else apart(g) for g in groups]

    def apart(group):
        scored = [
            replace(r, reward=replace(r.reward, total=float(n)))
            for n, r in enumerate(group.rollouts)
        ]
        return replace(group, rollouts=tuple(scored))

    def record(self):
        begun.append((self.order.cursor - len(self.carried)) / len(self.order))
        return fill(self)

    monkeypatch.setattr(Roller, "roll", half)
    monkeypatch.setattr(GrpoRun, "_fill", record)
    changes = {
        "data": {"validation": []},
        "rewards": {"order_weight": 0.0, "clip": None},
        "optimizer": {"warmup_share": 0.0},
        "epochs": 1,
        "max_steps": None,
    }
    result = start(make_config(tmp_path, tiny, corpus, clip, **changes))
    assert result.value["finished"]
    rates = [rate for _, rate in series(result.folder / "metrics.csv", "train/learning_rate")]
    assert rates == pytest.approx([5e-3 * (1 - done) for done in begun[:3]])
    assert rates[0] == 5e-3 and rates[-1] < 0.4 * 5e-3


def test_curriculum_orders_the_stages(tmp_path, tiny, corpus, clip, difficulty):
    out, config, run = difficulty
    run(config)
    changes = {
        "curriculum": {"difficulty": str(out / "difficulty.jsonl"), "labels": "text"},
        "rewards": {"order_weight": 0.0, "clip": None},
        "rollout": {"min_spread": 0.0, "oversample": 1.0},
        "epochs": 1,
        "max_steps": 3,
        "eval_every": 10,
    }
    result = start(make_config(tmp_path, tiny, corpus, clip, **changes))
    lines = (result.folder / "progress.txt").read_text().splitlines()
    stages = [line.split("[")[1].split("]")[0] for line in lines if line.startswith("step 1/")]
    assert stages[0] in ("easy", "medium", "confusing", "hard")
    assert len(series(result.folder / "metrics.csv", "train/loss")) == 3
    # A run does not go on with other scores.
    scores = out / "difficulty.jsonl"
    before = scores.read_text()
    scores.write_text(before.replace('"kind": ', '"kind":  '))
    with pytest.raises(ConfigError, match="started with data"):
        start(make_config(tmp_path, tiny, corpus, clip, **changes))
    scores.write_text(before)
    # Without a file, or with samples that were not scored, the run does not begin.
    short = tmp_path / "short.jsonl"
    short.write_text("".join((out / "difficulty.jsonl").read_text().splitlines(True)[:4]))
    changes["curriculum"] = {"difficulty": str(short)}
    with pytest.raises(InputError, match="no score"):
        start(make_config(tmp_path / "b", tiny, corpus, clip, **changes))
