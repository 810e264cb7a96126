"""SFT on a tiny Qwen2-VL: two Ray Train workers, one killed, against one undisturbed process."""

import json

import pytest

from jobs.training.logs import read_metrics, series


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A random model and a synthetic corpus with pictures."""
    from ffr_core.dataset.synthetic.config import SynthConfig
    from ffr_core.dataset.synthetic.write import write
    from jobs.tiny.architecture import write_random_model

    folder = tmp_path_factory.mktemp("sft")
    write_random_model(folder / "model", seed=0)
    write(SynthConfig(dialogues=8, seed=5, turns=(6, 10), topics=(2, 2)), folder / "data")
    return folder


def configure(corpus, name, **launch):
    from jobs.training.sft_config import SftConfig

    return SftConfig(
        task="localize",
        model=str(corpus / "model"),
        prompts="compact",
        train=(str(corpus / "data" / "dialogues.jsonl"),),
        evaluation=(str(corpus / "data" / "dialogues.jsonl"),),
        max_eval_examples=2,
        max_new_tokens=4,
        dtype="float32",
        keep_encoded=True,
        queries_per_sequence=4,
        auxiliary_loss_weight=0.5,
        eval_every=100,
        checkpoint_every=2,
        num_epochs=2,
        optimizer={"learning_rate": 1e-3},
        batch={"examples_per_step": 4, "tokens_per_microbatch": 1500},
        launch={"name": name, "storage_path": str(corpus / "runs"), **launch},
    )


@pytest.fixture(scope="module")
def alone(corpus):
    """The undisturbed run, in this process."""
    from jobs.train_sft import run

    return run(configure(corpus, "alone", num_workers=0))


@pytest.mark.slow
def test_a_killed_worker_changes_neither_steps_nor_losses(corpus, alone, ray_cluster):
    from jobs.train_sft import train
    from jobs.training.run import launch
    from jobs.training.sft_config import resolve_paths

    assert alone.value["finished"] and alone.value["step"] >= 8
    flag = corpus / "killed"

    def train_and_die(values, session):
        """Rank 1 gets SIGKILL at some instant after step 5, once."""
        import os
        import signal
        import threading
        import time

        def watch():
            while not flag.exists():
                if len(series(session.folder / "metrics.csv", "train/loss")) >= 5:
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.02)

        if session.rank == 1:
            threading.Thread(target=watch, daemon=True).start()
        return train(values, session)

    config = resolve_paths(configure(corpus, "killed-run", num_workers=2, cpus_per_worker=0.5))
    values = config.model_dump(mode="json")
    killed = launch(train_and_die, values, config.launch, "eval/joint_f1")
    assert flag.exists()
    assert killed.value == alone.value
    ours, theirs = (
        dict(series(result.folder / "metrics.csv", "train/loss")) for result in (killed, alone)
    )
    assert ours.keys() == theirs.keys() == set(range(1, alone.value["step"] + 1))
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=1e-4)
    assert theirs[alone.value["step"]] < theirs[1]
    assert killed.metrics == pytest.approx(alone.metrics)
    progress = (killed.folder / "progress.txt").read_text()
    assert progress.count("step 6/") == 2 or progress.count("step 5/") == 2


@pytest.mark.slow
def test_an_error_on_purpose_of_one_worker_ends_all_at_once(corpus, ray_cluster):
    """Rank 0 waits for rank 1 in a collective, which gives up after half an hour."""
    from ffr_core.errors import RecordError
    from jobs.training.run import launch

    settings = configure(corpus, "refused", num_workers=2, cpus_per_worker=0.5).launch

    def refuse(values, session):
        from jobs.training.distributed import gather_objects

        with (corpus / "starts").open("a") as file:
            file.write(str(session.rank))
        if session.rank == 1:
            raise RecordError("bad_json", "this node has no such thing")
        gather_objects(None)

    with pytest.raises(RecordError, match="this node has no such thing"):
        launch(refuse, {}, settings, "f1")
    assert sorted((corpus / "starts").read_text()) == ["0", "1"]


def test_the_checkpoint_says_what_made_it_and_the_adapter_holds_no_vision_key(alone):
    from safetensors import safe_open

    folder = alone.folder
    best = folder / "best"
    assert json.loads((best / "config.json").read_text())["task"] == "localize"
    provenance = json.loads((best / "provenance.json").read_text())
    assert len(provenance["data_hash"]) == 64 and provenance["commit"]
    with safe_open(best / "adapter" / "adapter_model.safetensors", "pt") as weights:
        keys = list(weights.keys())
    assert len(keys) == 28 and all("language_model" in k and "visual" not in k for k in keys)
    names = {name for _, name, _ in read_metrics(folder / "metrics.csv")}
    assert {"train/loss", "train/auxiliary_loss", "eval/joint_f1", "eval/image_mcc"} <= names
    assert (folder / "curves" / "eval.png").exists()


def test_a_finished_run_does_nothing_and_other_settings_are_refused(corpus, alone):
    from ffr_core.errors import ConfigError
    from jobs.train_sft import run

    config = configure(corpus, "alone", num_workers=0)
    before = (alone.folder / "metrics.csv").read_bytes()
    assert run(config).value["finished"]
    assert (alone.folder / "metrics.csv").read_bytes() == before
    with pytest.raises(ConfigError, match="other values of seed"):
        run(config.model_copy(update={"seed": 1}))


def test_a_model_may_be_moved_but_not_exchanged(corpus, alone):
    import shutil

    from ffr_core.errors import ConfigError
    from jobs.tiny.architecture import write_random_model
    from jobs.train_sft import run

    shutil.copytree(corpus / "model", corpus / "moved")
    write_random_model(corpus / "other", seed=1)
    config = configure(corpus, "alone", num_workers=0)
    assert run(config.model_copy(update={"model": str(corpus / "moved")})).value["finished"]
    with pytest.raises(ConfigError, match="started with model"):
        run(config.model_copy(update={"model": str(corpus / "other")}))


def test_a_gradient_that_is_not_finite_reaches_no_weight(corpus, monkeypatch):
    import torch

    from ffr_core.errors import FfrError
    from jobs.train_sft import run
    from jobs.training import sft_loop

    kept = []

    def overflow(parameters, max_norm):
        kept.extend((p, p.detach().clone()) for p in parameters)
        return float("inf")

    monkeypatch.setattr(sft_loop, "clip_gradients", overflow)
    config = configure(corpus, "overflow", num_workers=0)
    with pytest.raises(FfrError, match=r"step 1 has the loss .* gradient norm inf; lower"):
        run(config.model_copy(update={"evaluation": ()}))
    assert kept and all(torch.equal(now, before) for now, before in kept)
    assert not (corpus / "runs" / "overflow" / "checkpoints").exists()


def test_evaluation_files_without_an_example_are_refused(corpus):
    from ffr_core.errors import ConfigError
    from jobs.train_sft import run

    records = (corpus / "data" / "dialogues.jsonl").read_text().splitlines()
    silent = corpus / "data" / "silent.jsonl"
    silent.write_text(json.dumps({**json.loads(records[0]), "queries": []}) + "\n")
    config = configure(corpus, "silent", num_workers=0)
    with pytest.raises(ConfigError, match=r"no example of the task 'localize' \(1 no_queries\)"):
        run(config.model_copy(update={"evaluation": (str(silent),)}))


def test_each_rank_draws_its_own_dropout(corpus, monkeypatch):
    import torch

    from jobs.train_sft import train
    from jobs.training import sft_loop

    monkeypatch.setattr(sft_loop, "prepare", lambda config, session: None)
    values = configure(corpus, "seeds").model_dump(mode="json")
    seeds = []
    for rank in (0, 1):
        session = type("Session", (), {"rank": rank})
        with pytest.raises(AttributeError):
            train(values, session)
        seeds.append(torch.initial_seed())
    assert seeds[0] == 0 != seeds[1]


def test_the_boundary_model_trains_on_clusters(corpus):
    from jobs.train_sft import run

    config = configure(corpus, "segment", num_workers=0).model_copy(
        update={
            "task": "segment",
            "queries_per_sequence": 1,
            "auxiliary_loss_weight": 0.0,
            "num_epochs": 1,
        }
    )
    result = run(config)
    assert result.value["finished"] and result.value["sequences"] == 8
    # No answer of an untrained model is well formed, which counts as one cluster.
    assert 0 < result.best_metrics["eval/pairwise_f1"] < 1
    assert result.best_metrics["eval/b_cubed_recall"] == 1
