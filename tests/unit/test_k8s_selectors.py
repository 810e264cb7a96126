"""Every selector chooses the pods that it is meant for, and KubeRay's own find the head pods."""

import re
from typing import Any

import pytest
from test_k8s_build import OVERLAYS, RAY, groups_of, kuberay_labels, manifests, pods

RAY_PODS = r"Ray(Service|Job) "
WORKERS = r"RayService ffrs (?!head)"
STORES = r"StatefulSet (milvus|minio|redis)$"
CHOSEN = {
    "NetworkPolicy deny-all": r"",
    "NetworkPolicy ray": rf"{RAY_PODS}|CronJob ffrs-expire",
    "NetworkPolicy stores": STORES,
    "PodDisruptionBudget ffrs-stores": STORES,
    "PodDisruptionBudget ffrs-workers": WORKERS,
    "Service ffrs-metrics": WORKERS,
    "Service ffrs-ray-metrics": RAY_PODS,
    "Service milvus": r"StatefulSet milvus$",
    "Service minio": r"StatefulSet minio$",
    "Service redis": r"StatefulSet redis$",
    "StatefulSet milvus": r"StatefulSet milvus$",
    "StatefulSet minio": r"StatefulSet minio$",
    "StatefulSet redis": r"StatefulSet redis$",
}
"""Resource -> how the names of exactly the pods that it chooses begin."""


def all_labels(overlay: str) -> dict[str, dict[str, str]]:
    """Name of each kind of pod -> its labels, those of the nightly job included."""
    found = {name: pod["metadata"]["labels"] for name, pod in pods(overlay)}
    for job in manifests(overlay, "CronJob"):
        template = job["spec"]["jobTemplate"]["spec"]["template"]
        found[f"CronJob {job['metadata']['name']}"] = template["metadata"]["labels"]
    return found


def chosen_by(selector: dict[str, Any], labels: dict[str, dict[str, str]]) -> set[str]:
    """Pods that a selector chooses: `matchLabels` or, of a Service, the labels themselves."""
    assert "matchExpressions" not in selector
    wanted = selector.get("matchLabels", selector).items()
    return {name for name, own in labels.items() if wanted <= own.items()}


def beginning(pattern: str, labels: dict[str, dict[str, str]]) -> set[str]:
    """Pods whose names begin so."""
    return {name for name in labels if re.match(pattern, name)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_choose_exactly_the_pods_that_they_are_meant_for(overlay: str) -> None:
    labels, checked = all_labels(overlay), set()
    for resource in manifests(overlay):
        spec = resource.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector is None or resource["kind"] == "ServiceMonitor":  # chooses Services
            continue
        name = f"{resource['kind']} {resource['metadata']['name']}"
        meant = beginning(CHOSEN[name], labels)
        assert meant and chosen_by(selector, labels) == meant, name
        checked.add(name)
    assert checked == set(CHOSEN)


def _peers(rules: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Peers in our own namespace; the operator, Prometheus and clients live in others."""
    found = [peer for rule in rules for peer in rule.get(key, ())]
    return [peer["podSelector"] for peer in found if "namespaceSelector" not in peer]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policies_name_peers_that_exist(overlay: str) -> None:
    labels, reached = all_labels(overlay), {}
    for policy in manifests(overlay, "NetworkPolicy"):
        spec, name = policy["spec"], policy["metadata"]["name"]
        for key, rules in (("from", spec.get("ingress", ())), ("to", spec.get("egress", ()))):
            found = [chosen_by(peer, labels) for peer in _peers(rules, key)]
            assert all(found), name
            reached[name, key] = set().union(*found)
    clients, stores = beginning(CHOSEN["NetworkPolicy ray"], labels), beginning(STORES, labels)
    assert reached["stores", "from"] == clients | stores
    assert reached["stores", "to"] == stores
    assert reached["ray", "from"] == clients
    assert reached["ray", "to"] == set(labels)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_spread_over_the_nodes(overlay: str) -> None:
    labels, spread = all_labels(overlay), set()
    for name, pod in pods(overlay):
        for constraint in pod["spec"].get("topologySpreadConstraints", ()):
            assert name in chosen_by(constraint["labelSelector"], labels)
            spread.add(name)
    assert "RayService ffrs worker" in spread


def head_service_selector(cluster: str) -> dict[str, str]:
    """What the head services of a RayService and a RayJob select.

    Source: HeadServiceLabels of ray-operator/controllers/ray/common/service.go, KubeRay 1.7.0.
    """
    return {
        "ray.io/cluster": cluster,
        "ray.io/node-type": "head",
        "ray.io/identifier": f"{cluster}-head",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_head_services_of_kuberay_find_their_head_pod(overlay: str) -> None:
    labels = all_labels(overlay)
    for resource in manifests(overlay, *RAY):
        name = resource["metadata"]["name"]
        found = chosen_by(head_service_selector(name), labels)
        assert found == {f"{resource['kind']} {name} head"}


def test_a_template_with_a_name_of_its_own_hides_the_head_pod() -> None:
    own = {"app.kubernetes.io/name": "ffrs", "ffrs/app": "ffrs"}
    labels = {"named": kuberay_labels("ffrs", "head", own)}
    assert chosen_by(head_service_selector("ffrs"), labels) == set()
    del own["app.kubernetes.io/name"]
    labels["free"] = kuberay_labels("ffrs", "head", own)
    assert chosen_by(head_service_selector("ffrs"), labels) == {"free"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_template_of_a_ray_pod_sets_a_label_of_kuberay(overlay: str) -> None:
    reserved = set(kuberay_labels("any", "head", {}))
    assert "app.kubernetes.io/name" in reserved
    for resource in manifests(overlay, *RAY):
        for group in groups_of(resource):
            own = {**group["template"]["metadata"]["labels"], **group.get("labels", {})}
            assert own["ffrs/app"] == "ffrs"
            assert not reserved & set(own), resource["metadata"]["name"]
