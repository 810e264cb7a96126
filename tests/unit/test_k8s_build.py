"""Every overlay builds, and every resource fits the Kubernetes and KubeRay schemas."""

import copy
import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu-small", "gpu")
RAY = ("RayService", "RayJob")
SCHEMA_VERSION = "1.33"

# Fields of the custom resource definitions of KubeRay 1.7.0 (helm-chart/kuberay-operator/crds).
FIELDS = {
    "RayService": {
        "deploymentUnhealthySecondThreshold",
        "excludeHeadPodFromServeSvc",
        "managedBy",
        "rayClusterConfig",
        "rayClusterDeletionDelaySeconds",
        "serveConfigV2",
        "serveService",
        "serviceUnhealthySecondThreshold",
        "suspend",
        "upgradeStrategy",
    },
    "RayJob": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "clusterSelector",
        "deletionStrategy",
        "entrypoint",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "entrypointResources",
        "jobId",
        "managedBy",
        "metadata",
        "preRunningDeadlineSeconds",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "submitterConfig",
        "submitterPodTemplate",
        "suspend",
        "ttlSecondsAfterFinished",
    },
    "cluster": {
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "headServiceAnnotations",
        "historyServerOptions",
        "managedBy",
        "networkPolicy",
        "rayVersion",
        "suspend",
        "tlsOptions",
        "upgradeStrategy",
        "workerGroupSpecs",
    },
    "head": {
        "enableIngress",
        "headService",
        "ingressOptions",
        "labels",
        "rayStartParams",
        "resources",
        "serviceType",
        "template",
    },
    "worker": {
        "groupName",
        "idleTimeoutSeconds",
        "labels",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "priority",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    },
    "autoscalerOptions": {
        "args",
        "command",
        "env",
        "envFrom",
        "idleTimeoutSeconds",
        "image",
        "imagePullPolicy",
        "resources",
        "securityContext",
        "upscalingMode",
        "version",
        "volumeMounts",
    },
    "authOptions": {"enableK8sTokenAuth", "mode", "secretName"},
    "gcsFaultToleranceOptions": {
        "backend",
        "externalStorageNamespace",
        "redisAddress",
        "redisPassword",
        "redisUsername",
        "storage",
    },
}


@functools.cache
def _manifests(overlay: str) -> tuple[dict[str, Any], ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (Debian: apt-get install kubernetes-client)")
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / "overlays" / overlay)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return tuple(item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item)


def manifests(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    """The built resources of an overlay, of some kinds or all, as copies."""
    return copy.deepcopy([x for x in _manifests(overlay) if not kinds or x["kind"] in kinds])


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    """The Ray cluster inside a RayService or RayJob."""
    key = "rayClusterConfig" if resource["kind"] == "RayService" else "rayClusterSpec"
    return resource["spec"][key]


def groups_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Head group and worker groups."""
    cluster = cluster_of(resource)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def kuberay_labels(cluster: str, group: str, own: dict[str, str]) -> dict[str, str]:
    """Labels of a Ray pod; `own` are those of its template, `group` is "head" for the head pod.

    Source: labelPod of ray-operator/controllers/ray/common/pod.go, KubeRay 1.7.0.
    """
    node_type = "head" if group == "head" else "worker"
    fixed = {
        "ray.io/cluster": cluster,
        "ray.io/node-type": node_type,
        "ray.io/group": "headgroup" if group == "head" else group,
    }
    return {
        "ray.io/is-ray-node": "yes",
        "ray.io/identifier": f"{cluster}-{node_type}",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        **own,
        **fixed,
    }


def pods(overlay: str) -> list[tuple[str, dict[str, Any]]]:
    """Pod templates of what runs all the time and of jobs, and the name of their owner.

    Those of Ray have the labels that KubeRay adds; a cluster is taken to be named as its resource.
    """
    found = []
    for resource in manifests(overlay):
        owner = resource["metadata"]["name"]
        name = f"{resource['kind']} {owner}"
        if resource["kind"] in RAY:
            for group in groups_of(resource):
                group_name, template = group.get("groupName", "head"), group["template"]
                own = template["metadata"]["labels"]
                template["metadata"]["labels"] = kuberay_labels(owner, group_name, own)
                found.append((f"{name} {group_name}", template))
        elif resource["kind"] in ("StatefulSet", "Deployment"):
            found.append((name, resource["spec"]["template"]))
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_into_its_namespace_with_unique_names(overlay: str) -> None:
    built = manifests(overlay)
    names = [(x["kind"], x["metadata"]["name"]) for x in built]
    assert len(set(names)) == len(names)
    assert {x["metadata"]["namespace"] for x in built} == {"ffrs"}
    assert {"RayService", "RayJob", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget"} <= {
        kind for kind, _ in names
    }


def test_the_gpu_overlay_has_a_job_for_every_step_of_the_paper() -> None:
    names = {x["metadata"]["name"] for x in manifests("gpu", "RayJob")}
    assert names == {
        f"ffrs-{step}-job"
        for step in (
            "index",
            "train-sft",
            "train-segmenter",
            "score-difficulty",
            "train-grpo",
            "train-fem",
            "evaluate",
        )
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_resources_fit_the_kubernetes_schemas(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    checked = 0
    for resource in manifests(overlay):
        if "." in resource["apiVersion"] and not resource["apiVersion"].startswith(
            ("networking.k8s.io", "policy", "apps")
        ):
            continue
        validator.validate(resource, SCHEMA_VERSION, strict=True)
        checked += 1
    for name, template in pods(overlay):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
        pod["metadata"]["name"] = "x"
        validator.validate(pod, SCHEMA_VERSION, strict=True)
        checked += bool(name)
    assert checked > 15


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_resources_have_only_fields_that_kuberay_knows(overlay: str) -> None:
    for resource in manifests(overlay, *RAY):
        assert resource["apiVersion"] == "ray.io/v1"
        assert set(resource["spec"]) <= FIELDS[resource["kind"]]
        cluster = cluster_of(resource)
        assert set(cluster) <= FIELDS["cluster"]
        for part in ("autoscalerOptions", "authOptions", "gcsFaultToleranceOptions"):
            assert set(cluster.get(part, ())) <= FIELDS[part]
        assert set(cluster["headGroupSpec"]) <= FIELDS["head"]
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= FIELDS["worker"]
            assert {"groupName", "minReplicas", "maxReplicas", "template"} <= set(group)
