"""The `[engine]` table of a profile."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ffr_core.config import Config


class EngineConfig(Config):
    """`[engine]`: what runs the vision-language model, and which adapters it holds."""

    kind: Literal["vllm", "transformers", "openai", "scripted"] = "vllm"
    """`vllm`: on GPUs or CPUs; `transformers`: in this process; `openai`: a server's endpoint;
    `scripted`: fixed answers, for dry runs."""
    path: str = ""
    """Model folder or hub id; for `openai` the server's name of the model."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """Name -> PEFT folder; segmenter and localizer name the one they use."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number type of the weights; `auto` is the checkpoint's own."""
    device: str = "cpu"
    """Torch device of `transformers`."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt plus answer in tokens; the model's own limit when left out."""
    max_images: int = Field(default=8, ge=0)
    """Images of one prompt; further ones are left out. Source: authors' setting."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Larger pictures are scaled down; the processor's own limit when left out."""
    max_total_pixels: int | None = Field(default=None, ge=1)
    """Pixels that the pictures of one prompt share."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Requests that `vllm` computes together, or that wait at an endpoint together."""
    max_batch_tokens: int = Field(default=16_384, ge=1)
    """Rows times length of one batch of `transformers`."""
    max_lora_rank: int = Field(default=32, ge=1)
    """Largest rank of an adapter in `vllm`."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that `vllm` takes."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs of one `vllm` engine."""
    url: str = ""
    """Endpoint of `openai`, such as `http://host:8000/v1`."""
    api_key_env: str | None = None
    """Environment variable with the endpoint's key; secrets never stand in a file."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one attempt at an endpoint."""
    script: dict[str, str] = Field(default_factory=dict)
    """Answers of `scripted`: the first key that the prompt contains; the key "" answers the
    rest."""
