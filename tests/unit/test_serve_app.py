"""Starting the service: arguments, addresses, numbers of the deployments."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ffr_core.errors import BusyError, ConfigError, ForbiddenError
from jobs.cli import app
from serve.app import build, check_address, drain, find_keys
from serve.runtime import check_port, free_port

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "KIND"
uri = "URI"
[serve]
owner_replicas = 3
localizer_min = 2
localizer_max = 5
retry_after = 9
"""


@pytest.fixture
def profile(tmp_path):
    def write(kind="milvus", uri="{home}/x.db"):
        path = tmp_path / "profile.toml"
        path.write_text(PROFILE.replace("KIND", kind).replace("URI", uri))
        return {"profile": str(path), "home": str(tmp_path)}

    return write


def deployments(application):
    """Name -> deployment, the ingress and what it is bound to."""
    ingress = application._bound_deployment
    parts = [ingress, *(arg._bound_deployment for arg in ingress.init_args[3:])]
    return {part.name: part for part in parts}


@pytest.mark.parametrize(
    ("kind", "uri", "owners"),
    [("milvus", "{home}/x.db", 1), ("exact", "x", 1), ("milvus", "http://milvus:19530", 3)],
)
def test_a_local_index_has_one_owner_whatever_the_profile_says(profile, kind, uri, owners):
    parts = deployments(build(profile(kind, uri)))
    assert set(parts) == {"Ingress", "IndexOwner", "Localizer"}
    assert parts["IndexOwner"].num_replicas == owners
    scaling = parts["Localizer"]._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 5)


def test_a_full_queue_is_a_429_everywhere(profile):
    for part in deployments(build(profile())).values():
        assert part.backpressure_config.status_code == 429
        assert part.backpressure_config.retry_after_s == 9
        assert part.max_queued_requests > 0


def test_wrong_arguments_are_refused(profile):
    with pytest.raises(ConfigError, match="keyz"):
        build({**profile(), "keyz": "x"})
    with pytest.raises(ConfigError, match="no keys file"):
        build({**profile(), "keys": "/nowhere/keys.toml"})


def test_without_keys_only_this_machine_is_served():
    for host in ("127.0.0.1", "localhost", "::1"):
        check_address(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com"):
        with pytest.raises(ForbiddenError, match="without API keys"):
            check_address(host, None)
        check_address(host, Path("keys.toml"))


def test_the_keys_file_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("FFRS_KEYS", raising=False)
    assert find_keys(None) is None
    path = tmp_path / "keys.toml"
    path.write_text(f'[[keys]]\ntenant = "a"\nscopes = ["search"]\nsha256 = "{"0" * 64}"\n')
    monkeypatch.setenv("FFRS_KEYS", str(path))
    assert find_keys(None) == path


def test_a_port_in_use_is_refused():
    import socket

    port = free_port()
    check_port("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(BusyError, match=str(port)):
            check_port("127.0.0.1", port)


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_does_not_exist_is_a_wrong_option(port):
    done = CliRunner().invoke(app, ["serve", "--port", port])
    assert done.exit_code == 2
    assert "Invalid value for '--port'" in done.stderr


def test_a_stop_lets_every_ingress_finish(monkeypatch, caplog):
    from ray import serve
    from ray.serve.exceptions import DeploymentUnavailableError

    class Handle:
        asked = 0

        def broadcast(self, method):
            assert method == "drain"
            self.asked += 1
            if self.asked == 1:  # a new handle
                raise DeploymentUnavailableError("Ingress")
            return self

        def results(self, timeout_s, return_exceptions):
            waited.append(timeout_s)
            return [None, TimeoutError()]

    waited = []
    monkeypatch.setattr(serve, "get_app_handle", lambda name: handle)
    handle = Handle()
    drain(3.0)
    assert (handle.asked, waited) == (2, [8.0])
    assert caplog.messages == ["an ingress stops without a drain: TimeoutError"]
