"""The service with a vision-language model: two localizer processes, each with an engine."""

import asyncio
import os
import signal
import time

import httpx
import pytest
import vlm_parts

from ffr_core.engine.build import close_shared_engines
from ffr_core.index.keys import dialogue_key
from ffr_core.parts import open_system
from ffr_core.profile import load_profile
from ffr_core.records import dialogue_from_record
from serve.app import APP, running
from serve.auth import describe_entry, new_key
from serve.routing import WRITE_ROUTER
from serve.runtime import free_port
from serve.versions import folder_version

QUERIES = ["red bicycle on the beach", "we meet on Saturday", "look at the station"]
RECORDS = [vlm_parts.record(f"talk-{n}") for n in range(6)]


class Service:
    """The running service, and the same profile in this process for comparison."""

    def __init__(self, url, keys, folder):
        self.url, self.keys, self.folder = url, keys, folder
        self.versions = {n: folder_version(str(folder / n)).name for n in ("one", "two")}
        self.expected = {self.versions[n]: self._expect(n) for n in ("one", "two")}

    def _expect(self, adapter):
        """Query -> what this adapter selects, without Ray and HTTP."""
        path = self.folder / f"{adapter}.toml"
        path.write_text(vlm_parts.profile_text(self.folder, adapter))
        with open_system(str(path), self.folder / adapter / "home") as system:
            for record in RECORDS:
                system.add(dialogue_from_record(record))
            answers = {q: {a.dialogue_id: a for a in system.search(q)} for q in QUERIES}
        close_shared_engines()
        return {q: {name: form(a) for name, a in found.items()} for q, found in answers.items()}

    def client(self, who="owner", **options):
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def states(self):
        """What each localizer process says about itself."""
        from ray import serve

        handle = serve.get_deployment_handle("Localizer", APP)
        return handle.broadcast("state").results(timeout_s=30)


def form(answer):
    """Selection and rounded confidences of an answer of the library."""
    found = answer.localization
    return {
        "turns": {i: round(p, 3) for i, p in found.utterances.items()},
        "score": round(answer.score, 3),
    }


def form_of_json(dialogue):
    """The same of an answer over HTTP."""
    turns = {t["turn_id"]: round(t["confidence"], 3) for t in dialogue["turns"] if t["matched"]}
    return {"turns": turns, "score": round(dialogue["score"], 3)}


def check(answer, service):
    """An answer is whole, and all of it is the work of the version that it names."""
    assert answer["partial"] is False
    found = {d["dialogue_id"]: form_of_json(d) for d in answer["dialogues"]}
    assert found == service.expected[answer["adapter"]][answer["query"]]


@pytest.fixture(scope="module")
def service(ray_cluster, tmp_path_factory):
    from ray import serve

    folder = tmp_path_factory.mktemp("vlm")
    vlm_parts.write_models(folder)
    keys, entries = {}, []
    for who, scopes in (("owner", ["search", "write", "admin"]), ("user", ["search", "write"])):
        keys[who], digest = new_key()
        entries.append(describe_entry("acme", scopes, digest, who))
    (folder / "keys.toml").write_text("\n".join(entries))
    (folder / "p.toml").write_text(vlm_parts.profile_text(folder))
    profile = load_profile(str(folder / "p.toml"), folder / "home")
    try:
        with running(profile, "127.0.0.1", free_port(), folder / "keys.toml") as url:
            service = Service(url, keys, folder)
            with service.client() as http:
                for record in RECORDS:
                    answer = http.post("/v1/dialogues", json=record)
                    assert answer.status_code == 201, answer.text
            yield service
    finally:
        serve.shutdown()


def search(http, query):
    answer = http.post("/v1/search", json={"query": query, "limit": 50})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_answers_equal_those_of_the_library(service):
    first = service.expected[service.versions["one"]]
    assert first != service.expected[service.versions["two"]]
    assert any(found["turns"] for query in QUERIES for found in first[query].values())
    with service.client() as http:
        for query in QUERIES:
            answer = search(http, query)
            assert answer["adapter"] == service.versions["one"]
            check(answer, service)


