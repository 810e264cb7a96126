"""The tiny profile on vLLM in Ray Serve: one engine, adapters for segmenter and localizer."""

import asyncio
import importlib.util
import time
from dataclasses import replace

import httpx
import pytest

from ffr_core.dataset.synthetic import SynthConfig, write
from ffr_core.engine.build import close_shared_engines
from ffr_core.parts import open_system
from ffr_core.profile import load_profile, profile_path, remember_root
from ffr_core.records import read_jsonl, record_from_dialogue
from serve.app import APP, running
from serve.runtime import free_port

pytestmark = [
    pytest.mark.timeout(420),  # an engine takes minutes to start on a busy machine
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vllm is not installed (extra cpu or gpu)",
    ),
]


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write(SynthConfig(dialogues=3, turns=(6, 9), topics=(2, 2), split="heldout"), folder)
    return folder, list(read_jsonl(folder / "dialogues.jsonl"))


@pytest.fixture(scope="module")
def service(ray_cluster, dialogues, tmp_path_factory):
    """The address of a service that has read the dialogues."""
    from ray import serve

    home = tmp_path_factory.mktemp("home")
    remember_root(home, str(dialogues[0]))
    profile = load_profile("tiny", home)
    assert profile.engine.kind == "vllm"
    try:
        with running(profile, "127.0.0.1", free_port(), None) as url:
            with httpx.Client(base_url=url, timeout=200) as http:
                for dialogue in dialogues[1]:
                    bare = replace(dialogue, fragments=None, queries=None)
                    answer = http.post("/v1/dialogues", json=record_from_dialogue(bare))
                    assert answer.status_code == 201, answer.text
            yield url
    finally:
        serve.shutdown()


def queries(dialogues):
    return [d.queries[0].query for d in dialogues[1]]


def test_answers_are_those_of_the_library_on_another_engine(service, dialogues, tmp_path):
    text = profile_path("tiny").read_text().replace('kind = "vllm"', 'kind = "transformers"')
    (tmp_path / "p.toml").write_text(text)
    home = tmp_path / "home"
    remember_root(home, str(dialogues[0]))
    with open_system(str(tmp_path / "p.toml"), home) as system:
        for dialogue in dialogues[1]:
            system.add(replace(dialogue, fragments=None, queries=None))
        expected = {q: {a.dialogue_id: a for a in system.search(q)} for q in queries(dialogues)}
    close_shared_engines()
    with httpx.Client(base_url=service, timeout=200) as http:
        for query in queries(dialogues):
            found = http.post("/v1/search", json={"query": query, "limit": 50}).json()
            assert found["partial"] is False
            assert {d["dialogue_id"] for d in found["dialogues"]} == set(expected[query])
            for dialogue in found["dialogues"]:
                sure = expected[query][dialogue["dialogue_id"]].localization.utterances
                shown = {t["turn_id"]: t["confidence"] for t in dialogue["turns"] if t["matched"]}
                assert shown == pytest.approx(sure, abs=0.02)


def test_a_caller_that_goes_away_cancels_the_work_of_the_engine(service, dialogues):
    from ray import serve

    def counted(*names):
        states = serve.get_deployment_handle("Localizer", APP).broadcast("state").results()
        return sum(state["counts"].get(name, 0) for state in states for name in names)

    begun, canceled = counted("first", "repeated"), counted("canceled")

    async def leave():
        async with httpx.AsyncClient(base_url=service, timeout=100) as http:
            calls = [
                asyncio.create_task(http.post("/v1/search", json={"query": query}))
                for query in queries(dialogues) * 8
            ]
            while await asyncio.to_thread(counted, "first", "repeated") == begun:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(leave())
    deadline = time.monotonic() + 30
    while counted("canceled") == canceled and time.monotonic() < deadline:
        time.sleep(0.2)
    assert counted("canceled") > canceled
    with httpx.Client(base_url=service, timeout=200) as http:
        answer = http.post("/v1/search", json={"query": queries(dialogues)[0]})
    assert answer.status_code == 200 and answer.json()["partial"] is False
