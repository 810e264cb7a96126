"""The nightly job that expires old dialogues: a command that exists, with what it needs."""

from pathlib import PurePosixPath
from typing import Any

import pytest
import typer
from test_k8s_build import OVERLAYS, ROOT, manifests

from ffr_core.profile import load_profile


def cron_job(overlay: str) -> dict[str, Any]:
    [job] = manifests(overlay, "CronJob")
    return job


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_command_and_its_options_exist(overlay: str) -> None:
    from jobs.cli import app

    spec = cron_job(overlay)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    words = container["command"]
    assert words[:2] == ["ffrs", "expire"]
    options = {o for p in typer.main.get_command(app).commands["expire"].params for o in p.opts}
    assert {word for word in words if word.startswith("--")} <= options
    profile = words[words.index("--profile") + 1]
    loaded = load_profile(profile, "/data")
    assert loaded.index.token_env in {entry["name"] for entry in container["env"]}
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["volumes"]}
    name = volumes[mounts[f"/opt/ffrs/jobs/configs/{profile}"]]["configMap"]["name"]
    [data] = [x["data"] for x in manifests(overlay, "ConfigMap") if x["metadata"]["name"] == name]
    shipped = ROOT / "jobs" / "configs" / profile / "profile.toml"
    assert data["profile.toml"] == shipped.read_text()
    keys = PurePosixPath(words[words.index("--keys") + 1])
    assert volumes[mounts[str(keys.parent)]]["secret"]["secretName"] == "ffrs-keys"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_is_unprivileged_and_reaches_the_stores(overlay: str) -> None:
    job = cron_job(overlay)
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "memory" in container["resources"]["limits"]
    assert container["image"].rpartition("/")[2].startswith("ffrs:")
    allowed = [
        source["podSelector"]["matchLabels"].items()
        for policy in manifests(overlay, "NetworkPolicy")
        if policy["metadata"]["name"] == "stores"
        for rule in policy["spec"]["ingress"]
        for source in rule["from"]
        if "podSelector" in source
    ]
    assert any(labels <= template["metadata"]["labels"].items() for labels in allowed)
    [budget] = [
        x for x in manifests(overlay, "PodDisruptionBudget")
        if x["metadata"]["name"] == "ffrs-workers"
    ]  # fmt: skip
    chosen = budget["spec"]["selector"]["matchLabels"].items()
    assert not chosen <= template["metadata"]["labels"].items()
