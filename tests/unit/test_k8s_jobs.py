"""A job's command that works in its own process runs on a worker pod that has what it needs."""

from collections.abc import Callable
from typing import Any

import pytest
from test_k8s_build import OVERLAYS, ROOT, cluster_of, manifests
from test_k8s_names import profile_file

from ffr_core.engine.config import EngineConfig
from ffr_core.profile import Profile, load_profile

PAPER = ROOT / "jobs" / "configs" / "paper" / "profile.toml"
ELSEWHERE = "/tmp/ffrs-eval-x"
"""`ffrs eval` works in a temporary data folder."""


def engines_of(profile: Profile) -> list[EngineConfig]:
    """Engines that one process runs: one for equal tables, as `shared_engine` keeps them."""
    tables = [
        part.engine or profile.engine
        for part in (profile.segmenter, profile.localizer)
        if part.kind in ("vlm", "f2rvlm")
    ]
    return list({table.model_dump_json(): table for table in tables}.values())


def needs_gpu(profile: Profile) -> bool:
    """Whether some part of the profile runs on a GPU of its process."""
    devices = [profile.encoder.device, *(engine.device for engine in engines_of(profile))]
    kinds = {engine.kind for engine in engines_of(profile)}
    return "vllm" in kinds or any(device.startswith("cuda") for device in devices)


def misplaced(job: dict[str, Any]) -> list[str]:
    """What keeps a command that uses no Ray from its CPUs and GPU.

    `ffrs` works in its own process; modules of `jobs` send their work to Ray's workers. Without
    `entrypointNum*` Ray runs a command on the head pod, with one OpenMP thread.
    """
    spec = job["spec"]
    if not spec["entrypoint"].startswith("ffrs "):
        return []
    [group] = cluster_of(job)["workerGroupSpecs"]
    size = group["template"]["spec"]["containers"][0]["resources"]
    # KubeRay gives Ray the CPUs of the limit or else of the request, and the GPUs of the limit.
    cpus = int(size["limits"].get("cpu", size["requests"]["cpu"]))
    gpus = int(size["limits"].get("nvidia.com/gpu", 0))
    profile = load_profile(profile_file(spec["entrypoint"]), ELSEWHERE)
    found = []
    if not 0 < spec.get("entrypointNumCpus", 0) <= cpus:
        found.append("CPUs")
    if not int(needs_gpu(profile)) == spec.get("entrypointNumGpus", 0) <= gpus:
        found.append("GPU")
    if group["minReplicas"] < 1:
        found.append("no worker")
    return found


def evaluate_job(overlay: str) -> dict[str, Any]:
    [job] = [
        x for x in manifests(overlay, "RayJob") if x["metadata"]["name"] == "ffrs-evaluate-job"
    ]
    return job


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_command_that_uses_no_ray_gets_a_worker_pod(overlay: str) -> None:
    jobs = manifests(overlay, "RayJob")
    assert {job["metadata"]["name"]: misplaced(job) for job in jobs if misplaced(job)} == {}
    assert evaluate_job(overlay)["spec"]["entrypoint"].startswith("ffrs eval ")
    assert needs_gpu(evaluation_profile(overlay)) is (overlay == "gpu")


def _resources(job: dict[str, Any]) -> dict[str, Any]:
    [group] = cluster_of(job)["workerGroupSpecs"]
    return group["template"]["spec"]["containers"][0]["resources"]


FAULTS: list[tuple[str, str, Callable[[dict[str, Any]], Any]]] = [
    ("cpu-small", "CPUs", lambda x: x["spec"].pop("entrypointNumCpus")),
    ("cpu-small", "CPUs", lambda x: x["spec"].update(entrypointNumCpus=9)),
    ("cpu-small", "GPU", lambda x: x["spec"].update(entrypointNumGpus=1)),
    ("gpu", "GPU", lambda x: x["spec"].pop("entrypointNumGpus")),
    ("gpu", "GPU", lambda x: _resources(x)["limits"].pop("nvidia.com/gpu")),
    ("gpu", "CPUs", lambda x: _resources(x)["requests"].update(cpu="1")),
    ("gpu", "no worker", lambda x: cluster_of(x)["workerGroupSpecs"][0].update(minReplicas=0)),
]


@pytest.mark.parametrize(("overlay", "reason", "plant"), FAULTS)
def test_a_planted_fault_is_found(
    overlay: str, reason: str, plant: Callable[[dict[str, Any]], Any]
) -> None:
    job = evaluate_job(overlay)
    plant(job)
    assert misplaced(job) == [reason]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_waits_long_enough_for_a_new_node(overlay: str) -> None:
    from ray.dashboard.consts import (
        DEFAULT_JOB_START_TIMEOUT_SECONDS,
        RAY_JOB_START_TIMEOUT_SECONDS_ENV_VAR,
    )

    head = cluster_of(evaluate_job(overlay))["headGroupSpec"]["template"]["spec"]["containers"][0]
    values = {entry["name"]: entry.get("value") for entry in head["env"]}
    waits = float(values[RAY_JOB_START_TIMEOUT_SECONDS_ENV_VAR])
    assert waits > DEFAULT_JOB_START_TIMEOUT_SECONDS


def evaluation_profile(overlay: str) -> Profile:
    return load_profile(profile_file(evaluate_job(overlay)["spec"]["entrypoint"]), ELSEWHERE)


def test_the_engines_of_the_evaluation_leave_fem_its_share_of_the_gpu() -> None:
    engines = engines_of(evaluation_profile("gpu"))
    assert {engine.kind for engine in engines} == {"vllm"} and len(engines) == 2
    left = 1 - sum(engine.gpu_memory_utilization for engine in engines)
    assert left >= load_profile(str(PAPER)).serve.owner_gpus > 0  # the service's query encoder


def test_the_evaluation_measures_the_paper_profile_with_its_adapters() -> None:
    ours, paper = evaluation_profile("gpu"), load_profile(str(PAPER), "/data")

    def parts(profile: Profile) -> dict[str, Any]:
        values = profile.model_dump(exclude={"serve"})
        for table in (values["engine"], values["segmenter"]["engine"]):
            del table["gpu_memory_utilization"]
        return values

    assert parts(ours) == parts(paper)


def test_the_service_has_a_gpu_pod_for_every_model_that_the_profile_asks_for() -> None:
    serve = load_profile(str(PAPER)).serve
    [service] = manifests("gpu", "RayService")
    [group] = [g for g in cluster_of(service)["workerGroupSpecs"] if g["groupName"] == "gpu"]
    size = group["template"]["spec"]["containers"][0]["resources"]
    assert size["limits"]["nvidia.com/gpu"] == "1"
    # A localizer leaves room for an owner of the index and none for another model.
    assert 0.5 < serve.localizer_gpus <= 1 - serve.owner_gpus and serve.segmenter_gpus == 1
    assert serve.owner_replicas <= serve.localizer_min
    assert serve.localizer_cpus + serve.owner_cpus <= int(size["requests"]["cpu"])
    assert group["minReplicas"] == group["replicas"] == serve.localizer_min + serve.segmenter_min
    assert group["maxReplicas"] == serve.localizer_max + serve.segmenter_max
