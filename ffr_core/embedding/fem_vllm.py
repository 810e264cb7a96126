"""FEM in vLLM's pooling runner: the vectors of `FemEncoder`, many prompts in flight.

The engine runs in this process, so nothing outlives it. D embedding.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.embedding.fem import FemBase, FemTemplate, fem_fingerprint
from ffr_core.engine.inputs import PromptEncoder, RenderedPrompt
from ffr_core.engine.loading import load_processor

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray


_PROMPTS_AT_ONCE = 256
"""Prompts whose opened pictures are in memory; as many as the engine keeps busy with."""


class VllmFemEncoder(FemBase):
    """An `Encoder` over a Qwen2-VL folder and, usually, a trained adapter.

    Its fingerprint is that of `FemEncoder`: an index that one of them built is read by the other.
    """

    def __init__(
        self,
        path: str | Path,
        images: Callable[[str], PIL.Image.Image],
        *,
        adapter: str | Path | None = None,
        template: FemTemplate | None = None,
        dtype: str = "auto",
        max_pixels: int | None = None,
        max_images: int = 8,
        gpu_memory_utilization: float = 0.3,
    ) -> None:
        """Start the engine.

        Args:
            path: Folder in hub layout, or a hub id.
            images: URI to RGB picture, such as `ImageReader.open`.
            adapter: PEFT folder, as `jobs/train_fem.py` writes it.
            template: Instructions and length.
            dtype: As in `loading.load_model`.
            max_pixels: Larger pictures are scaled down.
            max_images: Further pictures of a passage are left out.
            gpu_memory_utilization: Share of the GPU's memory that vLLM takes.
        """
        import torch

        from ffr_core.engine.vllm import adapter_rank, prepare_environment, vllm_rank

        on_cpu = not torch.cuda.is_available()
        prepare_environment(on_cpu)
        # In this process; the variable is read when the engine starts.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM
        from vllm.config import PoolerConfig

        template = template or FemTemplate()
        encoder = PromptEncoder(load_processor(path), images, max_pixels, max_images)
        fingerprint = fem_fingerprint(path, adapter, dtype, encoder, template)
        super().__init__(encoder, template, fingerprint)
        options: dict[str, Any] = {"dtype": dtype}
        set_num_threads = torch.set_num_threads
        self._lora: Any = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            options |= {"enable_lora": True, "max_lora_rank": vllm_rank(adapter_rank(adapter))}
            self._lora = LoRARequest("fem", 1, str(Path(adapter).resolve()))
        self._llm = LLM(
            model=str(path),
            runner="pooling",
            convert="embed",
            pooler_config=PoolerConfig(seq_pooling_type="LAST", use_activation=True),
            max_model_len=template.max_tokens,
            limit_mm_per_prompt={"image": max_images, "video": 0},
            gpu_memory_utilization=gpu_memory_utilization,
            enforce_eager=on_cpu,
            disable_log_stats=True,
            **options,
        )
        torch.set_num_threads = set_num_threads  # vLLM's worker on CPUs replaces it
        if on_cpu and self._lora is not None:
            from ffr_core.engine import vllm_lora

            vllm_lora.install()
        self._dim = int(self._llm.llm_engine.model_config.get_hidden_size())
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the engine and leave the process as it was."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()

    def _encode(self, prompts: Sequence[RenderedPrompt]) -> NDArray[np.float32]:
        if not prompts:
            return np.zeros((0, self._dim), np.float32)
        vectors: list[Any] = []
        with self._lock:
            for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
                part = prompts[start : start + _PROMPTS_AT_ONCE]
                found = self._llm.embed(
                    [self._prompt(prompt) for prompt in part],
                    lora_request=self._lora,
                    use_tqdm=False,
                )
                self._tokens_read += sum(len(output.prompt_token_ids) for output in found)
                vectors += [np.asarray(output.outputs.embedding, np.float32) for output in found]
        vectors_PD = np.stack(vectors)
        norms_P1 = np.linalg.norm(vectors_PD, axis=1, keepdims=True)
        unit_PD: NDArray[np.float32] = vectors_PD / norms_P1
        return unit_PD

    def _prompt(self, prompt: RenderedPrompt) -> Any:
        pictures = [self._encoder.picture(image, prompt.max_pixels) for image in prompt.images]
        made: dict[str, Any] = {"prompt_token_ids": prompt.input_ids}
        return {**made, "multi_modal_data": {"image": pictures}} if pictures else made
