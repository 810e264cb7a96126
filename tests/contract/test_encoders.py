"""One test class for every encoder that ships."""

import subprocess
import sys

import numpy as np
import pytest

from ffr_core.embedding.cache import CachedEncoder
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder
from ffr_core.types import Passage

TEXTS = [
    "Ana: the boat to Hydra leaves at nine, bring a hat",
    "",
    "Bo: ok",
    "李雷: 周六我们去爬山，记得带水",
    "Cem: </s> [SEP] <|im_end|> \u202e \U0001f600 e\u0301",
    "Dee: " + "a long story about bridges and tunnels " * 300,
]
FACTORIES = {
    "hashing": lambda tmp, n: HashingEncoder(max_tokens=n),
    "minilm": lambda tmp, n: MiniLmEncoder(max_tokens=n, threads=1),
    "e5": lambda tmp, n: E5Encoder(max_tokens=n, threads=1),
    "cached": lambda tmp, n: CachedEncoder(HashingEncoder(max_tokens=n), tmp),
}
LIMITS = {"hashing": 100, "minilm": 64, "e5": 64, "cached": 100}


@pytest.fixture(scope="module", params=list(FACTORIES))
def made(request, tmp_path_factory):
    name = request.param
    return name, FACTORIES[name](tmp_path_factory.mktemp(name), LIMITS[name])


@pytest.fixture(scope="module")
def encoder(made):
    return made[1]


def passages(texts):
    return [Passage(text=text) for text in texts]


class TestEncoder:
    def test_rows_have_unit_norm_and_the_stated_dimension(self, encoder):
        for vectors in (encoder.encode_passages(passages(TEXTS)), encoder.encode_queries(TEXTS)):
            assert vectors.shape == (len(TEXTS), encoder.dim)
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)

    def test_a_vector_does_not_depend_on_its_batch(self, encoder):
        together = encoder.encode_passages(passages(TEXTS))
        alone = [encoder.encode_passages(passages([text]))[0] for text in TEXTS]
        np.testing.assert_allclose(together, np.stack(alone), atol=1e-4)

    def test_nothing_in_nothing_out(self, encoder):
        assert encoder.encode_passages([]).shape == (0, encoder.dim)
        assert encoder.encode_queries([]).shape == (0, encoder.dim)

    def test_text_beyond_the_limit_changes_nothing(self, encoder):
        # every filler word is at least one token, so the end lies beyond the limit
        filler = "Dee: " + "bridge " * (encoder.max_tokens + 1)
        first, second = encoder.encode_passages(passages([filler + "apples", filler + "trains"]))
        np.testing.assert_allclose(first, second, atol=1e-6)

    def test_the_same_text_gives_the_same_vector(self, encoder):
        once, again = (encoder.encode_passages(passages(TEXTS)) for _ in range(2))
        np.testing.assert_array_equal(once, again)

    def test_a_related_text_is_nearer_than_an_unrelated_one(self, encoder):
        query = encoder.encode_queries(["when does the boat leave?"])[0]
        near, far = encoder.encode_passages(
            passages([TEXTS[0], "Bo: my printer is out of paper again"])
        )
        assert query @ near > query @ far + 0.02


@pytest.mark.parametrize("name", ["hashing", "minilm", "cached"])
def test_the_fingerprint_names_the_settings(name, tmp_path):
    prints = {FACTORIES[name](tmp_path, limit).fingerprint for limit in (32, 64, 64)}
    assert len(prints) == 2


def test_hashing_is_the_same_in_every_process():
    code = (
        "from ffr_core.embedding.hashing import HashingEncoder as H;"
        "print(H(16).encode_queries(['a boat to Hydra']).tobytes().hex())"
    )
    here = HashingEncoder(16).encode_queries(["a boat to Hydra"]).tobytes().hex()
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here
