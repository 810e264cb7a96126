"""From an `[engine]` table to an engine with its adapters, one per process for equal tables."""

from __future__ import annotations

import atexit
import threading
from typing import Any

from ffr_core.engine.config import EngineConfig
from ffr_core.errors import ConfigError
from ffr_core.images import ImageReader
from ffr_core.protocols import AsyncEngine, Engine

_ENGINES: dict[str, Engine] = {}
_LOCK = threading.Lock()


def shared_engine(config: EngineConfig, images: ImageReader) -> Engine:
    """Start the engine, or return the one that this process runs for the same settings.

    It ends with the process at the latest: an engine of vLLM that nobody closes keeps a finished
    program from ending.
    """
    key = "\n".join(
        [config.model_dump_json(), images.limits.model_dump_json(), str(images.s3_endpoint)]
    )
    with _LOCK:
        if key not in _ENGINES:
            _ENGINES[key] = build_engine(config, images)
            # What is registered last runs first: before vLLM's own clean-up, which kills.
            atexit.unregister(close_shared_engines)
            atexit.register(close_shared_engines)
        return _ENGINES[key]


def forget_shared_engine(engine: Engine) -> None:
    """Leave a closed engine out of those that `shared_engine` hands out."""
    with _LOCK:
        for key in [key for key, known in _ENGINES.items() if known is engine]:
            del _ENGINES[key]


def close_shared_engines() -> None:
    """End all engines of `shared_engine`; the next call starts a new one."""
    atexit.unregister(close_shared_engines)
    with _LOCK:
        for engine in _ENGINES.values():
            engine.close()
        _ENGINES.clear()


def build_engine(config: EngineConfig, images: ImageReader) -> Engine:
    """Start an engine and load its adapters.

    Raises:
        ConfigError: The table lacks what its kind needs.
        NotFoundError: No model or adapter at a path.
    """
    engine = _start(config, images)
    try:
        for name, path in config.adapters.items():
            engine.load_adapter(name, path)
    except Exception:
        engine.close()
        raise
    return engine


async def build_async_engine(config: EngineConfig, images: ImageReader) -> AsyncEngine:
    """The form for serving: as `build_engine`; starting it blocks the event loop."""
    engine: AsyncEngine
    if config.kind == "vllm":
        from ffr_core.engine.vllm import AsyncVllmEngine

        engine = AsyncVllmEngine(**_vllm_options(config, images))
    elif config.kind == "openai":
        from ffr_core.engine.openai import AsyncOpenAiEngine

        engine = AsyncOpenAiEngine(**_openai_options(config, images))
    else:
        from ffr_core.engine.background import BackgroundEngine

        return BackgroundEngine(build_engine(config, images))
    try:
        for name, path in config.adapters.items():
            await engine.load_adapter(name, path)
    except Exception:
        await engine.close()
        raise
    return engine


def adapter_hash(config: EngineConfig, name: str | None) -> str:
    """Names the weights of an adapter for fingerprints; empty without one.

    Raises:
        ConfigError: The table holds no such adapter.
    """
    from ffr_core.engine.loading import model_fingerprint

    if name is None:
        return ""
    if name not in config.adapters:
        known = ", ".join(sorted(config.adapters)) or "none"
        raise ConfigError(f"adapter {name!r} is not in [engine.adapters] ({known}); add its folder")
    return model_fingerprint(config.adapters[name])


def _start(config: EngineConfig, images: ImageReader) -> Engine:
    if config.kind == "scripted":
        from ffr_core.engine.scripted import ScriptedEngine

        return ScriptedEngine(config.script, images=images.open)
    if config.kind == "openai":
        from ffr_core.engine.openai import OpenAiEngine

        return OpenAiEngine(**_openai_options(config, images))
    if config.kind == "transformers":
        from ffr_core.engine.transformers import TransformersEngine

        return TransformersEngine.open(
            device=config.device,
            max_batch_tokens=config.max_batch_tokens,
            **_model_options(config, images),
        )
    from ffr_core.engine.vllm import VllmEngine

    return VllmEngine(**_vllm_options(config, images))


def _model_options(config: EngineConfig, images: ImageReader) -> dict[str, Any]:
    _need(config, "path")
    names = ("path", "dtype", "max_model_len", "max_images", "max_pixels", "max_total_pixels")
    return {name: getattr(config, name) for name in names} | {"images": images.open}


def _vllm_options(config: EngineConfig, images: ImageReader) -> dict[str, Any]:
    names = ("max_num_seqs", "max_lora_rank", "gpu_memory_utilization", "tensor_parallel_size")
    return {
        **_model_options(config, images),
        **{name: getattr(config, name) for name in names},
        "max_adapters": 2 * len(config.adapters),  # room for the next version of each
    }


def _openai_options(config: EngineConfig, images: ImageReader) -> dict[str, Any]:
    _need(config, "path", "url")
    return {
        "url": config.url,
        "model": config.path,
        "images": images.open,
        "api_key_env": config.api_key_env,
        "timeout": config.timeout,
        "max_parallel": config.max_num_seqs,
        "max_images": config.max_images,
        "max_pixels": config.max_pixels,
        "max_total_pixels": config.max_total_pixels,
    }


def _need(config: EngineConfig, *keys: str) -> None:
    for key in keys:
        if not getattr(config, key):
            raise ConfigError(f"[engine] kind {config.kind!r} needs {key!r}; add it to the profile")
