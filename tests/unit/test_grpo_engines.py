"""Engine and trainer of GRPO read the same prompts, and the engine holds the policy's adapter."""

import json

import pytest

from ffr_core.adapters import LoraSettings
from ffr_core.engine.vllm import vllm_rank
from ffr_core.errors import ConfigError, FfrError, NotFoundError
from jobs.grpo.config import DifficultyConfig, EngineConfig, GrpoConfig, ModelConfig
from jobs.grpo.engines import open_engine

VLLM = {"kind": "vllm", "actors": 1}


class Opened(Exception):
    """Carries what a part was built with."""


@pytest.fixture
def recorded(monkeypatch):
    """vLLM and the trainer's encoder, which only say what they get."""
    import ffr_core.engine.vllm
    from ffr_core.engine import inputs, loading

    def vllm(path, images, **options):
        raise Opened(options)

    def encoder(processor, images, max_pixels, max_images):
        raise Opened({"max_pixels": max_pixels, "max_images": max_images})

    monkeypatch.setattr(ffr_core.engine.vllm, "VllmEngine", vllm)
    monkeypatch.setattr(inputs, "PromptEncoder", encoder)
    monkeypatch.setattr(loading, "load_processor", lambda path: None)


def options_of(build, *arguments):
    with pytest.raises(Opened) as caught:
        build(*arguments)
    return caught.value.args[0]


@pytest.mark.parametrize("limits", [{}, {"max_images": 20}, {"max_images": 3, "max_pixels": 9999}])
def test_rollouts_and_training_read_the_same_pictures(recorded, tmp_path, limits):
    from jobs.grpo.building import build_updater
    from jobs.grpo.scoring import AnswerStage, EntropyStage

    model, data = {"path": "m", **limits}, {"train": [str(tmp_path / "a.jsonl")]}
    grpo = GrpoConfig(
        launch={"name": "x"}, model=model, data=data, engine=VLLM, rewards={"order_weight": 0.0}
    )
    scoring = DifficultyConfig(out=str(tmp_path), model=model, data=data, engine=VLLM)
    trained = options_of(build_updater, grpo, None, None, 1)
    assert trained["max_images"] == limits.get("max_images", 8)
    for sampled in (
        options_of(open_engine, grpo.model, grpo.engine, grpo.data.train),
        options_of(AnswerStage, scoring),
        options_of(EntropyStage, scoring),
    ):
        assert {name: sampled[name] for name in trained} == trained


def test_vllm_holds_the_cold_starts_adapter(recorded, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 48}))
    engine = EngineConfig(**VLLM)
    warm = ModelConfig(path="m", cold_start=str(tmp_path))
    assert options_of(open_engine, warm, engine, ())["max_lora_rank"] == 64
    bare = ModelConfig(path="m")
    assert options_of(open_engine, bare, engine, (), "cpu", 100)["max_lora_rank"] == 128
    assert "max_lora_rank" not in options_of(open_engine, bare, engine, ())
    with pytest.raises(NotFoundError, match=r"gone/adapter_config\.json"):
        open_engine(ModelConfig(path="m", cold_start="gone"), engine, ())


class FakeRay:
    """Calls actors at once; only the first `places` of them find a place."""

    class exceptions:
        class RayError(Exception): ...

        class RayTaskError(RayError):
            cause = NotFoundError("no model at 'm'; check the path")

    def __init__(self, places):
        self.places, self.killed, self.called = places, [], []

    def remote(self, **resources):
        return lambda cls: self

    def options(self, name):
        fake = self

        class Method:
            def __init__(self, method):
                self.remote = lambda *arguments: (
                    fake.called.append((name, method))
                    or (
                        name,
                        method,
                    )
                )

        return type(
            "Actor",
            (),
            {"remote": lambda self, *a: type("H", (), {"__getattr__": lambda s, m: Method(m)})()},
        )()

    def wait(self, asked, num_returns, timeout):
        return asked[: self.places], asked[self.places :]

    def get(self, pending):
        if any(method == "open" for _, method in pending):
            raise self.exceptions.RayTaskError
        return [None for _ in pending]

    def kill(self, actor):
        self.killed.append(actor)


def pool(monkeypatch, places):
    import sys

    from jobs.grpo.engines import ActorSampler

    fake = FakeRay(places)
    monkeypatch.setitem(sys.modules, "ray", fake)
    engine = EngineConfig(kind="vllm", actors=3, cpus_per_actor=4, gpus_per_actor=1)
    arguments = (ModelConfig(path="m"), engine, ())
    return fake, lambda: ActorSampler(*arguments, pool="p", max_lora_rank=8)


def test_actors_without_a_place_end_the_run_with_a_sentence(monkeypatch):
    fake, build = pool(monkeypatch, 1)
    with pytest.raises(FfrError, match="room for 1 of 3 engine actors with 4 CPUs and 1 GPUs"):
        build()
    assert len(fake.killed) == 3
    assert not any(method == "open" for _, method in fake.called)


def test_an_engine_that_cannot_open_says_why_in_its_own_words(monkeypatch, tmp_path):
    _, build = pool(monkeypatch, 3)
    with pytest.raises(NotFoundError, match=r"^no model at 'm'; check the path$"):
        build().load(tmp_path, "v1")


def test_every_rank_gets_a_bound_that_vllm_knows():
    assert [vllm_rank(rank) for rank in (1, 2, 8, 9, 300, 512)] == [1, 8, 8, 16, 320, 512]
    with pytest.raises(ConfigError, match="up to rank 512, not of rank 600"):
        vllm_rank(600)


@pytest.mark.parametrize(("cold_start", "rank"), [(True, 48), (False, 4)])
def test_a_run_asks_for_the_rank_of_its_policy(monkeypatch, tmp_path, cold_start, rank):
    from jobs.grpo import building, engines

    def sampler(*arguments, **options):
        raise Opened(options)

    monkeypatch.setattr(engines, "open_sampler", sampler)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 48}))
    config = GrpoConfig(
        launch={"name": "x"},
        model={"path": "m", "cold_start": str(tmp_path) if cold_start else None},
        data={"train": []},
        rewards={"order_weight": 0.0},
        lora=LoraSettings(rank=4),
    )

    class Alone:
        rank, world_size, device = 0, 1, "cpu"

    options = options_of(building.build_roller, config, Alone(), (), {}, None, None)
    assert options["max_lora_rank"] == rank
