"""Adapter versions, routing by fragment, deadlines and cancellation, without Ray and models."""

import asyncio
import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError

from ffr_core.engine.lazy import engine_died
from ffr_core.errors import BusyError, ConfigError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message
from ffr_core.markup import render_selection
from ffr_core.parts import build_payloads
from ffr_core.profile import Profile, load_profile
from ffr_core.storage import open_storage
from ffr_core.types import Candidate, Dialogue, Fragment, Selection, Turn
from serve.adapters import LoadedVersions
from serve.deployments import build_application
from serve.engine_worker import EngineLocalizer
from serve.problems import Problem
from serve.remote import RemoteLocalizer
from serve.remote_engine import RemoteEngine
from serve.routing import DialogueRouter, FragmentRouter, fragment_key, ranking
from serve.versions import AdapterVersion, VersionBook, folder_version, profile_version
from serve.workers import Group

BASE = AdapterVersion(name="base")
ONE, TWO, THREE = (AdapterVersion(name=n, path=f"/adapters/{n}") for n in ("one", "two", "three"))
TURNS = tuple(Turn(turn_id=i, speaker="A", text=f"turn {i}") for i in range(6))
TALK = Dialogue(dialogue_id="d", turns=TURNS)
FIRST = render_selection(Selection(utterance_ids=frozenset({0}), image_ids=frozenset()))


class Engine:
    """Answers every request after `delay` seconds, remembers what was loaded and canceled."""

    fingerprint = "slow"

    def __init__(self, delay=0.0, broken=()):
        self.delay, self.broken = delay, broken
        self.log, self.adapters, self.canceled = [], [], 0

    async def generate(self, request):
        self.adapters.append(request.adapter)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        if "fatal" in self.broken:
            raise EngineDeadError
        return Completion(request_id=request.request_id, text=FIRST)

    async def load_adapter(self, name, path):
        await asyncio.sleep(0.01)
        if path in self.broken:
            raise InputError("does nothing")
        self.log.append(f"+{name}")

    async def unload_adapter(self, name):
        self.log.append(f"-{name}")

    async def close(self):
        self.log.append("closed")


def adapter_in(folder, weights=b"1"):
    """A folder that looks like an adapter, as a version."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder_version(str(folder))


class EngineDeadError(Exception):
    """As vLLM's."""


# ---- versions in an engine


def test_versions_are_loaded_once_and_the_one_not_used_makes_room():
    async def work():
        engine = Engine()
        versions = LoadedVersions(engine, BASE, None, check=lambda version: None)
        await asyncio.gather(*(versions.load(ONE) for _ in range(5)))
        assert engine.log == ["+one-1"]
        async with versions.use(ONE) as name:
            assert name == "one-1"
            await versions.load(TWO)
        assert versions.names == ["one", "two"]
        async with versions.use(TWO), versions.use(ONE) as name:
            assert name == "one-1"
            with pytest.raises(BusyError, match="in use"):
                await versions.load(THREE)
        async with versions.use(THREE) as name:
            assert name == "three-3"
        async with versions.use(BASE) as name:
            assert name is None
        assert engine.log == ["+one-1", "+two-2", "-two-2", "+three-3", "-one-1"]

    asyncio.run(work())


def test_a_version_that_cannot_be_loaded_is_tried_again_by_the_next_caller():
    async def work():
        engine = Engine(broken=["/adapters/one"])
        versions = LoadedVersions(engine, BASE, None, check=lambda version: None)
        for _ in range(2):
            with pytest.raises(InputError):
                await versions.load(ONE)
        engine.broken = ()
        await versions.load(ONE)
        assert versions.names == ["base", "one"]

    asyncio.run(work())


