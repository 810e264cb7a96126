"""Pods are unprivileged and sized; images are pinned and come from the Dockerfile."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from test_k8s_build import OVERLAYS, RAY, ROOT, cluster_of, manifests, pods

DOCKERFILE = (ROOT / "k8s" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_unprivileged_sized_and_have_shared_memory(overlay: str) -> None:
    for name, template in pods(overlay):
        pod, container = template["spec"], template["spec"]["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
        if name.startswith("Ray"):
            [shm] = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/dev/shm"]
            [volume] = [v for v in pod["volumes"] if v["name"] == shm]
            assert volume["emptyDir"]["medium"] == "Memory"
            assert container["workingDir"] == "/data", name
        else:
            assert "readinessProbe" in container and "livenessProbe" in container, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_pinned_and_ours_is_the_dockerfiles(overlay: str) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    readme = (ROOT / "k8s" / "README.md").read_text()
    for name, pod in pods(overlay):
        image = pod["spec"]["containers"][0]["image"]
        if name.startswith("Ray"):
            target = image.rpartition(f"/ffrs:{VERSION}-")[2]
            assert target == ("gpu" if overlay == "gpu" else "cpu") and target in stages
            assert f"--target {target} --tag {image} ." in DOCKERFILE
        else:
            assert f"| {image} |" in readme


def test_the_dockerfile_is_pinned_and_not_root() -> None:
    outside = re.findall(r"^FROM (\S+:\S+) AS", DOCKERFILE, re.MULTILINE)
    assert outside and all(re.search(r":\d+\.\d+\.\d+", image) for image in outside)
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]
    for pin in re.findall(r"torch(?:vision)?==[\d.]+", DOCKERFILE):
        assert pin in PROJECT["dependencies"]
    extras = re.findall(r"--editable '\.\[(\w+)\]'", DOCKERFILE)
    assert set(extras) == {"cpu", "gpu"} <= set(PROJECT["optional-dependencies"])
    for line in re.findall(r"^COPY --chown=\S+ (.*) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split())
    ray = next(pin for pin in PROJECT["dependencies"] if pin.startswith("ray["))
    for resource in manifests("gpu", *RAY):
        assert ray.endswith(f"=={cluster_of(resource)['rayVersion']}")


def test_the_versions_of_the_images_satisfy_the_project_and_vllm() -> None:
    dropped = set(re.search(r"grep -vE '\^\((.*)\)=='", DOCKERFILE)[1].split("|"))
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {name for name in pins if re.match("torch|triton|vllm", name)} - dropped == set()
    checked = 0
    for text in PROJECT["dependencies"]:
        needed = Requirement(text)
        version = pins.get(needed.name)
        assert version is None or needed.specifier.contains(version), text
        checked += version is not None
    assert checked > 20
    assert Requirement("fastapi<0.137,>=0.133").specifier.contains(pins["fastapi"])  # vLLM 0.29.0


SIZES = {"Gi": 2**30, "Mi": 2**20}


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * SIZES[quantity[-2:]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rays_object_store_fits_into_shared_memory(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import utils

    for name, template in pods(overlay):
        if not name.startswith("Ray"):
            continue
        pod = template["spec"]
        [shm] = [v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm"]
        size = _bytes(shm["sizeLimit"])
        monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda size=size: size)
        limit = _bytes(pod["containers"][0]["resources"]["limits"]["memory"])
        # Where it does not fit, Ray puts it on the disk and warns.
        assert utils.resolve_object_store_memory(limit) <= size, name
