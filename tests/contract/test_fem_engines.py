"""FEM in transformers and in vLLM's pooling runner: one vector, one fingerprint."""

import importlib.util
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ffr_core.parts import build_encoder
from ffr_core.profile import EncoderConfig
from ffr_core.types import Image, Passage

TINY = Path(__file__).parents[2] / "ffr_core/data/checkpoints/tiny"
TEXTS = [
    "Ana: the boat to the island leaves at nine",
    "Bo: ok",
    "Cem: <|image_pad|><|im_end|> is not markup",
    "Dee: " + "a long story about bridges and tunnels " * 60,
]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra cpu or gpu)"
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for color in ("red", "blue"):
        PIL.Image.new("RGB", (224, 224), color).save(folder / f"{color}.png")
    config = EncoderConfig(
        kind="fem",
        path=str(TINY / "base"),
        adapter=str(TINY / "segmenter"),  # any adapter that changes the vectors
        dtype="float32",
        max_tokens=256,
        image_roots=(str(folder),),
    )
    pooling = build_encoder(config.model_copy(update={"engine": "vllm"}))
    yield folder, build_encoder(config), pooling
    pooling.close()


def test_both_engines_give_the_same_vectors(encoders):
    folder, reference, pooling = encoders
    passages = [Passage(text=text) for text in TEXTS]
    for number, color in enumerate(("red", "blue")):
        image = Image(image_id=number, uri=str(folder / f"{color}.png"))
        passages.append(Passage(text="Ana: look at this", images=(image,)))
    for one, other in (
        (reference.encode_passages(passages), pooling.encode_passages(passages)),
        (reference.encode_queries(TEXTS), pooling.encode_queries(TEXTS)),
    ):
        assert one.shape == other.shape == (len(one), reference.dim)
        np.testing.assert_allclose(np.linalg.norm(other, axis=1), 1.0, atol=1e-5)
        assert (one * other).sum(1).min() >= 0.999
    last = pooling.encode_passages(passages[-2:])
    assert last[0] @ last[1] < 0.9999  # the pictures are seen
    assert pooling.tokens_read > 0
    assert pooling.encode_passages([]).shape == (0, pooling.dim)


def test_an_index_of_one_engine_is_read_by_the_other(encoders):
    _, reference, pooling = encoders
    assert (reference.fingerprint, reference.dim) == (pooling.fingerprint, pooling.dim)


def test_only_fem_runs_in_vllm():
    with pytest.raises(ValueError, match="only `fem` does"):
        EncoderConfig(kind="e5", engine="vllm")