def test_fragments_mostly_meet_the_process_that_read_them_before(service):
    with service.client() as http:
        for query in QUERIES:
            search(http, query)
        fragments = http.get("/v1/stats").json()["fragments"]
    counts = [state["counts"] for state in service.states()]
    assert len(counts) == 2
    # Without affinity nearly every fragment would be new to both processes once.
    assert sum(c.get("first", 0) for c in counts) < 2 * min(fragments, 20)
    assert all(c.get("first") for c in counts), "both take part"
    assert sum(c.get("repeated", 0) for c in counts) >= 2 * min(fragments, 20)


def test_a_localizer_can_be_rolled_over_under_load_and_no_answer_mixes(service):
    async def load_and_switch():
        stop, answers = asyncio.Event(), []

        async def client(number):
            while not stop.is_set():
                query = QUERIES[number % len(QUERIES)]
                answer = await http.post("/v1/search", json={"query": query, "limit": 50})
                answers.append(answer)

        headers = {"authorization": f"Bearer {service.keys['owner']}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60) as http:
            clients = [asyncio.create_task(client(n)) for n in range(3)]
            await asyncio.sleep(1)
            body = {"path": str(service.folder / "two")}
            switched = await http.put("/v1/localizer", json=body)
            await asyncio.sleep(1)
            stop.set()
            await asyncio.gather(*clients)
        return switched, answers

    switched, answers = asyncio.run(load_and_switch())
    assert switched.status_code == 200, switched.text
    told = switched.json()
    assert (told["previous"], told["adapter"]) == tuple(service.versions.values())
    assert told["replicas"] == 2
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        check(answer.json(), service)
    assert {a.json()["adapter"] for a in answers} == set(service.versions.values())
    with service.client() as http:
        assert search(http, QUERIES[0])["adapter"] == service.versions["two"]
    for state in service.states():
        assert state["versions"] == sorted(service.versions.values())


def test_a_roll_over_that_cannot_work_changes_nothing(service):
    with service.client() as http:
        before = http.get("/v1/localizer").json()
        gone = http.put("/v1/localizer", json={"path": "/no/such/folder"})
        assert gone.status_code == 404
        assert http.get("/v1/localizer").json() == before
        check(search(http, QUERIES[1]), service)
    with service.client("user") as http:
        body = {"path": str(service.folder / "one")}
        assert http.put("/v1/localizer", json=body).status_code == 403
        assert http.get("/v1/localizer").status_code == 403


def test_a_process_that_dies_costs_no_answer(service):
    async def load_and_kill():
        headers = {"authorization": f"Bearer {service.keys['owner']}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60) as http:
            searches = [
                asyncio.create_task(http.post("/v1/search", json={"query": q, "limit": 50}))
                for q in QUERIES * 2
            ]
            await asyncio.sleep(0.15)
            os.kill(service.states_pid, signal.SIGKILL)
            return await asyncio.gather(*searches)

    service.states_pid = service.states()[0]["pid"]
    answers = asyncio.run(load_and_kill())
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        check(answer.json(), service)


KEYS = [dialogue_key("acme", f"talk-{n}") for n in range(24)]
"""So many that they do not all fall to one of two processes."""


@pytest.fixture(scope="module")
def owners(service):
    """A handle of two processes, routed as index owners are, that take two calls at a time."""
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    class Owner:
        def write(self):
            time.sleep(0.02)
            return os.getpid()

    options = {
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 0.1},
        "max_ongoing_requests": 2,
        "request_router_config": RequestRouterConfig(request_router_class=WRITE_ROUTER),
    }
    application = serve.deployment(Owner).options(**options).bind()
    yield serve.run(application, name="owners", route_prefix=None)
    serve.delete("owners")


def test_the_writes_of_a_dialogue_meet_in_one_process_even_when_it_is_full(owners):
    calls = [(key, owners.options(session_id=key).write.remote()) for key in KEYS for _ in range(4)]
    pids = {key: set() for key in KEYS}
    for key, call in calls:
        pids[key].add(call.result(timeout_s=60))
    assert {len(found) for found in pids.values()} == {1}
    assert len(set.union(*pids.values())) == 2


def test_calls_without_a_session_use_both(owners):
    calls = [owners.write.remote() for _ in range(24)]
    assert len({call.result(timeout_s=60) for call in calls}) == 2
