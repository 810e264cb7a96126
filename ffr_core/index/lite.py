"""The child process behind a Milvus Lite file: its lock, its start and its end.

Two things are ours here: a lock beside the file (the library's own second opener removes the first
one's lock, after which a third would damage the file), and waiting until the child listens. The
library waits half a second and its first call does not wait at all, so on a busy machine a healthy
child is reported as a server that cannot be reached.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from ffr_core.errors import BusyError, ConfigError, FfrError

_LAST_WAIT = 60.0
_LITE_NAME = re.compile(r"[A-Za-z0-9._-]{1,33}\.db")


def lock_file(path: Path) -> IO[str]:
    """Own the file: a lock of its own that goes away with this process.

    Raises:
        BusyError: The file is open, in this process or another.
        ConfigError: A name that Lite cannot use.
    """
    if not _LITE_NAME.fullmatch(path.name):
        raise ConfigError(
            f"Milvus Lite cannot use a file named {path.name!r}; choose at most 36 characters of"
            " A-Z a-z 0-9 . _ - that end in .db"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.owner").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise BusyError(
            f"the index file {path} is open in another process or object; end that one (a running"
            " `ffrs serve` holds it), or use a Milvus server, which many processes may share"
        ) from error
    return lock


def start_child(path: Path, timeout: float) -> None:
    """Start the child and wait until it listens; one that outlives a killed owner is waited for.

    Args:
        path: The Lite file.
        timeout: Seconds until the child must listen.

    Raises:
        BusyError: The child ends at once, ten times in a row.
        FfrError: It does not listen in time.
    """
    os.environ.setdefault("HOME", str(path.parent.absolute()))  # the child dies without one
    for _ in range(10):
        uri = _manager().start_and_get_uri(str(path))
        if uri is not None and _listens(uri, path, timeout):
            return
        release_child(path)
        time.sleep(0.3)
    raise BusyError(
        f"Milvus Lite does not start on {path}; another program holds the file or it is damaged,"
        " so end that program or restore the file"
    )


def release_child(path: Path) -> None:
    """End the child of a file, if there is one.

    The library gives a child that it killed three seconds to go; on a busy machine it gets
    `_LAST_WAIT` more.
    """
    manager = _manager()
    key = str(path.absolute().resolve())
    if key not in manager._servers:
        return
    child = manager._servers[key]._p
    try:
        manager.release_server(key)
    except subprocess.TimeoutExpired:
        child.wait(timeout=_LAST_WAIT)
        manager.release_server(key)


def _listens(uri: str, path: Path, timeout: float) -> bool:
    """Wait until the child's socket takes connections; False when the child has ended."""
    address = uri.removeprefix("unix:")
    if address == uri:  # releases without a child of their own
        return True
    child = _manager()._servers[str(path.absolute().resolve())]._p
    deadline = time.monotonic() + timeout
    while child.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address)
                return True
            except OSError:
                if time.monotonic() > deadline:
                    break
        time.sleep(0.05)
    else:
        return False
    raise FfrError(
        f"Milvus Lite started on {path} but does not listen after {timeout:.0f} s; the machine may"
        " be overloaded, so try again when it is less busy"
    )


def _manager() -> Any:
    """milvus-lite's own manager of its children.

    The package asks `pkg_resources`, which recent setuptools releases lack, for its own version
    and for nothing else: it gets a stand-in while it is imported.
    """
    name = "pkg_resources"
    if "milvus_lite" not in sys.modules and name not in sys.modules:
        stand_in: Any = ModuleType(name)
        stand_in.DistributionNotFound = PackageNotFoundError
        stand_in.get_distribution = distribution
        sys.modules[name] = stand_in
        try:
            import milvus_lite  # noqa: F401
        finally:
            del sys.modules[name]
    from milvus_lite.server_manager import server_manager_instance

    return server_manager_instance
