"""Errors as JSON: `{"error": {"code", "message"}}`, one clear sentence, never a person's text."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from typing import Any

import fastapi
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ffr_core.errors import (
    BusyError,
    FfrError,
    FingerprintError,
    ForbiddenError,
    InputError,
    LimitError,
    NotFoundError,
)

logger = logging.getLogger(__name__)

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "not_json",
    422: "invalid",
    429: "overloaded",
    503: "unavailable",
    504: "timeout",
}


_IN_JSON = {
    "extra_forbidden": "there is no such field; check how it is spelled",
    "tuple_type": "Input should be a list",
    "list_type": "Input should be a list",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "timezone_aware": "a time needs a zone, such as Z",
}
"""What pydantic says in Python's words, in those of JSON."""


class DeletedError(InputError):
    """A dialogue that was deleted cannot be added without saying so."""


_STATUS: tuple[tuple[type[FfrError], int], ...] = (
    (ForbiddenError, 403),
    (LimitError, 413),
    (DeletedError, 409),
    (InputError, 422),
    (NotFoundError, 404),
    (BusyError, 429),
    (FingerprintError, 503),
)


_RESTARTS = (
    "ActorDiedError",
    "ActorUnavailableError",
    "DeploymentUnavailableError",
    "RayActorError",
    "ReplicaUnavailableError",
)
"""Errors of Ray that say that a process ended, or cannot be reached for a while."""


class Problem(fastapi.HTTPException):
    """An answer that is not 2xx. FastAPI lets its own kind pass where it hides other errors."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status, self.message, self.retry_after = status, message, retry_after
        self.code = code or _CODES.get(status, "error")
        self.headers = {"cache-control": "no-store", **(headers or {})}
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if status == 401:
            self.headers["www-authenticate"] = "Bearer"

    @property
    def body(self) -> dict[str, Any]:
        """The JSON form."""
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        """As an HTTP answer."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def problem_of(error: BaseException, retry_after: int = 2) -> Problem:
    """Translate an error; what is not ours becomes a 500 without its text."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, FfrError):
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return Problem(status, str(error), retry_after=retry_after if status == 429 else None)
    if type(error).__name__ == "BackPressureError":
        return Problem(
            429, f"the service is full; try again in {retry_after} s", retry_after=retry_after
        )
    if isinstance(error, TimeoutError):
        return Problem(504, "the service did not finish in time; try again")
    if type(error).__name__ in _RESTARTS:
        return Problem(503, "a part of the service restarts; try again in a few seconds")
    log_failure(error)
    return Problem(500, "the service failed on this request; its log says where", "internal")


def log_failure(error: BaseException) -> None:
    """Log the kind of an error and where it came from, without its text, which may be private."""
    frames = "\n".join(
        f"  {frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    cause = getattr(error, "cause", None)
    logger.error(
        "%s%s\n%s", type(error).__name__, f" from {type(cause).__name__}" if cause else "", frames
    )


def describe_validation(problems: list[Mapping[str, Any]]) -> Problem:
    """One sentence for the first wrong field; the count says how many more there are."""
    first = problems[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "a syntax error")
        return _bad_json(reason)
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    message = f"{place}: {_IN_JSON.get(first['type'], str(first['msg'])[:300])}"
    if first["type"] not in ("missing", "extra_forbidden"):
        message += _shown(first.get("input"))
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    return Problem(422, message)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return f", found {json.dumps(value)}"
    short = isinstance(value, str | int | float) and len(str(value)) <= 60
    return f", found {value!r}" if short else ""


def _bad_json(reason: str) -> Problem:
    return Problem(400, f"the body is not valid JSON: {reason}", "bad_json")


def _unread_body(error: BaseException | None) -> Problem | None:
    """The answer to a body on which the JSON reader failed otherwise than by its syntax."""
    if isinstance(error, UnicodeDecodeError):
        return _bad_json("it is not UTF-8")
    if isinstance(error, RecursionError):
        return _bad_json("it is nested too deeply")
    return _bad_json("a number has too many digits") if isinstance(error, ValueError) else None


def allowed_methods(request: Request) -> str:
    """The `Allow` header: the methods of all routes of an address."""
    methods = {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
    return ", ".join(sorted(methods))


def install_handlers(app: FastAPI, retry_after: int) -> None:
    """Make every failure of the application one of our JSON answers."""

    async def on_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return describe_validation(list(error.errors())).response()

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        unread = _unread_body(error.__cause__) if error.status_code == 400 else None
        if unread is not None:
            return unread.response()
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers = {"allow": allowed_methods(request)}
        text = {
            404: "there is nothing at this address; /openapi.json lists what there is",
            405: "this address does not take this method; /openapi.json lists what it takes",
        }.get(error.status_code, str(error.detail))
        return Problem(error.status_code, text, headers=headers).response()

    async def on_error(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error, retry_after).response()

    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    for kind in (Problem, FfrError, TimeoutError):
        app.add_exception_handler(kind, on_error)
