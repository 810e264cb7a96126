"""Routes of whoever runs the service: which version of the localizer reads."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from serve.gateway import Gateway
from serve.reading import caller
from serve.schemas import LocalizerRequest, LocalizerResponse


def add_administration(router: APIRouter, gateway: Gateway) -> None:
    """Add the routes; they need the scope `admin`."""

    @router.get("/localizer", response_model=LocalizerResponse, tags=["administration"])
    async def localizer(request: Request) -> dict[str, Any]:
        """Tell which adapter localizes; answers carry its version."""
        caller(request, "admin")
        version = await gateway.localizer()
        return {"adapter": version.name, "path": version.path, "calibration": version.calibration}

    @router.put("/localizer", response_model=LocalizerResponse, tags=["administration"])
    async def roll_over(request: Request, body: LocalizerRequest) -> dict[str, Any]:
        """Roll over to another adapter, for all tenants, without a pause.

        Every localizer process loads it and proves that it acts; then searches that start use it,
        and those that run end with the version they began with. On an error nothing changes.
        """
        caller(request, "admin")
        version, before, replicas = await gateway.roll_over(body.path, body.calibration)
        return {
            "adapter": version.name,
            "path": version.path,
            "calibration": version.calibration,
            "previous": before.name,
            "replicas": replicas,
        }