def test_a_load_goes_on_when_its_caller_gives_up():
    async def work():
        engine = Engine()
        versions = LoadedVersions(engine, BASE, None, check=lambda version: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await versions.load(ONE)
        await versions.load(ONE)
        assert engine.log == ["+one-1"]

    asyncio.run(work())


# ---- the version in force


def test_every_process_follows_a_switch_until_the_profile_itself_changes(tmp_path):
    async def work():
        now = itertools.count()
        storage = open_storage(str(tmp_path))
        here, there = (VersionBook(storage, ONE, clock=lambda: next(now)) for _ in range(2))
        assert await here.current() == await there.current() == ONE
        assert await here.switch(TWO) == ONE
        assert await here.current() == await there.current() == TWO
        assert await VersionBook(storage, ONE).current() == TWO
        assert await VersionBook(storage, THREE).current() == THREE

    asyncio.run(work())


def test_a_storage_that_fails_keeps_the_version(tmp_path):
    class Failing:
        def read(self, key):
            raise OSError("no network")

    async def work():
        book = VersionBook(open_storage(str(tmp_path)), ONE, fresh=0.0)
        await book.switch(TWO)
        book._storage = Failing()
        assert await book.current() == TWO

    asyncio.run(work())


def test_a_version_is_named_by_its_weights(tmp_path):
    folders = [
        adapter_in(tmp_path / name, weights).name
        for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2"))
    ]
    assert folders[0] == folders[1] != folders[2]
    for nothing in (str(tmp_path), "x" * 4000):
        with pytest.raises(NotFoundError, match="adapter_config"):
            folder_version(nothing)
    assert profile_version(Profile()) is None


# ---- routing


def router(replicas):
    """Names of processes in the order in which a key tries them."""
    return lambda key: [replicas[i] for i in ranking(key, replicas)]


def test_a_fragment_has_its_process_and_a_second_attempt_another():
    keys = [("t", f"payload-{n}", 0) for n in range(400)]
    three, two = router("abc"), router("ab")
    homes = {}
    for key in keys:
        first, second = three(fragment_key(*key)), three(fragment_key(*key, attempt=1))
        assert first[0] != second[0]
        assert sorted(first) == sorted(second) == ["a", "b", "c"]
        assert three(fragment_key(*key)) == first
        homes[key] = first[0]
    shares = [list(homes.values()).count(name) / len(keys) for name in "abc"]
    assert all(0.15 < share < 0.55 for share in shares)
    moved = [key for key in keys if two(fragment_key(*key))[0] != homes[key]]
    assert {homes[key] for key in moved} == {"c"}, "only what the third one read moves"
    assert three("a request without a fragment")


def test_keys_name_nobody_and_do_not_collide():
    keys = {fragment_key(t, p, n) for t in ("a", "ab") for p in ("bc", "c") for n in (0, 1)}
    assert len(keys) == 8
    assert all(len(key) == 34 and int(key[:32], 16) >= 0 for key in keys)


# ---- the worker


def worker_of(tmp_path, engine, timeout=5.0, on_dead=lambda: None):
    profile = Profile.parse(
        {
            "localizer": {"kind": "f2rvlm", "prompts": "compact"},
            "storage": {"uri": str(tmp_path)},
            "serve": {"candidate_timeout": timeout},
        },
        "test",
    )
    name = build_payloads(profile).put(TALK, "t")
    candidates = [
        Candidate(
            dialogue_id="d",
            fragment=Fragment(fragment_id=i, turn_ids=(2 * i, 2 * i + 1)),
            score=1.0,
            payload=name,
        )
        for i in range(3)
    ]
    group = Group(tenant="t", query="q", vector_D=np.ones(2, np.float32), candidates=candidates)
    return EngineLocalizer(engine, profile, on_dead), group


def test_candidates_are_read_together_in_the_ids_of_the_dialogue(tmp_path):
    async def work():
        engine = Engine(delay=0.05)
        worker, group = worker_of(tmp_path, engine)
        found = await worker.localize(group)
        assert [set(each.utterances) for each in found] == [{0}, {2}, {4}]
        await worker.localize(group)
        assert worker.counts == {"first": 3, "repeated": 3, "read": 6}

    asyncio.run(work())


def test_a_late_candidate_is_given_up_and_canceled_in_the_engine(tmp_path):
    async def work():
        engine = Engine(delay=30)
        worker, group = worker_of(tmp_path, engine, timeout=0.7)
        assert await worker.localize(group) == [None] * 3
        assert engine.canceled == len(engine.adapters)
        assert worker.counts["timed_out"] == 3

    asyncio.run(work())


def test_a_caller_that_leaves_cancels_the_engine(tmp_path):
    async def work():
        engine = Engine(delay=30)
        worker, group = worker_of(tmp_path, engine)
        call = asyncio.create_task(worker.localize(group))
        while len(engine.adapters) < 3:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert engine.canceled == worker.counts["canceled"] == 3

    asyncio.run(work())


def test_a_group_is_read_with_the_version_that_it_names(tmp_path):
    async def work():
        engine = Engine()
        worker, group = worker_of(tmp_path, engine)
        one = adapter_in(tmp_path / "one")
        await asyncio.gather(worker.localize(group), worker.localize(replace(group, adapter=one)))
        assert engine.adapters.count(None) == engine.adapters.count(f"{one.name}-1") == 3
        broken = adapter_in(tmp_path / "x", b"2")
        engine.broken = [broken.path]
        assert isinstance(await worker.load_version(broken), InputError)

    asyncio.run(work())


def test_other_weights_under_the_name_of_a_version_are_not_read(tmp_path):
    async def work():
        engine = Engine()
        worker, group = worker_of(tmp_path, engine)
        old = adapter_in(tmp_path / "adapter")
        new = adapter_in(tmp_path / "adapter", b"other")
        assert await worker.localize(replace(group, adapter=old)) == [None] * 3
        assert engine.log == engine.adapters == []
        with pytest.raises(InputError, match="not version"):
            raise await worker.load_version(old)
        assert new.name in await worker.load_version(new)

    asyncio.run(work())


def test_a_roll_over_reads_the_calibration_before_anything_changes(tmp_path):
    path = tmp_path / "calibration.json"

    async def work():
        engine = Engine()
        worker, group = worker_of(tmp_path, engine)
        version = replace(adapter_in(tmp_path / "a"), calibration=str(path))
        for broken in ("{", '{"mood": {"scores": [0, 1], "probabilities": [0, 1]}}'):
            path.write_text(broken)
            with pytest.raises(ConfigError, match="calibration"):
                folder_version(version.path, str(path))
            assert isinstance(await worker.load_version(version), ConfigError)
        assert engine.log == []
        for level in (0.5, 0.25):
            knots = {"scores": [0, 1], "probabilities": [level, level]}
            path.write_text(json.dumps({"utterance": knots}))
            assert folder_version(version.path, str(path)) == version
            assert version.name in await worker.load_version(version)
            [first, *_] = await worker.localize(replace(group, adapter=version))
            assert first.utterances == {0: level}

    asyncio.run(work())


def test_a_dead_engine_is_told_once_it_is_seen(tmp_path):
    async def work():
        told = []
        engine = Engine(broken=["fatal"])
        worker, group = worker_of(tmp_path, engine, on_dead=lambda: told.append(True))
        assert await worker.localize(group) == [None] * 3
        assert told

    asyncio.run(work())
    assert engine_died(ExceptionGroup("two", [ValueError(), EngineDeadError()]))
    assert not engine_died(ValueError("EngineDeadError"))


# ---- the engine of another process


class Pending:
    def __init__(self, answer, seconds=0.0):
        self.answer, self.seconds, self.canceled = answer, seconds, False

    def result(self, timeout_s=None):
        time.sleep(min(self.seconds, timeout_s))
        if self.seconds > timeout_s:
            raise TimeoutError
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cancel(self):
        self.canceled = True
        if isinstance(self.answer, Exception):
            raise self.answer


def test_a_remote_request_that_fails_is_sent_once_more():
    sent = []

    def call(request):
        sent.append(request.request_id)
        lost = request.request_id == "b" and sent.count("b") == 1
        answer = Completion(request_id=request.request_id, text="x")
        return Pending(RuntimeError("gone") if lost else answer)

    message = Message(role="user", parts=("hi",))
    requests = [GenerationRequest(request_id=n, messages=(message,)) for n in "abc"]
    engine = RemoteEngine(call, "far", 5.0)
    assert [answer.request_id for answer in engine.generate(requests)] == ["a", "b", "c"]
    assert sent == ["a", "b", "c", "b"]
    with pytest.raises(RuntimeError):
        RemoteEngine(lambda _: Pending(RuntimeError("gone")), "far", 5.0).generate(requests)


def remote_requests(count):
    message = Message(role="user", parts=("hi",))
    return [GenerationRequest(request_id=str(n), messages=(message,)) for n in range(count)]


def test_remote_requests_share_one_deadline_and_are_canceled_after_it():
    sent = []

    def call(request):
        sent.append(Pending(Completion(request_id="x", text="x"), 0.0 if not sent else 60.0))
        return sent[-1]

    started = time.monotonic()
    with pytest.raises(BusyError, match="did not answer 9 requests within"):
        RemoteEngine(call, "far", 0.2).generate(remote_requests(9))
    assert time.monotonic() - started < 2
    assert [pending.canceled for pending in sent] == [False] + [True] * 8


@pytest.mark.parametrize(
    "error", [BackPressureError(num_queued_requests=9, max_queued_requests=9), BusyError("full")]
)
def test_a_full_boundary_model_is_busy_and_nothing_stays_on_its_way(error):
    sent = []

    def call(request):
        failing = request.request_id == "1"
        sent.append(Pending(error if failing else Completion(request_id="x", text="x")))
        return sent[-1]

    with pytest.raises(BusyError, match="try again"):
        RemoteEngine(call, "far", 5.0).generate(remote_requests(3))
    assert len(sent) == 4 and sent[-1].canceled


class Broadcast:
    """A handle of localizer processes that give these answers."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def broadcast(self, method, version):
        return self

    async def results_async(self, return_exceptions):
        return self.answers


def test_a_roll_over_counts_only_processes_that_loaded_it():
    gone = ActorUnavailableError("away", b"a" * 16)

    def load(*answers):
        return asyncio.run(RemoteLocalizer(Broadcast(*answers), 2, True).load(ONE))

    refused = InputError("does nothing")
    assert load(["one"], gone, refused) == [["one"], refused]
    for error in (TimeoutError(), ReplicaUnavailableError("away"), RuntimeError("failed")):
        with pytest.raises(type(error)):
            load(["one"], error)
    with pytest.raises(Problem, match="no localizer process"):
        load(gone)


# ---- deployments


def parts_of(profile):
    """Ingress, owner, localizer and segmenter (or None) of an application."""
    ingress = build_application(profile, None)._bound_deployment
    owner, localizer = (part._bound_deployment for part in ingress.init_args[3:])
    segmenter = owner.init_args[1]._bound_deployment if len(owner.init_args) > 1 else None
    return ingress, owner, localizer, segmenter


def test_the_paper_profile_has_a_gpu_for_each_model_and_routes_by_fragment(tmp_path):
    _, owner, localizer, segmenter = parts_of(load_profile("paper", tmp_path))
    assert segmenter.name == "Segmenter"
    gpus = [part.ray_actor_options["num_gpus"] for part in (owner, localizer, segmenter)]
    assert gpus == [0.2, 0.8, 1.0]
    config = localizer._deployment_config
    assert config.request_router_config.get_request_router_class() is FragmentRouter
    routing = owner._deployment_config.request_router_config
    assert routing.get_request_router_class() is DialogueRouter
    scaling = config.autoscaling_config
    assert owner._deployment_config.max_ongoing_requests > 2 * 32, "every ingress full of writes"
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 8)
    assert scaling.target_ongoing_requests == 40 < config.max_ongoing_requests
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s) == (10, 600)


def test_the_tiny_profile_shares_one_engine_and_the_laptop_has_none(tmp_path):
    _, _, localizer, segmenter = parts_of(load_profile("tiny", tmp_path))
    assert segmenter.name == localizer.name == "Localizer"
    assert parts_of(load_profile("laptop", tmp_path))[3] is None
