"""The Ray Serve deployments: ingress, index owner, localizers, boundary model.

A localizer that runs a vision-language model holds an engine; the boundary model shares it where
both name the same `[engine]` table, else it has processes of its own.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from ffr_core.engine.lazy import engine_died, engine_fingerprint
from ffr_core.generation import Completion, GenerationRequest
from ffr_core.operations.logs import setup_logs
from ffr_core.parts import build_image_reader
from ffr_core.profile import Profile
from ffr_core.types import Localization
from serve.auth import KeyRing
from serve.engine_worker import EngineLocalizer, EngineWorker
from serve.gateway import Gateway
from serve.remote import RemoteLocalizer, RemoteOwner
from serve.remote_engine import Pending, RemoteEngine
from serve.routing import ROUTER, WRITE_ROUTER
from serve.tracing import log_facts
from serve.versions import AdapterVersion, localizer_engine
from serve.web_app import create_app
from serve.workers import Group, IndexWorker, LocalizeWorker, Returned

OWNER, LOCALIZER, SEGMENTER, INGRESS = "IndexOwner", "Localizer", "Segmenter", "Ingress"
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Access logs hold addresses, and addresses hold dialogue ids."""
INGRESS_QUEUE = 64
"""Requests that may wait for an ingress, for each that it works on. Ray Serve drops what is beyond
with plain text; the ingress, which they reach soon, says what is wrong and when to come back."""
HEALTH_PERIOD = 5.0
"""Seconds between two looks at a process that holds an engine."""


class Owner(IndexWorker):
    """The index as a deployment."""

    def __init__(self, profile: dict[str, Any], segmenter: DeploymentHandle | None = None) -> None:
        parsed = Profile.model_validate(profile)
        setup_logs(parsed.logs, OWNER, log_facts)
        super().__init__(parsed, _remote_engine(parsed, segmenter))

    def __del__(self) -> None:
        """Serve calls this when the replica is asked to stop."""
        if hasattr(self, "_index"):
            self.close()


class Localizer(LocalizeWorker):
    """A localizer without an engine as a deployment."""

    def __init__(self, profile: dict[str, Any]) -> None:
        parsed = Profile.model_validate(profile)
        setup_logs(parsed.logs, LOCALIZER, log_facts)
        super().__init__(parsed)


class EngineReplica:
    """A localizer with an engine as a deployment; a process whose engine died ends at once."""

    async def __init__(self, profile: dict[str, Any]) -> None:  # type: ignore[misc]
        parsed = Profile.model_validate(profile)
        setup_logs(parsed.logs, LOCALIZER, log_facts)
        self._worker = await EngineLocalizer.open(parsed, end_process)

    async def localize(self, group: Group) -> list[Localization | None]:
        """Read candidates."""
        return await self._worker.localize(group)

    async def ready(self) -> bool:
        """Whether this process answers."""
        return True

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer a request of the boundary model."""
        return await _answer(self._worker, request)

    async def load_version(self, version: AdapterVersion) -> Returned[list[str]]:
        """Bring an adapter version into memory."""
        return await self._worker.load_version(version)

    async def state(self) -> dict[str, Any]:
        """What this process has done and holds."""
        return {
            "pid": os.getpid(),
            "versions": self._worker.versions,
            "counts": dict(self._worker.counts),
            "tokens": dict(self._worker.tokens),
        }

    async def __del__(self) -> None:
        """Serve calls this when the replica is asked to stop."""
        if hasattr(self, "_worker"):
            await self._worker.close()


class SegmenterReplica:
    """The boundary model on an engine of its own."""

    async def __init__(self, profile: dict[str, Any]) -> None:  # type: ignore[misc]
        parsed = Profile.model_validate(profile)
        setup_logs(parsed.logs, SEGMENTER, log_facts)
        config = parsed.segmenter.engine or parsed.engine
        self._worker = await EngineWorker.start(config, parsed)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer a request."""
        return await _answer(self._worker, request)

    async def __del__(self) -> None:
        """Serve calls this when the replica is asked to stop."""
        if hasattr(self, "_worker"):
            await self._worker.close()


async def _answer(worker: EngineWorker, request: GenerationRequest) -> Completion:
    try:
        return await worker.generate(request)
    except Exception as error:
        if engine_died(error):
            end_process()
        raise


def end_process() -> None:
    """Leave at once, so that no more requests come here; Serve starts another process."""
    os._exit(1)


def _remote_engine(profile: Profile, handle: DeploymentHandle | None) -> RemoteEngine | None:
    if handle is None:
        return None
    config = profile.segmenter.engine or profile.engine

    def call(request: GenerationRequest) -> Pending:
        pending: Pending = handle.generate.remote(request)
        return pending

    fingerprint = engine_fingerprint(config, build_image_reader(profile))
    return RemoteEngine(call, fingerprint, profile.serve.write_timeout)


