"""What every request passes before it is read: origin, media type, size, load; and headers out.

Plain ASGI, so that a large body is refused while it arrives and streams are not buffered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders

from serve.auth import Principal
from serve.problems import Problem, log_failure, problem_of
from serve.runtime import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
DRAIN_BYTES = 32_000_000
"""An oversized body up to this size is read to its end, so that the caller sees the answer."""
DRAIN_SECONDS = 5.0
"""How long that may take; a caller who announces a body and sends none is answered then."""


def missing_key() -> Problem:
    """The answer to a caller without a valid key."""
    return Problem(401, "send a valid API key as Authorization: Bearer KEY")


@dataclass(slots=True)
class Load:
    """What one ingress process is doing."""

    ongoing: int = 0
    """Requests to the API that are being answered."""
    draining: bool = False
    """The process is about to stop: it finishes what it has and takes nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """What the guard enforces."""

    load: Load
    open_access: bool
    """There are no keys: only this machine may call, and no other web page."""
    max_ongoing: int
    retry_after: int
    max_body: Callable[[str], int]
    """Path -> most bytes of a body."""
    authenticate: Callable[[Headers], Principal | None]
    """Who calls; None for a caller without a valid key."""
    allowed_hosts: tuple[str, ...] = ()


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, rules: GuardRules) -> None:
        """Wrap an application."""
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self._rules.max_body(scope["path"]))
        outgoing = _Outgoing(send)
        try:
            with self._counted(scope) as counted:
                self._check_caller(scope, headers)
                self._check_load(counted)
                self._check_key(scope, headers)
                self._check_media_type(scope, headers)
                body.check_declared(headers)
                await self._app(scope, body.receive, outgoing.send)
        except Exception as error:
            if outgoing.started:
                log_failure(error)
                raise ConnectionAbortedError("an answer broke off after it had begun") from None
            problem = problem_of(error, self._rules.retry_after)
            await body.drain()
            await problem.response()(scope, receive, outgoing.send)

    @contextlib.contextmanager
    def _counted(self, scope: Scope) -> Iterator[bool]:
        """Count a request to the API as ongoing; yields whether it is one."""
        counted = scope["path"].startswith("/v1/")
        self._rules.load.ongoing += counted
        try:
            yield counted
        finally:
            self._rules.load.ongoing -= counted

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        host = (_split("//" + headers.get("host", "")).hostname or "").lower()
        allowed = tuple(name.lower() for name in self._rules.allowed_hosts)
        if allowed and host not in allowed and not is_loopback(host):
            raise Problem(403, "this service does not answer under this host name", "bad_host")
        if not self._rules.open_access:
            return
        client = scope.get("client")
        if client and client[0] and not is_loopback(str(client[0])):
            raise Problem(
                403, "without API keys this service answers only its own machine", "not_local"
            )
        if not allowed and not is_loopback(host):
            raise Problem(403, "without API keys call this service as localhost", "bad_host")
        origin = headers.get("origin")
        if origin is not None and _split(origin).netloc != headers.get("host", ""):
            raise Problem(403, "another web page may not call this service", "bad_origin")
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"].startswith("/v1/"):
            raise Problem(403, "another web page may not call this service", "bad_origin")

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        principal = self._rules.authenticate(headers)
        scope.setdefault("state", {})["principal"] = principal
        if principal is None and scope["method"] not in ("GET", "HEAD"):
            raise missing_key()

    def _check_load(self, counted: bool) -> None:
        seconds = self._rules.retry_after
        if counted and self._rules.load.draining:
            raise Problem(503, "the service is stopping; try again soon", None, seconds)
        if counted and self._rules.load.ongoing > self._rules.max_ongoing:
            raise Problem(429, f"the service is full; try again in {seconds} s", None, seconds)

    def _check_media_type(self, scope: Scope, headers: Headers) -> None:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "send the body as JSON with Content-Type: application/json")
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity"):
            raise Problem(
                415,
                f"the body has Content-Encoding {coding!r:.60}; send it without one",
                "bad_encoding",
                headers={"accept-encoding": "identity"},
            )


def _split(address: str) -> SplitResult:
    """Parts of an address; none of one that is none, such as `[`."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


class _Body:
    """Counts what arrives and stops at the limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._declared, self._seen, self._ended = 0, 0, False

    def check_declared(self, headers: Headers) -> None:
        """Refuse by Content-Length alone, before anything is read."""
        declared = headers.get("content-length", "0")
        self._declared = int(declared) if declared.isdigit() else 0
        if self._declared > self._limit:
            raise self._too_large(f"{self._declared} bytes")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._seen > self._limit:
                await self.drain()
                raise self._too_large(f"over {self._limit} bytes")
        else:
            self._ended = True
        return message

    async def drain(self) -> None:
        """Read and forget the rest, unless it is more than DRAIN_BYTES or takes too long."""
        if self._declared > DRAIN_BYTES:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._ended and self._seen <= DRAIN_BYTES:
                    message = await self._receive()
                    self._seen += len(message.get("body", b""))
                    self._ended = not message.get("more_body", False)

    def _too_large(self, found: str) -> Problem:
        return Problem(413, f"the body has {found}, at most {self._limit} are allowed; send less")


class _Outgoing:
    """Adds the security headers to every answer."""

    def __init__(self, send: Send) -> None:
        self._send, self.started = send, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
