"""The audit log: who read or deleted which dialogues. Ids and counts, never texts or queries.

One JSON object a line: time, request id, tenant, the key's name, method, route, status, and what
the route notes: ids of dialogues, number of a picture, counts. Refused calls are lines too.
Rotation is the platform's: a file that was renamed or removed is opened anew for the next line.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.tracing import request_id

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

STDOUT = "stdout"
_STATE = "audit"


class AuditLog:
    """Where lines go; several threads and processes may write to one file."""

    def __init__(self, target: str) -> None:
        """Open a target: nothing for an empty one, `stdout`, or the path of a file."""
        self._handler: logging.Handler | None = None
        if target == STDOUT:
            self._handler = logging.StreamHandler(sys.stdout)
        elif target:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self._handler = logging.handlers.WatchedFileHandler(target, encoding="utf-8")

    @property
    def on(self) -> bool:
        """Whether lines go anywhere."""
        return self._handler is not None

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write one line, with the time."""
        if self._handler is None:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, **entry}, ensure_ascii=False)
        record = logging.LogRecord("audit", logging.INFO, "", 0, line, None, None)
        self._handler.handle(record)


def note(request: Request, *, dialogue_ids: Sequence[str] = (), **numbers: int | str) -> None:
    """Tell the log what a request touched: ids, counts, one of our own words. Adds up."""
    noted = request.scope["state"].setdefault(_STATE, {"dialogue_ids": []})
    noted["dialogue_ids"].extend(dialogue_ids)
    noted.update(numbers)


class AuditTrail:
    """ASGI middleware outside of the guard: one line for each call of the API."""

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        """Wrap an application."""
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; write when the answer has ended or broken off."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        status = 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._log.write(_entry(scope, status))


def _entry(scope: Scope, status: int) -> dict[str, Any]:
    state = scope.get("state", {})
    principal = state.get("principal")
    noted = state.get(_STATE, {})
    return {
        "request_id": request_id(scope),
        "tenant": noted.get("tenant", principal.tenant if principal else None),
        "key": principal.name if principal else None,
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", "other"),
        "status": status,
        **{name: value for name, value in noted.items() if name != "tenant"},
    }
