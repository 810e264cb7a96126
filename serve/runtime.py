"""Connect to Ray, and small facts about addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from ffr_core.errors import BusyError


@contextlib.contextmanager
def ray_session(
    num_cpus: int | None = None, object_store_bytes: int = 300_000_000
) -> Iterator[None]:
    """Use the Ray of this process, else of `RAY_ADDRESS`, else a local one ended by this block.

    A Ray that someone else runs on this machine is never joined by accident. The local one has its
    own ports and temporary folder and reports nothing to anybody.

    Args:
        num_cpus: Of the local Ray; those of the machine when left out.
        object_store_bytes: Of the local Ray. Ray Data holds back what would not fit, so many
            workers need more.
    """
    # An error line of Ray's core about a harmless property of Ray Data's own workers.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    if ray.is_initialized():
        yield
        return
    # It announces that tokens are on, which is as it should be.
    announcer = "ray._private.authentication.authentication_token_setup"
    logging.getLogger(announcer).setLevel(logging.ERROR)
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "warning",
        "namespace": "ffrs",
    }
    if os.environ.get("RAY_ADDRESS"):
        with _without_level_line():
            ray.init(**common)
        try:
            yield
        finally:
            ray.shutdown()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="ffrs-", ignore_cleanup_errors=True) as folder:
        local = {"num_cpus": num_cpus, "object_store_memory": object_store_bytes, **common}
        _start_local(folder, local)
        try:
            yield
        finally:
            ray.shutdown()


def _start_local(folder: str, options: dict[str, Any]) -> None:
    """Start a Ray of our own; once more when its own 30 s limit is too short for a busy machine."""
    import ray

    again = f"{folder}/2"
    for place in (folder, again):
        try:
            with _without_level_line():
                ray.init(address="local", include_dashboard=False, _temp_dir=place, **options)
            return
        except Exception as error:
            if "timed out during startup" not in str(error) or place == again:
                raise
            ray.shutdown()


@contextlib.contextmanager
def _without_level_line() -> Iterator[None]:
    """Hold back the line in which Ray's core announces the log level that it was given."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)  # the core is no Python: it writes to the descriptor
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if b"Set ray log level from environment variable" not in line:
                    os.write(2, line)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Raise BusyError when an address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BusyError(
                f"cannot listen on {host} port {port} ({error.strerror});"
                " choose another with --port or stop what uses it"
            ) from error


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return False
