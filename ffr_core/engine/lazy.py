"""An engine that starts with its first request; its fingerprint is known before.

Whoever only asks what is indexed, or compares fingerprints, needs no model in memory and no GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ffr_core.engine.build import build_engine, forget_shared_engine, shared_engine
from ffr_core.engine.config import EngineConfig
from ffr_core.generation import Completion, GenerationRequest
from ffr_core.images import ImageReader
from ffr_core.protocols import Engine


def engine_fingerprint(config: EngineConfig, images: ImageReader) -> str:
    """The `fingerprint` of the engine that `config` describes, without its weights in memory.

    Raises:
        NotFoundError: No model at the path.
        ConfigError: The table lacks what its kind needs.
    """
    if config.kind in ("scripted", "openai") or not config.path:
        engine = build_engine(config, images)
        try:
            return engine.fingerprint
        finally:
            engine.close()
    from ffr_core.engine.inputs import picture_settings
    from ffr_core.engine.loading import model_fingerprint, picture_sizes

    settings = picture_settings(
        picture_sizes(config.path), config.max_pixels, config.max_images, config.max_total_pixels
    )
    return f"{model_fingerprint(config.path)}:{config.dtype}:{settings}"


def engine_died(error: BaseException) -> bool:
    """Whether an error says that the engine's process is gone, so that nothing will work again."""
    if isinstance(error, BaseExceptionGroup):
        return any(engine_died(inner) for inner in error.exceptions)
    names = {kind.__name__ for kind in type(error).__mro__}
    cause = error.__cause__
    return "EngineDeadError" in names or (cause is not None and engine_died(cause))


class LazyEngine:
    """`Engine` that starts, or joins the one of this process, when it is first asked."""

    def __init__(
        self,
        config: EngineConfig,
        images: ImageReader,
        start: Callable[[EngineConfig, ImageReader], Engine] = shared_engine,
    ) -> None:
        """Keep what starts it."""
        self._config, self._images, self._start = config, images, start
        self._fingerprint: str | None = None
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        with self._lock:
            if self._fingerprint is None:
                self._fingerprint = engine_fingerprint(self._config, self._images)
            return self._fingerprint

    @property
    def started(self) -> bool:
        """Whether the model is in memory."""
        return self._engine is not None

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """As in `Engine`."""
        return self._running().generate(requests)

    def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`."""
        self._running().load_adapter(name, path)

    def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        self._running().unload_adapter(name)

    def close(self) -> None:
        """Release the model, where it was started."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                forget_shared_engine(self._engine)
                self._engine = None

    def _running(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._start(self._config, self._images)
            return self._engine
