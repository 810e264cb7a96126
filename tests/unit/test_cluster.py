"""Launch files, compose file and scripts: they parse, fit Ray's schema, and are pinned alike."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *(ROOT / "k8s").glob("*.sh")])
LAUNCH = sorted(CLUSTER.glob("ray-*.yaml"))
STORES = ("milvus", "etcd", "minio")


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_stops_at_errors_and_says_how(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    assert any(
        re.match(r"#  +\S*(cluster|k8s)/", line) or script.name in line for line in lines[:9]
    )
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_a_launch_file_fits_rays_schema_and_turns_tokens_on(path: Path) -> None:
    import ray

    launch = load(path)
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(launch, schema)
    assert "--env RAY_AUTH_MODE=token" in launch["docker"]["run_options"]
    assert "~/.ray/auth_token" in launch["file_mounts"]
    commands = " ".join(launch["head_start_ray_commands"] + launch["worker_start_ray_commands"])
    assert "ray stop" not in commands and "--dashboard-host=127.0.0.1" in commands
    assert f"--tag {launch['docker']['image']} ." in (ROOT / "k8s" / "Dockerfile").read_text()
    header = path.read_text().split("cluster_name")[0]
    assert f"ray up cluster/{path.name}" in header and "Change:" in header


def test_on_premise_every_port_of_ray_is_one_that_the_header_opens() -> None:
    from ray.scripts.scripts import start

    path = CLUSTER / "ray-onprem.yaml"
    header = path.read_text().split("cluster_name")[0]
    opened: set[int] = set()
    for first, last in re.findall(r"\b(\d{4,5})-(\d{4,5})\b", header):
        opened |= set(range(int(first), int(last) + 1))
    # What only the head has, or listens on this machine only.
    other = {"--port", "--dashboard-port", "--dashboard-grpc-port", "--ray-client-server-port"}
    names = {name for option in start.params for name in option.opts}
    needed = {name for name in names if name.endswith("-port")} - other
    for command in (
        *load(path)["head_start_ray_commands"],
        *load(path)["worker_start_ray_commands"],
    ):
        given = dict(re.findall(r"(--[\w-]+-port)=(\d+)", command))
        assert set(given) == needed
        assert {int(port) for port in given.values()} <= opened


def test_there_is_a_cloud_and_an_on_premise_launch_file() -> None:
    assert [load(path)["provider"]["type"] for path in LAUNCH] == ["aws", "local"]


def test_configurations_named_in_headers_exist() -> None:
    texts = [path.read_text() for path in [*LAUNCH, *SCRIPTS, CLUSTER / "README.md"]]
    named = {name for text in texts for name in re.findall(r"jobs/configs/[\w/]+\.toml", text)}
    assert named and not [name for name in named if not (ROOT / name).is_file()]


def test_stores_of_the_compose_file_are_pinned_as_everywhere_else() -> None:
    services = load(CLUSTER / "compose.yaml")["services"]
    assert set(services) == set(STORES)
    others = (CLUSTER / "README.md").read_text()
    store = "".join(path.read_text() for path in (ROOT / "k8s/base/store").glob("*.yaml"))
    helm = load(ROOT / "k8s" / "milvus-distributed.values.yaml")["image"]["all"]
    for name, service in services.items():
        image = service["image"]
        assert re.search(r":(v\d+\.\d+\.\d+|RELEASE\.[\dTZ-]+)$", image)
        assert f"| {image} |" in others
        assert name == "etcd" or f"image: {image}\n" in store
    assert f"{helm['repository']}:{helm['tag']}" == services["milvus"]["image"]


def test_stores_keep_data_are_watched_and_listen_locally_without_a_default_password() -> None:
    compose = load(CLUSTER / "compose.yaml")
    example = (CLUSTER / "compose.env.example").read_text()
    for service in compose["services"].values():
        assert service["healthcheck"]["test"]
        [volume] = service["volumes"]
        assert volume.split(":")[0] in compose["volumes"]
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", ()))
        for key, value in service["environment"].items():
            if re.search("PASSWORD|ACCESS_KEY|ROOT_USER", key):
                variable = re.fullmatch(r"\$\{(\w+):\?.*\}", value)
                assert variable and f"\n{variable[1]}=\n" in example


def stub(folder: Path, name: str, body: str) -> dict[str, str]:
    """An environment in which a command is a script of ours that logs how it is called."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "LOG": str(folder / "log")}


def run(script: Path, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *words], env=env, capture_output=True, text=True, timeout=20
    )


