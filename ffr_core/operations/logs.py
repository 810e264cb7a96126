"""Logs as JSON lines: time, level, place, message, and what the caller knows about the request.

Exceptions are written as their kind and where they came from, without their text, which may quote
a person's words.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from ffr_core.operations.config import LogConfig

PACKAGES = ("ffr_core", "serve", "jobs")
"""Loggers that are set up; those of libraries stay as they are."""
RUN_ID = uuid.uuid4().hex[:12]
"""Names this process in the lines of a job."""
Facts = Callable[[], Mapping[str, str]]


def no_facts() -> Mapping[str, str]:
    """Nothing is known."""
    return {}


class JsonFormatter(logging.Formatter):
    """One JSON object a record; `extra={"facts": {...}}` adds fields."""

    def __init__(self, component: str, facts: Facts = no_facts) -> None:
        """Name the process and say where to ask for the ids of the current request."""
        super().__init__()
        self._component, self._facts = component, facts

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line break inside."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "component": self._component,
            "message": record.getMessage(),
            **self._facts(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            values["error"] = record.exc_info[0].__name__
            values["frames"] = [
                f"{frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(values, ensure_ascii=False)


def setup_logs(
    config: LogConfig, component: str, facts: Facts = no_facts, stream: TextIO | None = None
) -> None:
    """Write what our packages log as JSON lines; `text` leaves Python's logging as it is.

    Args:
        config: Format and level.
        component: Name of the process, such as `Ingress`.
        facts: Ids of the current request, asked for each record.
        stream: Instead of the standard error.
    """
    if config.format == "text":
        return
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(component, facts))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(config.level)
        logger.propagate = False


def tell(config: LogConfig, component: str, text: str, facts: Mapping[str, object]) -> None:
    """Tell a job's progress on the standard error: text for people, or JSON with the numbers."""
    if config.format == "json":
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        about = {"time": time, "component": component, "run_id": RUN_ID}
        text = json.dumps({**about, "message": text, **facts}, ensure_ascii=False)
    print(text, file=sys.stderr, flush=True)
