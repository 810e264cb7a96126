"""Counters for Prometheus, on a port of their own. Names and counts only, no text of anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TRIES = 20
"""Ports tried upwards when several ingress processes share a machine."""


class Metrics:
    """The metrics of one ingress process."""

    def __init__(self) -> None:
        """Make the counters."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ffrs_requests", "Answered requests.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "ffrs_request_seconds",
            "Time until the last byte of an answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.ongoing = Gauge(
            "ffrs_requests_ongoing", "Requests being worked on.", registry=self.registry
        )
        self.searches = Counter(
            "ffrs_searches", "Searches by outcome.", ["outcome"], registry=self.registry
        )
        self.candidates = Counter(
            "ffrs_candidates",
            "Candidates read, tried a second time, missing in an answer.",
            ["outcome"],
            registry=self.registry,
        )
        self.images_refused = Counter(
            "ffrs_images_refused", "Pictures that could not be shown.", registry=self.registry
        )
        self._server: WSGIServer | None = None

    def listen(self, host: str, port: int) -> int:
        """Serve `/metrics`; returns the port, the next free one where several share a machine."""
        for candidate in range(port, port + TRIES):
            try:
                self._server, _ = start_http_server(candidate, host, self.registry)
                return candidate
            except OSError:
                continue
        raise OSError(f"no free port for metrics from {port} to {port + TRIES - 1} on {host}")

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