RAY = 'printf "%s\\n" "$RAY_AUTH_MODE" "$RAY_API_SERVER_ADDRESS" "$PWD" "$@" >"$LOG"'


def test_submit_needs_a_token_and_a_command(tmp_path: Path) -> None:
    env = stub(tmp_path, "ray", RAY)
    done = run(CLUSTER / "submit.sh", "python", "-V", env=env)
    assert done.returncode == 2 and "no token" in done.stderr
    assert run(CLUSTER / "submit.sh", env=env).returncode == 2
    assert run(CLUSTER / "submit.sh", "--wat", "x", env=env).returncode == 2
    assert not (tmp_path / "log").exists()


def test_submit_passes_the_command_on(tmp_path: Path) -> None:
    env = stub(tmp_path, "ray", RAY) | {"RAY_AUTH_TOKEN": "secret"}
    words = ["python", "-m", "jobs.index_corpus", "--config", "a b.toml"]
    assert run(CLUSTER / "submit.sh", *words, env=env).returncode == 0
    mode, address, _, *given = (tmp_path / "log").read_text().splitlines()
    assert (mode, address) == ("token", "http://127.0.0.1:8265")
    assert given == ["job", "submit", "--", *words]


def test_submit_uploads_this_checkout_on_demand(tmp_path: Path) -> None:
    env = stub(tmp_path, "ray", RAY) | {"RAY_AUTH_TOKEN": "secret"}
    done = run(CLUSTER / "submit.sh", "--code", "--no-wait", "--id", "x", "python", "-V", env=env)
    assert done.returncode == 0, done.stderr
    _, _, folder, *given = (tmp_path / "log").read_text().splitlines()
    assert Path(folder) == ROOT
    options = ["--no-wait", "--submission-id", "x", "--runtime-env", "cluster/runtime_env.yaml"]
    assert given == ["job", "submit", *options, "--", "python", "-V"]


def test_the_runtime_environment_is_one_that_ray_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.runtime_env import RuntimeEnv

    monkeypatch.chdir(ROOT)
    values = load(CLUSTER / "runtime_env.yaml")
    assert RuntimeEnv(**values)["working_dir"] == "."
    assert {".venv", ".git"} <= set(values["excludes"])


KUBECTL = """
if [ "$1" = kustomize ]; then
    printf 'metadata:\\n  labels:\\n    ffrs/part: job-index\\nspec:\\n  suspend: true\\n'
else
    printf "%s\\n" "$*" >>"$LOG"
    case "$*" in *apply*) cat >>"$LOG" ;; esac
fi
"""


def test_a_job_is_replaced_and_started(tmp_path: Path) -> None:
    env = stub(tmp_path, "kubectl", KUBECTL)
    done = run(ROOT / "k8s" / "run_job.sh", "gpu", "index", env=env)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log").read_text()
    assert log.index("delete rayjob --selector ffrs/part=job-index") < log.index("apply")
    assert "ffrs/part in (config, job-index)" in log and "  suspend: false\n" in log


def test_an_unknown_job_or_overlay_changes_nothing(tmp_path: Path) -> None:
    env = stub(tmp_path, "kubectl", KUBECTL)
    done = run(ROOT / "k8s" / "run_job.sh", "gpu", "nothing", env=env)
    assert done.returncode == 2 and "index" in done.stderr
    assert run(ROOT / "k8s" / "run_job.sh", "moon", "index", env=env).returncode == 2
    assert not (tmp_path / "log").exists()


SECRETS = """
case "$*" in
    *"get secret ffrs-redis"*) exit 0 ;;
    *"get "*) exit 1 ;;
    *) printf "%s\\n" "$*" >>"$LOG"; case "$*" in *env-file*) cat >>"$LOG" ;; esac ;;
esac
"""


def test_secrets_are_made_once_and_never_on_a_command_line(tmp_path: Path) -> None:
    env = stub(tmp_path, "kubectl", SECRETS) | {"KEYS_FILE": str(CLUSTER / "README.md")}
    done = run(ROOT / "k8s" / "secrets.sh", env=env | {"AWS_SECRET_ACCESS_KEY": "hidden"})
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log").read_text()
    assert "create secret generic ffrs-redis" not in log and "ffrs-redis exists" in done.stdout
    assert not [line for line in log.splitlines() if "hidden" in line and "create" in line]
    password = re.search(r"^root_password=(\w{40})$", log, re.MULTILINE)
    assert password and f"\ntoken=root:{password[1]}\n" in log
    assert re.search(r"^auth_token=\w{40}$", log, re.MULTILINE)
