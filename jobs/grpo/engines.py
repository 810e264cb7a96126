"""Engines that sample rollouts, with the adapter of the moment under a name of its own.

Every version of the policy is written to a fresh folder and loaded under a fresh name: engines key
their prefix caches by the adapter's name only.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ffr_core.errors import FfrError
from ffr_core.generation import Completion, GenerationRequest
from jobs.grpo.config import EngineConfig, ModelConfig
from jobs.grpo.data import image_reader

if TYPE_CHECKING:
    from ffr_core.protocols import Engine


class Sampler(Protocol):
    """Answers requests with the adapter loaded last."""

    adapter: str | None
    """Its name, for requests."""

    def load(self, folder: Path, version: str) -> None:
        """Use the PEFT folder from now on; the one before is forgotten."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order."""

    def close(self) -> None:
        """Release the engines."""


def open_engine(
    model: ModelConfig,
    engine: EngineConfig,
    files: Sequence[str],
    device: str = "cpu",
    max_lora_rank: int | None = None,
) -> Engine:
    """Load the base model into an engine; images are opened below the corpus files' folders.

    Args:
        model: Base model and limits of prompts.
        engine: Kind and resources.
        files: Corpus files.
        device: Of an engine of transformers.
        max_lora_rank: Of the adapters; when left out the cold start's, without one the engine's
            own default.
    """
    images = image_reader(model, files).open
    if engine.kind == "vllm":
        from ffr_core.engine.vllm import VllmEngine, adapter_rank, vllm_rank

        if max_lora_rank is None and model.cold_start is not None:
            max_lora_rank = adapter_rank(model.cold_start)
        bound = {} if max_lora_rank is None else {"max_lora_rank": vllm_rank(max_lora_rank)}
        opened: Engine = VllmEngine(
            model.path,
            images,
            dtype=model.dtype,
            max_pixels=model.max_pixels,
            max_images=model.max_images,
            max_model_len=model.max_model_len,
            gpu_memory_utilization=engine.gpu_memory_utilization,
            tensor_parallel_size=engine.tensor_parallel_size,
            **bound,
        )
        return opened
    from ffr_core.engine.transformers import TransformersEngine

    return TransformersEngine.open(
        model.path,
        images,
        dtype=model.dtype,
        device=device,
        max_pixels=model.max_pixels,
        max_images=model.max_images,
        max_batch_tokens=engine.max_batch_tokens,
        max_model_len=model.max_model_len,
    )


class LocalSampler:
    """One engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.adapter: str | None = None
        self._engine = engine

    def load(self, folder: Path, version: str) -> None:
        """Load under a fresh name, then forget the adapter before."""
        self._engine.load_adapter(version, str(folder))
        if self.adapter is not None:
            self._engine.unload_adapter(self.adapter)
        self.adapter = version

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests."""
        return self._engine.generate(requests)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


PLACEMENT_SECONDS = 900.0
"""How long actors may wait for a place in the cluster, so that new nodes have time to start; below
the half hour that the other workers wait for rank 0."""


