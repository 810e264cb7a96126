"""The rules by which KubeRay's operator refuses a resource, on every overlay and planted faults.

Source: ray-operator/controllers/ray/utils/validation.go of KubeRay 1.7.0.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from test_k8s_build import OVERLAYS, RAY, cluster_of, groups_of, manifests

STRUCTURE = {"RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
MANAGED = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME", "RAY_enable_autoscaler_v2"}
MAX_NAME = 47


def refusals(resource: dict[str, Any]) -> list[str]:
    """Why the operator would refuse a RayService or RayJob."""
    name, spec, key = resource["metadata"]["name"], resource["spec"], STRUCTURE[resource["kind"]]
    found = []
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        found.append("name")
    if key not in spec:
        return [*found, "cluster"]
    if resource["kind"] == "RayJob":
        found += _job(spec)
    return found + _cluster(cluster_of(resource)) + _groups(resource)


def _job(spec: dict[str, Any]) -> list[str]:
    found = []
    ends = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not ends:
        found.append("suspend")
    if spec.get("ttlSecondsAfterFinished", 0) and not ends:
        found.append("ttl")
    if spec.get("submissionMode") == "SidecarMode" and (
        {"submitterPodTemplate", "submitterConfig"} & set(spec)
    ):
        found.append("submitter")
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        found.append("runtime environment")
    return found


def _cluster(cluster: dict[str, Any]) -> list[str]:
    found = []
    auth = cluster.get("authOptions", {})
    version = tuple(int(part) for part in cluster.get("rayVersion", "0").split("."))
    if auth.get("mode") == "token" and version < (2, 52, 0):
        found.append("token needs rayVersion")
    if auth.get("enableK8sTokenAuth"):
        found.append("kubernetes tokens")
    fault_tolerance = cluster.get("gcsFaultToleranceOptions", {})
    if fault_tolerance.get("backend", "redis") == "redis" and "storage" in fault_tolerance:
        found.append("storage")
    if "networkPolicy" in cluster or "tlsOptions" in cluster:
        found.append("feature gate")
    return found


def _groups(resource: dict[str, Any]) -> list[str]:
    found = []
    cluster = cluster_of(resource)
    scaled = cluster.get("enableInTreeAutoscaling", False)
    second = scaled and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for group in groups_of(resource):
        start, pod = group.get("rayStartParams", {}), group["template"]["spec"]
        if not pod.get("containers"):
            found.append("containers")
        if group.get("resources") and any(key in start for key in RESOURCES):
            found.append("resources twice")
        if second and pod.get("restartPolicy", "Never") != "Never":
            found.append("restartPolicy")
        if scaled and group.get("suspend"):
            found.append("suspended group")
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31):
            found.append("replicas")
        if not scaled and "groupName" in group and not {"minReplicas", "maxReplicas"} <= set(group):
            found.append("replicas")
        names = {entry["name"] for c in pod.get("containers", ()) for entry in c.get("env", ())}
        if MANAGED & names or {"redis-password", "redis-username", "labels"} & set(start):
            found.append("managed by the operator")
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operator_refuses_nothing(overlay: str) -> None:
    assert {
        x["metadata"]["name"]: refusals(x) for x in manifests(overlay, *RAY) if refusals(x)
    } == {}


def _container(resource: dict[str, Any]) -> dict[str, Any]:
    return groups_of(resource)[1]["template"]["spec"]["containers"][0]


FAULTS: list[tuple[str, str, Callable[[dict[str, Any]], Any]]] = [
    ("RayJob", "name", lambda x: x["metadata"].update(name="a" * (MAX_NAME + 1))),
    ("RayJob", "name", lambda x: x["metadata"].update(name="9-job")),
    (
        "RayJob",
        "cluster",
        lambda x: x["spec"].update(rayClusterConfig=x["spec"].pop("rayClusterSpec")),
    ),
    (
        "RayService",
        "cluster",
        lambda x: x["spec"].update(rayClusterSpec=x["spec"].pop("rayClusterConfig")),
    ),
    ("RayJob", "suspend", lambda x: x["spec"].update(shutdownAfterJobFinishes=False)),
    (
        "RayJob",
        "ttl",
        lambda x: x["spec"].update(shutdownAfterJobFinishes=False, suspend=False),
    ),
    ("RayJob", "submitter", lambda x: x["spec"].update(submitterConfig={"backoffLimit": 1})),
    ("RayService", "token needs rayVersion", lambda x: cluster_of(x).pop("rayVersion")),
    ("RayService", "token needs rayVersion", lambda x: cluster_of(x).update(rayVersion="2.51.1")),
    (
        "RayService",
        "restartPolicy",
        lambda x: groups_of(x)[1]["template"]["spec"].update(restartPolicy="Always"),
    ),
    (
        "RayService",
        "resources twice",
        lambda x: groups_of(x)[0].update(resources={"CPU": "0"}),
    ),
    (
        "RayService",
        "managed by the operator",
        lambda x: _container(x)["env"].append({"name": "REDIS_PASSWORD", "value": "x"}),
    ),
    ("RayService", "replicas", lambda x: groups_of(x)[1].update(minReplicas=9, maxReplicas=1)),
    ("RayService", "suspended group", lambda x: groups_of(x)[1].update(suspend=True)),
]


@pytest.mark.parametrize(("kind", "reason", "plant"), FAULTS)
def test_a_planted_fault_is_refused(
    kind: str, reason: str, plant: Callable[[dict[str, Any]], Any]
) -> None:
    resource = manifests("cpu-small", kind)[0]
    assert refusals(resource) == []
    plant(resource)
    assert reason in refusals(resource)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clusters_have_a_token_the_second_autoscaler_and_an_idle_head(overlay: str) -> None:
    for resource in manifests(overlay, *RAY):
        cluster = cluster_of(resource)
        assert cluster["authOptions"]["mode"] == "token"
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        if resource["kind"] == "RayService":
            assert cluster["gcsFaultToleranceOptions"]["redisAddress"] == "redis:6379"
        else:
            assert resource["spec"]["suspend"] is True
