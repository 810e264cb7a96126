"""What needs a GPU; skipped without one. Run: `pytest tests/gpu`."""

from pathlib import Path

import pytest
import torch

from ffr_core.generation import GenerationRequest, Message, Sampling
from ffr_core.markup import render_query

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
TINY = Path(__file__).parents[2] / "ffr_core/data/checkpoints/tiny"
REQUESTS = [
    GenerationRequest(
        request_id=str(number),
        messages=(Message(role="user", parts=(f"{text}{render_query('the red kite')}",)),),
        sampling=Sampling(max_new_tokens=24),
        adapter=adapter,
    )
    for number, (text, adapter) in enumerate(
        [("<|utt_id_start|>0<|utt_id_end|>Ana: our kite is ready\n", None)] * 2
        + [("<|utt_id_start|>0<|utt_id_end|>Ana: our kite is ready\n", "f2rvlm")]
    )
]


def no_images(uri):
    raise AssertionError(uri)


def test_transformers_on_cuda_equals_cpu():
    from ffr_core.engine.transformers import TransformersEngine

    texts = []
    for device in ("cpu", "cuda"):
        engine = TransformersEngine.open(TINY / "base", no_images, dtype="float32", device=device)
        engine.load_adapter("f2rvlm", str(TINY / "f2rvlm-sft"))
        texts.append([completion.text for completion in engine.generate(REQUESTS)])
        engine.close()
    assert texts[0] == texts[1]


def test_vllm_on_cuda_equals_transformers():
    from ffr_core.engine.transformers import TransformersEngine
    from ffr_core.engine.vllm import VllmEngine

    reference = TransformersEngine.open(TINY / "base", no_images, dtype="float32", device="cpu")
    reference.load_adapter("f2rvlm", str(TINY / "f2rvlm-sft"))
    expected = [completion.text for completion in reference.generate(REQUESTS)]
    engine = VllmEngine(
        str(TINY / "base"),
        no_images,
        dtype="float32",
        max_model_len=512,
        max_adapters=2,
        max_lora_rank=64,
        gpu_memory_utilization=0.2,
    )
    try:
        engine.load_adapter("f2rvlm", str(TINY / "f2rvlm-sft"))
        assert [completion.text for completion in engine.generate(REQUESTS)] == expected
    finally:
        engine.close()
