"""Which adapter localizes: the profile's, or one that an operator rolled over to.

A search takes the version in force when it starts and sends it with every candidate, so an answer
is always the work of one version, however many processes take part and whenever they learn of a
new one. The choice lies in the storage, where it outlives processes. It holds until the profile's
own adapter changes: a new profile is the later word.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ffr_core.engine.build import adapter_hash
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.loading import model_fingerprint
from ffr_core.errors import InputError, NotFoundError
from ffr_core.localization.calibration import Calibration
from ffr_core.profile import Profile
from ffr_core.protocols import Storage
from serve.problems import log_failure

KEY = "serving/localizer.json"
FRESH_SECONDS = 1.0
"""How long an ingress process trusts what it read; the others follow a roll-over within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """The weights that read candidates."""

    name: str
    """Hash of the adapter folder; `base` for the bare model."""
    path: str = ""
    """PEFT folder, readable by every localizer process."""
    calibration: str | None = None
    """Calibration file that belongs to it; raw probabilities without one."""


def profile_version(profile: Profile) -> AdapterVersion | None:
    """The version that a profile names; None where its localizer runs no model."""
    part = profile.localizer
    if part.kind != "f2rvlm":
        return None
    if part.adapter is None:
        return AdapterVersion(name="base", calibration=part.calibration)
    engine = part.engine or profile.engine
    return AdapterVersion(
        name=adapter_hash(engine, part.adapter),
        path=engine.adapters[part.adapter],
        calibration=part.calibration,
    )


def localizer_engine(profile: Profile) -> EngineConfig:
    """The engine table of the localizer."""
    return profile.localizer.engine or profile.engine


def folder_version(path: str, calibration: str | None = None) -> AdapterVersion:
    """The version of a PEFT folder.

    Raises:
        NotFoundError: No adapter there, or no calibration file.
        ConfigError: The calibration file is none.
    """
    folder = Path(path)
    if not _is_file(folder / "adapter_config.json"):
        raise NotFoundError(
            f"there is no adapter at {path!r:.300}; give a folder with adapter_config.json that"
            " all processes of the service can read"
        )
    if calibration is not None:
        if not _is_file(Path(calibration)):
            raise NotFoundError(
                f"there is no calibration file {calibration!r:.300}; check the path"
            )
        Calibration.load(calibration)
    return AdapterVersion(
        name=model_fingerprint(folder), path=str(folder.resolve()), calibration=calibration
    )


def check_weights(version: AdapterVersion) -> None:
    """Raise InputError unless the folder still holds the weights that the version is named after.

    A process that starts late would else read with other weights under the same name.
    """
    if version.path and model_fingerprint(version.path) != version.name:
        raise InputError(
            f"the adapter at {version.path!r:.300} is not version {version.name} any more; leave"
            " folders that are in use as they are, or roll over to what lies there now"
        )


def _is_file(path: Path) -> bool:
    """Whether a file is there; a path that is too long or closed to us holds none."""
    try:
        return path.is_file()
    except OSError:
        return False


class VersionBook:
    """The version in force, kept in the storage."""

    def __init__(
        self,
        storage: Storage,
        default: AdapterVersion,
        fresh: float = FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use a storage.

        Args:
            storage: Shared by all processes of the service.
            default: The profile's own version.
            fresh: Seconds between two looks at the storage.
            clock: Tells seconds.
        """
        self._storage, self._default = storage, default
        self._fresh, self._clock = fresh, clock
        self._known, self._until = default, -1.0
        self._lock = asyncio.Lock()

    async def current(self) -> AdapterVersion:
        """The version that a search that starts now uses."""
        async with self._lock:
            if self._clock() >= self._until:
                try:
                    self._known = await asyncio.to_thread(self._read)
                except Exception as error:  # a storage that fails does not change the version
                    log_failure(error)
                self._until = self._clock() + self._fresh
            return self._known

    async def switch(self, version: AdapterVersion) -> AdapterVersion:
        """Make a version the one in force; returns the one before."""
        before = await self.current()
        record = {"replaces": asdict(self._default), "version": asdict(version)}
        async with self._lock:
            await asyncio.to_thread(self._storage.write, KEY, json.dumps(record).encode())
            self._known, self._until = version, self._clock() + self._fresh
        return before

    def _read(self) -> AdapterVersion:
        try:
            record = json.loads(self._storage.read(KEY))
        except NotFoundError:
            return self._default
        if record["replaces"] != asdict(self._default):
            return self._default
        return AdapterVersion(**record["version"])
