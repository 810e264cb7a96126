"""Start the service: `serve()` for `ffrs serve`, `build` for a cluster's RayService.

import_path: serve.app:build
args: {profile: paper, home: /data, keys: /secrets/keys.toml}
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.config import Config
from ffr_core.errors import ConfigError, ForbiddenError
from ffr_core.profile import Profile, load_profile
from serve.auth import KeyRing
from serve.runtime import check_port, free_port, is_loopback, ray_session
from serve.tracing import tracing_config

if TYPE_CHECKING:
    from ray.serve import Application

logger = logging.getLogger(__name__)
APP = "ffrs"
KEYS_ENV = "FFRS_KEYS"
LOOKS = 50
"""How often, each a tenth of a second, a stopping service looks for its own processes."""


class BuildArgs(Config):
    """Arguments of `build`."""

    profile: str = "laptop"
    """Name or path of a profile."""
    home: str | None = None
    """Data folder; `FFRS_HOME` when left out."""
    keys: str | None = None
    """TOML file of hashed API keys; `FFRS_KEYS` when left out. Without one only this machine is
    answered."""


def build(args: dict[str, Any]) -> Application:
    """The Serve application, for a RayService or `serve run serve.app:build profile=...`."""
    from serve.deployments import build_application

    parsed = BuildArgs.parse(args, "the arguments of serve.app:build")
    profile = load_profile(parsed.profile, parsed.home)
    return build_application(profile, find_keys(parsed.keys))


def find_keys(keys: str | Path | None) -> Path | None:
    """The keys file of the argument or the environment, checked; None when there is none."""
    chosen = keys or os.environ.get(KEYS_ENV)
    if not chosen:
        return None
    path = Path(chosen).expanduser().resolve()
    KeyRing(path)
    return path


def serve(
    profile: str = "laptop",
    *,
    home: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: str | Path | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; running answers are finished first.

    Args:
        profile: Name or path.
        home: Data folder.
        host: Address to listen on; other than this machine's only with keys.
        port: TCP port; 0 takes a free one.
        keys: TOML file of hashed API keys.

    Raises:
        ForbiddenError: The address is open to others and there are no keys.
        BusyError: The port is in use.
        ConfigError: The profile or the keys file is wrong.
    """
    loaded = load_profile(profile, home)
    keys_path = find_keys(keys)
    check_address(host, keys_path)
    port = port or free_port()
    check_port(host, port)
    numbers = loaded.serve
    if not numbers.metrics_port:
        numbers = numbers.model_copy(update={"metrics_port": free_port(numbers.metrics_host)})
        loaded = loaded.model_copy(update={"serve": numbers})
    with ray_session(), stopping() as stop, running(loaded, host, port, keys_path) as url:
        print(f"page:    {url}/\nAPI:     {url}/openapi.json", flush=True)
        print(f"metrics: http://{numbers.metrics_host}:{numbers.metrics_port}/metrics", flush=True)
        print("Ctrl-C stops.", flush=True)
        while not stop.wait(0.5):
            pass
        print("stopping; running answers are finished first", flush=True)
        drain(numbers.drain_timeout)


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second signal ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    names = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(name, on_signal) for name in names]
    try:
        yield stop
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def check_address(host: str, keys: Path | None) -> None:
    """Without keys everybody who can connect could read all dialogues."""
    if keys is None and not is_loopback(host):
        raise ForbiddenError(
            f"without API keys the service listens on this machine only, not on {host!r};"
            " give --keys FILE (make one with `python -m serve.auth new`) or --host 127.0.0.1"
        )


@contextlib.contextmanager
def running(profile: Profile, host: str, port: int, keys: Path | None) -> Iterator[str]:
    """The service on a connected Ray, until the block ends; yields the page's address.

    Raises:
        ConfigError: The cluster serves already, or a part of the service cannot start.
    """
    from ray import serve as ray_serve

    from serve.deployments import QUIET, build_application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if ray_serve.status().proxies:
        raise ConfigError(
            "Ray Serve runs on this cluster already; deploy serve.app:build there, or unset"
            " RAY_ADDRESS to start a Ray of your own"
        )
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port},
        logging_config=QUIET,
        tracing_config=tracing_config(),
    )
    try:
        try:
            ray_serve.run(build_application(profile, keys), name=APP, route_prefix="/")
        except RuntimeError as error:
            raise ConfigError(f"the service did not start: {_reason(error)}") from error
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        ray_serve.delete(APP)
    except BaseException:
        ray_serve.shutdown()
        raise
    if os.environ.get("RAY_ADDRESS"):
        ray_serve.shutdown()


def drain(timeout: float) -> None:
    """Let every ingress finish its answers while the parts that they need still run."""
    from ray import serve as ray_serve
    from ray.serve.exceptions import DeploymentUnavailableError

    answers: list[Any] = []
    try:
        handle = ray_serve.get_app_handle(APP)
        for _ in range(LOOKS):
            with contextlib.suppress(DeploymentUnavailableError):
                answers = handle.broadcast("drain").results(
                    timeout_s=timeout + 5, return_exceptions=True
                )
                break
            time.sleep(0.1)  # a new handle does not know the processes yet
        else:
            answers = [TimeoutError()]
    except Exception as error:  # the service stops all the same
        answers = [error]
    for error in answers:
        if isinstance(error, Exception):
            logger.warning("an ingress stops without a drain: %s", type(error).__name__)


def _reason(error: RuntimeError) -> str:
    """The last line of what Serve says, which names the error of the part that failed."""
    from ray import serve as ray_serve

    state = ray_serve.status().applications.get(APP)
    texts = [state.message, *(part.message for part in state.deployments.values())] if state else []
    lines = [line.strip() for text in (str(error), *texts) for line in text.splitlines()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*: ", line)]
    return (named or lines or ["no reason was given"])[-1]
