"""Logs, checkpoints and the local session of a run."""

import json

import pytest

from ffr_core.errors import ConfigError
from jobs.training.config import LaunchConfig
from jobs.training.logs import RunLog, draw_curves, read_metrics, series


def test_a_restarted_run_leaves_the_log_of_an_undisturbed_one(tmp_path):
    for name, starts in (("plain", [(0, 6)]), ("restarted", [(0, 5), (2, 4), (3, 6)])):
        for start, end in starts:
            log = RunLog(tmp_path / name, start)
            for step in range(start, end):
                log.write(step + 1, {"train/loss": 1 / (step + 1), "eval/f1": step / 7})
            if end == 6:
                log.close()
    plain, restarted = (tmp_path / name / "metrics.csv" for name in ("plain", "restarted"))
    assert restarted.read_bytes() == plain.read_bytes()
    assert series(plain, "train/loss") == [(n, 1 / n) for n in range(1, 7)]
    pictures = sorted((tmp_path / "restarted" / "curves").iterdir())
    assert [p.name for p in pictures] == ["eval.png", "train.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert list((tmp_path / "plain" / "tensorboard").iterdir())


def test_a_torn_line_and_nan_do_not_stop_a_run(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,name,value\n1,train/loss,nan\n2,train/loss,0.5\n3,train/l")
    assert [row[0] for row in read_metrics(path)] == [1, 2]
    assert draw_curves(path, tmp_path / "curves") == [tmp_path / "curves" / "train.png"]
    assert read_metrics(tmp_path / "none.csv") == []


def parts(seed):
    import torch

    from jobs.training.config import OptimizerConfig
    from jobs.training.optimization import build_optimizer

    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    model[0].bias.requires_grad = False
    return model, *build_optimizer(model.parameters(), OptimizerConfig(learning_rate=0.1), 8)


def advance(model, optimizer, scheduler, steps):
    import torch

    losses = []
    for _ in range(steps):
        loss = (model(torch.ones(4, 3)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_a_restored_state_goes_on_exactly(tmp_path):
    """Weights, Adam's moments, learning rate and dropout's random numbers."""
    from jobs.training.checkpoints import Cursor, load_state, provenance, random_state, save_state

    model, optimizer, scheduler = parts(0)
    advance(model, optimizer, scheduler, 4)
    save_state(
        tmp_path / "c",
        modules={"model": model},
        optimizer=optimizer,
        scheduler=scheduler,
        cursor=Cursor(step=4, epoch=1, position=2, extra={"stage": "easy"}),
        random_states=[random_state()],
        provenance=provenance({"seed": 0}, "abc", "one"),
    )
    expected = advance(model, optimizer, scheduler, 4)
    again = parts(0)
    cursor = load_state(
        tmp_path / "c",
        modules={"model": again[0]},
        optimizer=again[1],
        scheduler=again[2],
        data_hash="abc",
        model="one",
    )
    assert (cursor.step, cursor.epoch, cursor.position, cursor.extra) == (
        4,
        1,
        2,
        {"stage": "easy"},
    )
    assert advance(*again, 4) == expected
    assert json.loads((tmp_path / "c" / "config.json").read_text()) == {"seed": 0}
    assert json.loads((tmp_path / "c" / "provenance.json").read_text())["data_hash"] == "abc"
    arguments = {"modules": {"model": parts(0)[0]}, "optimizer": optimizer, "scheduler": scheduler}
    with pytest.raises(ConfigError, match="started with data"):
        load_state(tmp_path / "c", **arguments, data_hash="other")
    with pytest.raises(ConfigError, match="started with model one, now it is two"):
        load_state(tmp_path / "c", **arguments, model="two")
    arguments["modules"]["model"][0].bias.requires_grad = True
    with pytest.raises(ConfigError, match=r"1 differ, such as '0\.bias'"):
        load_state(tmp_path / "c", **arguments)


def count_to_five(config, session):
    """Scores 1, 3, 2, 0, 1; stops after `config['until']` steps."""
    with session.checkpoint() as folder:
        step = int((folder / "n").read_text()) if folder else 0
    start = step
    while step < min(5, config["until"]):
        step += 1
        metrics = {"f1": (1, 3, 2, 0, 1)[step - 1]} if step != 4 else {}
        session.report(step, metrics, lambda f, n=step: (f / "n").write_text(str(n)))
    return start, step


def test_the_same_command_goes_on_and_the_best_checkpoint_stays(tmp_path):
    from jobs.training.run import launch

    settings = LaunchConfig(
        name="count", storage_path=str(tmp_path), num_workers=0, keep_checkpoints=1
    )
    first = launch(count_to_five, {"until": 3}, settings, "f1")
    assert first.value == (0, 3)
    second = launch(count_to_five, {"until": 9}, settings, "f1")
    assert second.value == (3, 5)
    assert (second.best / "n").read_text() == "2" and second.best_metrics == {"f1": 3}
    assert (second.latest / "n").read_text() == "5" and second.metrics == {"f1": 1}
    kept = sorted(p.name for p in (tmp_path / "count" / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000005"]
    assert launch(count_to_five, {"until": 9}, settings, "f1").value == (5, 5)
    lowest = launch(count_to_five, {"until": 9}, settings, "f1", "min")
    assert (lowest.best / "n").read_text() == "5"


def test_a_checkpoint_that_fails_half_way_is_not_there(tmp_path):
    from jobs.training.run import launch

    settings = LaunchConfig(name="torn", storage_path=str(tmp_path), num_workers=0)
    with pytest.raises(ZeroDivisionError):
        launch(torn, {}, settings, "f1")
    assert launch(count_to_five, {"until": 1}, settings, "f1").value == (0, 1)


def test_a_left_over_of_a_killed_start_goes_and_others_may_read_what_stays(tmp_path):
    from jobs.training.run import launch

    settings = LaunchConfig(name="count", storage_path=str(tmp_path), num_workers=0)
    left = tmp_path / "count" / "checkpoints" / ".new"
    left.mkdir(parents=True)
    (left / "half").touch()
    result = launch(count_to_five, {"until": 1}, settings, "f1")
    plain = tmp_path / "plain"
    plain.mkdir()
    for folder in (result.latest, result.best):
        assert folder.stat().st_mode == plain.stat().st_mode
        assert sorted(p.name for p in folder.iterdir()) == ["metrics.json", "n"]
    assert not left.exists()


def test_an_error_on_purpose_of_any_worker_ends_a_run_as_itself():
    """What a callback raises is an error of the controller, which Ray Train never retries."""
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    from ffr_core.errors import FfrError
    from jobs.training.run import _fit, _refusals

    class Wrapped(Exception):
        _base_exc = ConfigError("no such file")

    class Trainer:
        def __init__(self, error):
            self.error = error

        def fit(self):
            raise self.error

    refusals = _refusals()
    refusals.after_exception(None, {0: RuntimeError("connection reset"), 1: OSError("disk")})
    for error in (ConfigError("no such file"), Wrapped()):
        with pytest.raises(ConfigError, match="no such file"):
            refusals.after_exception(None, {0: RuntimeError("connection reset"), 1: error})
    with pytest.raises(ConfigError, match=r"^no such file$"):
        _fit(Trainer(ControllerError(ConfigError("no such file"))))
    for other in (ControllerError(OSError("disk")), WorkerGroupError("disk", {0: OSError("disk")})):
        with pytest.raises(
            FfrError, match=r"(?s)training failed: .*disk.* the same command resumes"
        ):
            _fit(Trainer(other))


def test_a_bucket_needs_ray():
    with pytest.raises(ValueError, match="'s3://bucket/runs' needs Ray: set num_workers to 1"):
        LaunchConfig(name="x", storage_path="s3://bucket/runs", num_workers=0)


def torn(config, session):
    def save(folder):
        (folder / "n").write_text("7")
        raise ZeroDivisionError

    session.report(7, {"f1": 9}, save)


def test_elastic_bounds_are_checked():
    with pytest.raises(ValueError, match="elastic"):
        LaunchConfig(name="x", num_workers=4, max_workers=2)


def test_the_papers_settings_are_in_the_paper_configs():
    """PAPER.md sections 2 and 3; every SFT file starts with the command that runs it."""
    from importlib import resources

    from jobs.training.sft_config import SftConfig

    configs = resources.files("jobs") / "configs"
    for name, model, task, workers in (
        ("sft_localize", "Qwen/Qwen2-VL-7B-Instruct", "localize", (8, None)),
        ("sft_segment", "Qwen/Qwen2.5-VL-3B-Instruct", "segment", (8, None)),
        ("sft_multinode", "Qwen/Qwen2-VL-7B-Instruct", "localize", (8, 32)),
    ):
        config = SftConfig.load(configs / "paper" / f"{name}.toml")
        assert (config.model, config.task, config.prompts) == (model, task, "paper")
        assert (config.lora.rank, config.lora.alpha, config.num_epochs) == (8, 32, 1)
        assert (config.max_length, config.max_pixels) == (15_536, 602_112)
        assert (config.optimizer.learning_rate, config.optimizer.warmup_share) == (1e-4, 0.05)
        # 8 GPUs x batch 1 x accumulation 4, on any number of nodes.
        assert config.batch.examples_per_step == 32
        assert config.dtype == "bfloat16" and config.launch.use_gpu
        assert (config.launch.num_workers, config.launch.max_workers) == workers
    for path in (*(configs / "paper").glob("sft_*.toml"), *(configs / "tiny").glob("sft_*.toml")):
        SftConfig.load(path)
        opening = path.read_text("utf-8").split("\n\n")[0]
        assert f"jobs/configs/{path.parent.name}/{path.name}" in opening
