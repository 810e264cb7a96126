"""Traces of a search through ingress, recall, localize and aggregate, with OpenTelemetry.

Ray Serve itself carries the trace context over its handles; here are the exporter that it asks for
and the spans of our own steps, inside the trace that a caller's header `traceparent` names. Nothing
happens, and no library is loaded, unless the standard variable OTEL_EXPORTER_OTLP_ENDPOINT names a
collector (`http://host:4318`, needs the extra `trace`) or a file (`file:///folder/spans.jsonl`, one
span a line). OTEL_TRACES_SAMPLER_ARG is the share of searches that are traced, 1 when left out. Our
spans hold counts, no ids and no texts.

A RayService takes the same from the environment of its pods; see `k8s/README.md`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from ffr_core.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from starlette.types import ASGIApp, Receive, Scope, Send

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SHARE = "OTEL_TRACES_SAMPLER_ARG"
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_state = {"on": False}


def endpoint() -> str:
    """Where spans go; empty: nowhere."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")


def tracing_config() -> dict[str, Any] | None:
    """What `serve.start` takes; None when there is no endpoint or no exporter.

    Raises:
        ConfigError: The share is no number from 0 to 1.
    """
    if not endpoint() or not _can_export():
        return None
    text = os.environ.get(SHARE) or "1"
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{SHARE} is {text!r}; use a share from 0 to 1")
    path = f"{__name__}:{span_processors.__name__}"
    return {"enabled": True, "exporter_import_path": path, "sampling_ratio": share}


def span_processors() -> list[SpanProcessor]:
    """Called by Ray Serve in each of its processes."""
    if not endpoint() or not _can_export():
        return []
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    switch_on()
    if endpoint().startswith("file:"):
        return [SimpleSpanProcessor(_file_exporter(unquote(urlparse(endpoint()).path)))]
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return [BatchSpanProcessor(OTLPSpanExporter())]


def switch_on(on: bool = True) -> None:
    """Make `span` record in this process; an exporter was set up, or was taken away."""
    _state["on"] = on


@contextlib.contextmanager
def _recorded(name: str, numbers: Mapping[str, int | float | str]) -> Iterator[None]:
    from opentelemetry import trace

    attributes = {f"ffrs.{key}": value for key, value in numbers.items()}
    with trace.get_tracer("ffrs").start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            raise


def span(name: str, **numbers: int | float | str) -> contextlib.AbstractContextManager[None]:
    """A step of a search inside the current trace; nothing at all when tracing is off."""
    return _recorded(name, numbers) if _state["on"] else _NOTHING


_NOTHING = contextlib.nullcontext()


class Traced:
    """ASGI middleware: a call of the API is a span `ingress` of the caller's trace, if it has one.

    Serve's own span of the call begins a trace of its own when Serve is told of tracing by
    `serve.start`: its proxies, which would read the header, are not.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on inside a span; a health check has none."""
        if not _state["on"] or scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        from opentelemetry.context import attach, detach

        token = attach(_callers_context(dict(scope["headers"])))
        try:
            with span("ingress", method=scope["method"]):
                await self._app(scope, receive, send)
        finally:
            detach(token)


def _callers_context(headers: Mapping[bytes, bytes]) -> Context:
    """The context of the header `traceparent`; the current one where that is inside it already."""
    from opentelemetry import trace
    from opentelemetry.context import get_current
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    names = ("traceparent", "tracestate")
    carrier = {name: headers.get(name.encode(), b"").decode("latin-1") for name in names}
    asked = TraceContextTextMapPropagator().extract(carrier, get_current())
    theirs = trace.get_current_span(asked).get_span_context()
    ours = trace.get_current_span().get_span_context()
    return get_current() if theirs.trace_id == ours.trace_id else asked


def request_id(scope: Scope | None = None) -> str:
    """Id of the current request: Ray Serve's own, else one that stays with the ASGI scope."""
    from ray.serve.context import _get_serve_request_context

    known: str = _get_serve_request_context().request_id
    if known or scope is None:
        return known
    made: str = scope.setdefault("state", {}).setdefault("request_id", uuid.uuid4().hex)
    return made


def log_facts() -> dict[str, str]:
    """Request id and trace id for a line of a log, as far as there are any."""
    facts = {"request_id": request_id()}
    if _state["on"]:
        from opentelemetry import trace

        current = trace.get_current_span().get_span_context()
        if current.is_valid:
            facts["trace_id"] = f"{current.trace_id:032x}"
    return {name: value for name, value in facts.items() if value}


def _can_export() -> bool:
    if endpoint().startswith("file:"):
        return True
    try:
        return importlib.util.find_spec(EXPORTER) is not None
    except ModuleNotFoundError:
        return False


def _file_exporter(path: str) -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    return ConsoleSpanExporter(out=file, formatter=lambda each: each.to_json(indent=None) + "\n")