@serve.ingress()
class Ingress:
    """Answers HTTP."""

    def __init__(
        self,
        profile: dict[str, Any],
        keys: str | None,
        secret: bytes,
        owner: DeploymentHandle,
        localizer: DeploymentHandle,
    ) -> None:
        parsed = Profile.model_validate(profile)
        setup_logs(parsed.logs, INGRESS, log_facts)
        config = parsed.serve
        remote = RemoteLocalizer(localizer, config.retry_after, runs_engine(parsed))
        self._gateway = Gateway(
            parsed,
            RemoteOwner(owner, config.retry_after),
            remote.localize,
            secret,
            remote.load,
            remote.ready,
        )
        self._keys = KeyRing(keys) if keys else None
        if config.metrics_port:
            self._gateway.metrics.listen(config.metrics_host, config.metrics_port)

    async def drain(self) -> None:
        """Finish what is begun; the parts behind are still there meanwhile."""
        await self._gateway.drain()

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor."""
        return create_app(self._gateway, self._keys)


def runs_engine(profile: Profile) -> bool:
    """Whether the localizer runs a vision-language model."""
    return profile.localizer.kind == "f2rvlm"


def shares_engine(profile: Profile) -> bool:
    """Whether the boundary model is one more adapter of the localizer's engine."""
    config = profile.segmenter.engine or profile.engine
    return runs_engine(profile) and config == localizer_engine(profile)


def build_application(profile: Profile, keys: Path | None) -> Application:
    """Wire the deployments with the profile's numbers."""
    config, values = profile.serve, profile.model_dump(mode="json")
    common = _common(profile)
    localizer = _localizer(profile, common).bind(values)
    owner = serve.deployment(Owner).options(
        name=OWNER,
        num_replicas=1 if profile.index.is_lite else config.owner_replicas,
        ray_actor_options={"num_cpus": config.owner_cpus, "num_gpus": config.owner_gpus},
        # Writes that wait for each other take no place from searches.
        max_ongoing_requests=config.owner_threads * 4
        + config.max_ongoing * config.ingress_replicas,
        max_queued_requests=config.max_ongoing * 2,
        request_router_config=RequestRouterConfig(request_router_class=WRITE_ROUTER),
        **common,
    )
    segmenter = None
    if profile.segmenter.kind == "vlm":
        shared = shares_engine(profile)
        segmenter = localizer if shared else _segmenter(profile, common).bind(values)
    ingress = serve.deployment(Ingress).options(
        name=INGRESS,
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": config.ingress_cpus},
        max_ongoing_requests=config.max_ongoing * 4,
        max_queued_requests=config.max_ongoing * INGRESS_QUEUE,
        **common,
    )
    secret = secrets.token_bytes(32)
    return ingress.bind(
        values,
        str(keys) if keys else None,
        secret,
        owner.bind(values, segmenter) if segmenter else owner.bind(values),
        localizer,
    )


def _common(profile: Profile) -> dict[str, Any]:
    config = profile.serve
    return {
        "logging_config": QUIET,
        "backpressure_config": BackpressureConfig(
            status_code=429, retry_after_s=config.retry_after
        ),
        "graceful_shutdown_timeout_s": config.drain_timeout,
        "graceful_shutdown_wait_loop_s": 0.2,
    }


def _localizer(profile: Profile, common: dict[str, Any]) -> Any:
    config = profile.serve
    options: dict[str, Any] = {
        "name": LOCALIZER,
        "ray_actor_options": {
            "num_cpus": config.localizer_cpus,
            "num_gpus": config.localizer_gpus,
        },
        "autoscaling_config": AutoscalingConfig(
            min_replicas=config.localizer_min,
            initial_replicas=config.localizer_min,
            max_replicas=max(config.localizer_min, config.localizer_max),
            target_ongoing_requests=config.localizer_target or config.localizer_ongoing,
            upscale_delay_s=config.upscale_delay,
            downscale_delay_s=config.downscale_delay,
        ),
        "max_ongoing_requests": config.localizer_ongoing,
        "max_queued_requests": config.max_ongoing * config.max_candidates,
        **common,
    }
    if not runs_engine(profile):
        return serve.deployment(Localizer).options(**options)
    return serve.deployment(EngineReplica).options(
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        health_check_period_s=HEALTH_PERIOD,
        **options,
    )


def _segmenter(profile: Profile, common: dict[str, Any]) -> Any:
    config = profile.serve
    return serve.deployment(SegmenterReplica).options(
        name=SEGMENTER,
        ray_actor_options={
            "num_cpus": config.segmenter_cpus,
            "num_gpus": config.segmenter_gpus,
        },
        autoscaling_config=AutoscalingConfig(
            min_replicas=config.segmenter_min,
            initial_replicas=config.segmenter_min,
            max_replicas=max(config.segmenter_min, config.segmenter_max),
            target_ongoing_requests=config.localizer_ongoing,
            upscale_delay_s=config.upscale_delay,
            downscale_delay_s=config.downscale_delay,
        ),
        max_ongoing_requests=config.localizer_ongoing,
        max_queued_requests=config.max_ongoing * config.max_candidates,
        **common,
    )
