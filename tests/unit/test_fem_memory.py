"""However many passages come at once, the pictures of a few are in memory."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from patch_parts import count_patches

from ffr_core.embedding import fem_vllm
from ffr_core.embedding.fem import FemEncoder
from ffr_core.embedding.fem_vllm import VllmFemEncoder
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.types import Image, Passage

TINY = Path(__file__).parents[2] / "ffr_core/data/checkpoints/tiny/base"


def test_only_the_patches_of_one_pass_are_in_memory(monkeypatch, tmp_path):
    rows = []
    for i in range(5):
        PIL.Image.new("RGB", (112, 112), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        picture = Image(image_id=0, uri=str(tmp_path / f"{i}.png"))
        rows.append(Passage(text="zebra " * i, images=(picture,)))
    reader = ImageReader(limits=ImageLimits(roots=(str(tmp_path),)))
    options = {"dtype": "float32", "batch_tokens": 1}
    encoder = FemEncoder(TINY, reader.open, **options)
    alone = np.concatenate([encoder.encode_passages([row]) for row in rows])
    read, most = encoder.tokens_read, count_patches(monkeypatch)
    together = encoder.encode_passages(rows)
    assert max(most) <= 2
    assert together == pytest.approx(alone, abs=1e-6)
    assert encoder.tokens_read == 2 * read


def test_the_engine_gets_its_prompts_in_parts(monkeypatch):
    monkeypatch.setattr(fem_vllm, "_PROMPTS_AT_ONCE", 2)
    sizes = []

    def embed(prompts, **_):
        sizes.append(len(prompts))
        return [
            SimpleNamespace(prompt_token_ids=[0], outputs=SimpleNamespace(embedding=[n, 0.0]))
            for n in prompts
        ]

    encoder = object.__new__(VllmFemEncoder)
    encoder._llm, encoder._lora = SimpleNamespace(embed=embed), None
    encoder._lock, encoder._tokens_read, encoder._dim = threading.Lock(), 0, 2
    encoder._prompt = float
    vectors = encoder._encode([1, -2, 3, -4, 5])
    assert (sizes, encoder.tokens_read) == ([2, 2, 1], 5)
    assert vectors.tolist() == [[1, 0], [-1, 0], [1, 0], [-1, 0], [1, 0]]
