"""What a manifest names exists: modules, configurations, secrets, ports, metrics."""

import importlib
import importlib.util
import inspect
import json
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import pytest
import typer
import yaml
from test_k8s_build import OVERLAYS, RAY, ROOT, cluster_of, groups_of, manifests, pods

from ffr_core.config import Config
from ffr_core.errors import ConfigError
from ffr_core.profile import Profile, load_profile

HOME = PurePosixPath("/opt/ffrs")
CONFIGS = ROOT / "jobs" / "configs"


def config_maps(overlay: str) -> dict[str, dict[str, str]]:
    return {x["metadata"]["name"]: x["data"] for x in manifests(overlay, "ConfigMap")}


def mounted(group: dict[str, Any]) -> dict[str, str]:
    """Folder in the container -> name of the config map."""
    pod = group["template"]["spec"]
    maps = {v["name"]: v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    mounts = pod["containers"][0]["volumeMounts"]
    return {m["mountPath"]: maps[m["name"]] for m in mounts if m["name"] in maps}


def serve_config(overlay: str) -> dict[str, Any]:
    [service] = manifests(overlay, "RayService")
    return yaml.safe_load(service["spec"]["serveConfigV2"])


def profile_of(overlay: str) -> Profile:
    return load_profile(serve_config(overlay)["applications"][0]["args"]["profile"], "/data")


def profile_file(line: str) -> str:
    """The file of this repository that an entry point's `--profile` names; the image has the same
    folders below /opt/ffrs."""
    words = shlex.split(line)
    name = words[words.index("--profile") + 1]
    if name.startswith(f"{HOME}/"):
        return str(ROOT / PurePosixPath(name).relative_to(HOME))
    return str(CONFIGS / name / "profile.toml")


def load_job_config(module: str, path: str) -> Config:
    """Parse a file with the configuration class that a job's module uses."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    classes = [
        value
        for _, value in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(value, Config) and value is not Config
    ]
    problems = []
    for found in classes:
        try:
            return found.load(ROOT / PurePosixPath(path).relative_to(HOME))
        except ConfigError as error:
            problems.append(str(error))
    pytest.fail(f"no configuration of {module} reads {path}: {problems}")


def entry_points() -> list[Any]:
    found = []
    for overlay in OVERLAYS:
        for path in sorted((ROOT / "k8s/overlays" / overlay).glob("kustomization.yaml")):
            for base in yaml.safe_load(path.read_text())["bases"]:
                patch = (path.parent / base / "patch.yaml").resolve()
                if patch.is_file():
                    entries = {x["path"]: x["value"] for x in yaml.safe_load(patch.read_text())}
                    line = entries["/spec/entrypoint"]
                    found.append(pytest.param(line, id=f"{overlay}-{patch.parent.name}"))
    return found


@pytest.mark.parametrize("line", entry_points())
def test_an_entry_point_exists_and_parses_its_configuration(line: str) -> None:
    words = shlex.split(line)
    if words[:2] == ["python", "-m"]:
        assert words[3] == "--config" and len(words) == 5
        load_job_config(words[2], words[4])
        return
    from jobs.cli import app

    assert words[0] == "ffrs"
    options = {o for p in typer.main.get_command(app).commands[words[1]].params for o in p.opts}
    assert {word for word in words if word.startswith("--")} <= options
    load_profile(profile_file(line), "/data")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_hold_the_configurations_that_they_are_told_to_read(overlay: str) -> None:
    maps = config_maps(overlay)
    for resource in manifests(overlay, *RAY):
        line = resource["spec"].get("entrypoint", "")
        needed = [ROOT / path for path in re.findall(rf"{HOME}/(\S+\.toml)", line)]
        if "--profile" in line:
            needed.append(Path(profile_file(line)))
        if resource["kind"] == "RayService":
            args = serve_config(overlay)["applications"][0]["args"]
            needed.append(CONFIGS / args["profile"] / "profile.toml")
        assert needed
        groups = groups_of(resource)
        # A command that asks for CPUs runs on a worker, and the head has none.
        for group in groups[1:] if "entrypointNumCpus" in resource["spec"] else groups:
            for path in needed:
                data = maps[mounted(group)[str(HOME / path.parent.relative_to(ROOT))]]
                assert data[path.name] == path.read_text()


def test_every_configuration_of_a_mounted_profile_is_in_its_config_map() -> None:
    maps = config_maps("gpu")
    for profile in ("server", "paper"):
        files = {path.name for path in (CONFIGS / profile).glob("*.toml")}
        assert files == set(maps[f"ffrs-config-{profile}"]), "list it in jobs/kustomization.yaml"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_serve_configuration_names_our_application(overlay: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    from serve.app import APP, BuildArgs

    schema = ServeDeploySchema.model_validate(serve_config(overlay))
    [application] = schema.applications
    module, _, function = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert application.name == APP
    arguments = BuildArgs.parse(application.args, "args")
    secret = {m["mountPath"] for _, pod in _ray_pods(overlay) for m in _mounts(pod)}
    assert str(PurePosixPath(arguments.keys or "").parent) in secret
    names = re.findall(r'"([A-Z]\w+)"', (ROOT / "serve/deployments.py").read_text())
    assert {deployment.name for deployment in application.deployments} <= set(names)


def _ray_pods(overlay: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, pod) for name, pod in pods(overlay) if name.startswith("RayService")]


def _mounts(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return pod["spec"]["containers"][0]["volumeMounts"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_in_the_profile_are_services_of_the_overlay(overlay: str) -> None:
    profile = profile_of(overlay)
    services = {
        x["metadata"]["name"]: {p["port"] for p in x["spec"]["ports"]}
        for x in manifests(overlay, "Service")
    }
    for address in (profile.index.uri, profile.storage.s3_endpoint):
        parsed = urlparse(address or "")
        assert parsed.port in services.get(parsed.hostname or "", ()), address
    assert profile.storage.uri.startswith("s3://")
    assert profile.index.token_env in {
        e["name"] for _, pod in _ray_pods(overlay) for e in pod["spec"]["containers"][0]["env"]
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_metrics_port_is_open_and_scraped(overlay: str) -> None:
    serve = profile_of(overlay).serve
    assert serve.metrics_host == "0.0.0.0"
    for name, pod in _ray_pods(overlay):
        if not name.endswith("head"):
            ports = {p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
            assert {8000, 8080, serve.metrics_port} <= ports
    services = {x["metadata"]["name"]: x for x in manifests(overlay, "Service")}
    [monitor] = manifests(overlay, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = {
        port["targetPort"]
        for service in services.values()
        if wanted <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
        if port["name"] in {e["port"] for e in monitor["spec"]["endpoints"]}
    }
    assert scraped == {8080, serve.metrics_port}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_outlive_the_longest_answer(overlay: str) -> None:
    serve = profile_of(overlay).serve
    longest = serve.drain_timeout
    # Serve ends a process that is asked to stop after `drain_timeout`, whatever it still does.
    assert longest >= max(serve.search_timeout, serve.write_timeout)
    [service] = manifests(overlay, "RayService")
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > longest
    for group in cluster_of(service)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        stop = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
        waits = int(re.search(r"sleep (\d+)", stop)[1])
        assert longest < waits < pod["terminationGracePeriodSeconds"]


def _created_secrets() -> dict[str, set[str]]:
    script = (ROOT / "k8s" / "secrets.sh").read_text()
    made = {
        name: set(re.findall(r"^(\w+)=", body, re.MULTILINE))
        for name, body in re.findall(r"^create (\S+) <<EOF\n(.*?)^EOF", script, re.M | re.S)
    }
    files = re.findall(r"generic (\S+) --from-file=(\S+?)=", script)
    return made | {name: {key} for name, key in files}


def _references(value: Any) -> list[tuple[str, str | None]]:
    """(secret, key or None) for each reference below a value."""
    found = []
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "secretKeyRef":
                found.append((item["name"], item["key"]))
            elif key == "secretRef":
                found.append((item["name"], None))
            elif key == "secretName":
                found.append((item, None))
            else:
                found += _references(item)
    elif isinstance(value, list):
        for item in value:
            found += _references(item)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_that_reads_s3_has_the_variables_that_boto3_reads(overlay: str) -> None:
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as VARIABLES
    from botocore.credentials import EnvProvider

    needed = {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY, VARIABLES["region"][1]}
    created = _created_secrets()
    ours = [(name, pod) for name, pod in pods(overlay) if name.startswith("Ray")]
    for job in manifests(overlay, "CronJob"):
        ours.append((job["metadata"]["name"], job["spec"]["jobTemplate"]["spec"]["template"]))
    assert len(ours) > 6
    for name, pod in ours:
        container = pod["spec"]["containers"][0]
        found: set[str] = set()
        for source in container["envFrom"]:
            found |= created[source["secretRef"]["name"]]
        assert needed <= found, name
        # An entry of `env` would hide the secret's.
        assert not needed & {entry["name"] for entry in container["env"]}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_only_named_and_the_script_makes_them(overlay: str) -> None:
    built, created = manifests(overlay), _created_secrets()
    assert not [x for x in built if x["kind"] == "Secret"]
    named = _references(built)
    assert {name for name, _ in named} == set(created)
    assert all(key is None or key in created[name] for name, key in named)
    assert "auth_token" in created["ffrs-ray-token"]
    for _, pod in pods(overlay):
        for entry in pod["spec"]["containers"][0].get("env", ()):
            if re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", entry["name"]):
                assert "value" not in entry, entry["name"]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    from ray.dashboard.modules.metrics import dashboards

    from serve.metrics import Metrics

    dashboard = json.loads((ROOT / "k8s/base/monitoring/ffrs.json").read_text())
    queries = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    ours = {s.name for family in Metrics().registry.collect() for s in family.samples}
    known = {family.name for family in Metrics().registry.collect()}
    ours |= known | {f"{name}_{end}" for name in known for end in ("total", "bucket")}
    assert (asked := set(re.findall(r"\bffrs_\w+", queries))) and asked <= ours
    folder = Path(dashboards.__path__[0])
    panels = "".join(path.read_text() for path in folder.glob("*_panels.py"))
    for name in set(re.findall(r"\bray_\w+", queries)):
        assert re.search(rf"\b{name}\b", panels), name
