"""The three Ray Serve deployments: ingress, index owner, localizers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from ffr_core.profile import Profile
from ffr_core.types import Dialogue, Filters, Header, IndexStats, Localization
from serve.auth import KeyRing
from serve.gateway import Gateway
from serve.problems import Problem
from serve.web_app import create_app
from serve.workers import Added, Group, IndexWorker, LocalizeWorker, Recall, Returned

OWNER, LOCALIZER, INGRESS = "IndexOwner", "Localizer", "Ingress"
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Access logs hold addresses, and addresses hold dialogue ids."""


class Owner(IndexWorker):
    """The index as a deployment."""

    def __init__(self, profile: dict[str, Any]) -> None:
        super().__init__(Profile.model_validate(profile))

    def __del__(self) -> None:
        """Serve calls this when the replica is asked to stop."""
        if hasattr(self, "_index"):
            self.close()


class Localizer(LocalizeWorker):
    """A localizer as a deployment."""

    def __init__(self, profile: dict[str, Any]) -> None:
        super().__init__(Profile.model_validate(profile))


class RemoteOwner:
    """`gateway.Owner` over a deployment handle."""

    def __init__(self, handle: DeploymentHandle, retry_after: int) -> None:
        self._handle, self._retry_after = handle, retry_after

    async def recall(
        self, tenant: str, query: str, filters: Filters, num_candidates: int
    ) -> Returned[Recall]:
        """Search."""
        call = self._handle.recall.remote(tenant, query, filters, num_candidates)
        return await finish(call, self._retry_after)

    async def header(self, tenant: str, dialogue_id: str) -> Returned[Header | None]:
        """Look up."""
        return await finish(self._handle.header.remote(tenant, dialogue_id), self._retry_after)

    async def add(self, tenant: str, dialogue: Dialogue, restore: bool) -> Returned[Added]:
        """Add or replace."""
        call = self._handle.add.remote(tenant, dialogue, restore)
        return await finish(call, self._retry_after)

    async def delete(self, tenant: str, dialogue_id: str) -> Returned[bool]:
        """Remove."""
        return await finish(self._handle.delete.remote(tenant, dialogue_id), self._retry_after)

    async def stats(self, tenant: str) -> Returned[IndexStats]:
        """Count."""
        return await finish(self._handle.stats.remote(tenant), self._retry_after)

    async def ready(self) -> bool:
        """Answer."""
        ready: bool = await finish(self._handle.ready.remote(), self._retry_after)
        return ready


async def finish(call: Any, retry_after: int) -> Any:
    """Wait for a call; a caller that gives up cancels it, a full queue becomes a 429."""
    try:
        return await call
    except asyncio.CancelledError:
        call.cancel()
        raise
    except BackPressureError:
        raise Problem(
            429, f"the service is full; try again in {retry_after} s", None, retry_after
        ) from None


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
        retry_after = parsed.serve.retry_after

        def localize(group: Group) -> Awaitable[list[Localization | None]]:
            return finish(localizer.localize.remote(group), retry_after)

        self._gateway = Gateway(parsed, RemoteOwner(owner, retry_after), localize, secret)
        self._keys = KeyRing(keys) if keys else None
        config = parsed.serve
        if config.metrics_port:
            self._gateway.metrics.listen(config.metrics_host, config.metrics_port)

    async def drain(self) -> None:
        """Finish what is begun; the parts behind are still there meanwhile."""
        await self._gateway.drain()

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor."""
        return create_app(self._gateway, self._keys)


def build_application(profile: Profile, keys: Path | None) -> Application:
    """Wire the deployments with the profile's numbers."""
    config, values = profile.serve, profile.model_dump(mode="json")
    full = BackpressureConfig(status_code=429, retry_after_s=config.retry_after)
    common = {
        "logging_config": QUIET,
        "backpressure_config": full,
        "graceful_shutdown_timeout_s": config.drain_timeout,
        "graceful_shutdown_wait_loop_s": 0.2,
    }
    owner = serve.deployment(Owner).options(
        name=OWNER,
        num_replicas=1 if profile.index.is_lite else config.owner_replicas,
        ray_actor_options={"num_cpus": config.owner_cpus},
        max_ongoing_requests=config.owner_threads * 4,
        max_queued_requests=config.max_ongoing * 2,
        **common,
    )
    localizer = serve.deployment(Localizer).options(
        name=LOCALIZER,
        ray_actor_options={"num_cpus": config.localizer_cpus, "num_gpus": config.localizer_gpus},
        autoscaling_config=AutoscalingConfig(
            min_replicas=config.localizer_min,
            initial_replicas=config.localizer_min,
            max_replicas=max(config.localizer_min, config.localizer_max),
            target_ongoing_requests=config.localizer_ongoing,
        ),
        max_ongoing_requests=config.localizer_ongoing,
        max_queued_requests=config.max_ongoing * config.max_candidates,
        **common,
    )
    ingress = serve.deployment(Ingress).options(
        name=INGRESS,
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": config.ingress_cpus},
        max_ongoing_requests=config.max_ongoing * 4,
        max_queued_requests=config.max_ongoing * 4,
        **common,
    )
    secret = secrets.token_bytes(32)
    return ingress.bind(
        values, str(keys) if keys else None, secret, owner.bind(values), localizer.bind(values)
    )
