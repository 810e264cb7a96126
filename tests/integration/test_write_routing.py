"""The router of the index owners, on Ray Serve's real scheduler."""

import os
import time
from collections import Counter

import pytest

from serve.routing import WRITE_ROUTER, dialogue_key

KEYS = [dialogue_key("acme", f"talk-{n}") for n in range(6)]


@pytest.fixture(scope="module")
def owners(ray_cluster):
    """A handle of two processes that work on two calls at a time each."""
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
    try:
        application = serve.deployment(Owner).options(**options).bind()
        yield serve.run(application, name="owners", route_prefix=None)
    finally:
        serve.shutdown()


def test_the_writes_of_a_dialogue_meet_in_one_process_even_when_it_is_full(owners):
    calls = [(key, owners.options(session_id=key).write.remote()) for key in KEYS for _ in range(8)]
    pids = {key: set() for key in KEYS}
    for key, call in calls:
        pids[key].add(call.result(timeout_s=60))
    assert {len(found) for found in pids.values()} == {1}
    assert len(set.union(*pids.values())) == 2


def test_calls_without_a_session_use_both(owners):
    calls = [owners.write.remote() for _ in range(24)]
    assert len(Counter(call.result(timeout_s=60) for call in calls)) == 2
