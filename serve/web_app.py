"""The ASGI application: guard, API, page, health."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers

from serve.audit import AuditLog, AuditTrail
from serve.auth import LOCAL, KeyRing, Principal
from serve.documentation import DocumentedApp
from serve.gateway import Gateway
from serve.guards import Guard, GuardRules
from serve.problems import Problem, install_handlers
from serve.routes import build_router
from serve.schemas import ErrorResponse
from serve.tracing import Traced

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ABOUT = (
    "Finds the turns and images of long conversations that answer a query. Send an API key as"
    " `Authorization: Bearer KEY`; a service without keys answers only its own machine."
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


def create_app(gateway: Gateway, keys: KeyRing | None) -> FastAPI:
    """Join everything that answers HTTP.

    Args:
        gateway: The system behind.
        keys: API keys; None for open access from this machine.
    """
    config = gateway.config
    app = DocumentedApp(
        config,
        title="Fragment search",
        description=ABOUT,
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    install_handlers(app, config.retry_after)
    app.include_router(build_router(gateway))
    _add_health(app, gateway)
    _add_page(app)
    rules = GuardRules(
        load=gateway.load,
        open_access=keys is None,
        max_ongoing=config.max_ongoing,
        retry_after=config.retry_after,
        max_body=lambda path: (
            config.max_dialogue_bytes if path == "/v1/dialogues" else config.max_query_bytes
        ),
        authenticate=lambda headers: authenticate(headers, keys),
        allowed_hosts=config.allowed_hosts,
    )
    app.add_middleware(Guard, rules=rules)
    app.add_middleware(Watch, gateway=gateway)
    app.add_middleware(Traced)
    audit = AuditLog(config.audit)
    if audit.on:
        app.add_middleware(AuditTrail, log=audit)
    return app


def authenticate(headers: Headers, keys: KeyRing | None) -> Principal | None:
    """The owner of the key in `Authorization: Bearer` or `X-API-Key`; None without a valid one."""
    if keys is None:
        return LOCAL
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        key = headers.get("x-api-key", "")
    key = key.strip()
    return keys.find(key) if key else None


class Watch:
    """ASGI middleware that counts and times answers by route."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        """Wrap an application."""
        self._app, self._metrics = app, gateway.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and measure."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), "499"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        with self._metrics.ongoing.track_inprogress():
            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, status).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _add_health(app: FastAPI, gateway: Gateway) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], responses={503: {"model": ErrorResponse}})
    async def readyz() -> JSONResponse:
        """The index answers, so that searches will."""
        ready = False
        with contextlib.suppress(Exception):
            ready = await gateway.ready()
        if not ready:
            return Problem(503, "the index does not answer yet; try again").response()
        return JSONResponse({"status": "ready"})


def _add_page(app: FastAPI) -> None:
    folder = resources.files("serve") / "web"
    files = {
        name: (folder / name).read_bytes()
        for name in sorted(entry.name for entry in folder.iterdir())
        if "." + name.rsplit(".", 1)[-1] in TYPES
    }

    def handler(name: str) -> Callable[[Request], Any]:
        kind = TYPES["." + name.rsplit(".", 1)[-1]]
        tag = f'"{hashlib.sha256(files[name]).hexdigest()[:32]}"'
        headers = {"cache-control": "no-cache", "etag": tag}

        async def answer(request: Request) -> Response:
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(files[name], media_type=kind, headers=headers)

        return answer

    def add(path: str, name: str) -> None:
        methods = ["GET", "HEAD"]
        app.add_api_route(path, handler(name), methods=methods, include_in_schema=False)

    for name in files:
        add(f"/web/{name}", name)
    if "index.html" in files:
        add("/", "index.html")
