"""Connect to Ray: the cluster that a job runs on, or an own local one that ends with us."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Use the Ray of this process, else of `RAY_ADDRESS` (a submitted job), else a local one.

    A Ray that someone else runs on this machine is never joined by accident. The local one has its
    own ports and temporary folder and is shut down at the end.
    """
    # An error line of Ray's core about a harmless property of Ray Data's own workers.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    if ray.is_initialized():
        yield
        return
    # Announcements: tokens are on, a data set took so long. Set after ray.data set its own levels.
    for name in ("ray._private.authentication.authentication_token_setup", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    common = {"log_to_driver": False, "logging_level": "warning"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**common)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ffrs-") as folder:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            _temp_dir=folder,
            object_store_memory=1_000_000_000,
            **common,
        )
        try:
            yield
        finally:
            ray.shutdown()


def free_port() -> int:
    """A TCP port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