class EngineActor:
    """An engine in a Ray actor; adapters arrive as bytes, so nodes need not share a folder."""

    def __init__(
        self,
        model: ModelConfig,
        engine: EngineConfig,
        files: Sequence[str],
        device: str,
        max_lora_rank: int,
    ) -> None:
        self._arguments = (model, engine, files, device, max_lora_rank)
        self._home = Path(tempfile.mkdtemp(prefix="ffrs-adapters-"))

    def is_placed(self) -> bool:
        """True, as soon as the cluster has room for the actor."""
        return True

    def open(self) -> None:
        """Load the model; not in `__init__`, whose errors would not come out as themselves."""
        self._sampler = LocalSampler(open_engine(*self._arguments))

    def load(self, files: dict[str, bytes], version: str) -> str:
        """Write the adapter to a fresh folder, put it in place at once, use it."""
        if version == self._sampler.adapter:
            return version
        fresh, folder = self._home / f".{version}.new", self._home / version
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        fresh.replace(folder)
        before = self._sampler.adapter
        self._sampler.load(folder, version)
        if before is not None:
            shutil.rmtree(self._home / before, ignore_errors=True)
        return version

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests."""
        return self._sampler.generate(requests)

    def close(self) -> None:
        """Release the engine, its processes and the folder."""
        if hasattr(self, "_sampler"):
            self._sampler.close()
        shutil.rmtree(self._home, ignore_errors=True)


class ActorSampler:
    """A pool of named engine actors that all training workers share."""

    def __init__(
        self,
        model: ModelConfig,
        engine: EngineConfig,
        files: Sequence[str],
        *,
        pool: str,
        max_lora_rank: int,
        rank: int = 0,
        barrier: Callable[[], Any] = lambda: None,
    ) -> None:
        """Start the pool, or find it (other ranks).

        Args:
            model: Base model.
            engine: Kind and resources of an actor.
            files: Corpus files, for image roots.
            pool: Name of the pool, new at every start.
            max_lora_rank: Largest rank of the adapters.
            rank: Rank 0 starts the actors and loads adapters.
            barrier: Waits for all workers.

        Raises:
            FfrError: The cluster has no room for the actors.
        """
        import ray

        self._opening: list[Any] = []
        self.adapter: str | None = None
        self._rank, self._barrier = rank, barrier
        device = "cuda" if engine.gpus_per_actor and engine.kind == "transformers" else "cpu"
        actor: Any = ray.remote(
            num_cpus=engine.cpus_per_actor,
            num_gpus=engine.gpus_per_actor,
            # vLLM batches the requests of several workers; the other engine runs one call at once.
            max_concurrency=8 if engine.kind == "vllm" else 1,
        )(EngineActor)
        names = [f"{pool}-{number}" for number in range(engine.actors)]
        if rank == 0:
            self._actors = [
                actor.options(name=name).remote(model, engine, tuple(files), device, max_lora_rank)
                for name in names
            ]
            self._wait_for_places(engine)
            self._opening = [actor.open.remote() for actor in self._actors]
            barrier()
        else:
            barrier()
            self._actors = [ray.get_actor(name) for name in names]

    def load(self, folder: Path, version: str) -> None:
        """Rank 0 sends the adapter to every actor; all workers wait until it is loaded."""
        import ray

        if self._rank == 0:
            results_of(self._opening)
            files = ray.put({path.name: path.read_bytes() for path in folder.iterdir()})
            results_of([actor.load.remote(files, version) for actor in self._actors])
        self._barrier()
        self.adapter = version

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Deal runs of requests out to the actors; siblings of a group stay together."""
        parts = split_siblings(requests, len(self._actors), self._rank)
        pairs = zip(self._actors, parts, strict=True)
        pending = [actor.generate.remote(part) for actor, part in pairs if part]
        found = {c.request_id: c for part in results_of(pending) for c in part}
        return [found[request.request_id] for request in requests]

    def close(self) -> None:
        """End the actors (rank 0); no barrier, since another worker may have failed."""
        import ray

        if self._rank == 0:
            # An actor that died already, or hangs, is ended all the same.
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get([actor.close.remote() for actor in self._actors], timeout=60)
            for actor in self._actors:
                ray.kill(actor)

    def _wait_for_places(self, engine: EngineConfig) -> None:
        import ray

        asked = [actor.is_placed.remote() for actor in self._actors]
        _, waiting = ray.wait(asked, num_returns=len(asked), timeout=PLACEMENT_SECONDS)
        if not waiting:
            return
        for actor in self._actors:
            ray.kill(actor)
        raise FfrError(
            f"the cluster has room for {len(asked) - len(waiting)} of {len(asked)} engine actors"
            f" with {engine.cpus_per_actor:g} CPUs and {engine.gpus_per_actor:g} GPUs each beside"
            " the training workers; lower engine.actors, launch.num_workers or launch.max_workers"
        )


def results_of(pending: Sequence[Any]) -> list[Any]:
    """Results of actor calls; an error that was raised on purpose comes out as itself."""
    import ray

    try:
        return list(ray.get(list(pending)))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FfrError):
            raise error.cause from error
        raise


def split_siblings(
    requests: Sequence[GenerationRequest], parts: int, first: int = 0
) -> list[list[GenerationRequest]]:
    """Divide requests into parts of similar size; those with equal messages share a part.

    Args:
        requests: Siblings stand together.
        parts: How many.
        first: Part that gets the first group, so that workers do not all begin with the same.
    """
    divided: list[list[GenerationRequest]] = [[] for _ in range(parts)]
    place = first - 1
    before: Any = None
    for request in requests:
        if request.messages is not before and request.messages != before:
            place += 1
            before = request.messages
        divided[place % parts].append(request)
    return divided


def open_sampler(
    model: ModelConfig,
    engine: EngineConfig,
    files: Sequence[str],
    *,
    pool: str,
    max_lora_rank: int,
    rank: int,
    device: str,
    barrier: Callable[[], Any],
) -> Sampler:
    """The sampler that the configuration asks for."""
    if engine.actors:
        return ActorSampler(
            model,
            engine,
            files,
            pool=pool,
            max_lora_rank=max_lora_rank,
            rank=rank,
            barrier=barrier,
        )
    return LocalSampler(open_engine(model, engine, files, device))
