"""FEM: the text encoder and its adapters."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ffr_core.embedding.bert import Bert, BertWeights, padded_length
from ffr_core.embedding.fem import batches_by_length
from ffr_core.embedding.fem_text import LoraBert, TextFem
from ffr_core.embedding.lora import adapter_hash, merge, read_adapter, write_adapter
from ffr_core.embedding.sentence import E5Encoder, MiniLmEncoder
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.parts import build_encoder
from ffr_core.profile import EncoderConfig
from ffr_core.types import Passage

DIM, INNER, LAYERS, VOCABULARY = 32, 64, 3, 50


def bert_weights():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(scale=0.3, size=shape).astype(np.float32)

    tensors = {
        "embeddings.position_embeddings.weight": draw(64, DIM),
        "embeddings.token_type_embeddings.weight": draw(2, DIM),
        "embeddings.LayerNorm.weight": 1 + draw(DIM),
        "embeddings.LayerNorm.bias": draw(DIM),
    }
    for i in range(LAYERS):
        for name, (rows, columns) in {
            "attention.self.query": (DIM, DIM),
            "attention.self.key": (DIM, DIM),
            "attention.self.value": (DIM, DIM),
            "attention.output.dense": (DIM, DIM),
            "intermediate.dense": (INNER, DIM),
            "output.dense": (DIM, INNER),
        }.items():
            tensors[f"encoder.layer.{i}.{name}.weight"] = draw(rows, columns)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(rows)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"encoder.layer.{i}.{name}.weight"] = 1 + draw(DIM)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(DIM)
    words = draw(VOCABULARY, DIM)
    return words, BertWeights(
        words=lambda ids: words[ids], tensors=tensors, num_layers=LAYERS, num_heads=4, epsilon=1e-5
    )


ROWS = [(1, 5, 9, 2), (1, 7, 2), (1, 4, 4, 8, 11, 2)]


def upper(model, rows):
    hidden = model.lower(rows, 0)
    lengths = torch.tensor([len(row) for row in rows])
    width = padded_length(max(map(len, rows)))
    return model(hidden, torch.arange(width)[None] < lengths[:, None])


def trained(weights):
    """A LoRA on the last two layers whose B is no longer zero."""
    model = LoraBert(Bert(weights, "float32"), first_layer=1, rank=4, alpha=8, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_a_fresh_adapter_changes_nothing():
    _, weights = bert_weights()
    bert = Bert(weights, "float32")
    model = LoraBert(bert, first_layer=1, rank=4, alpha=8)
    assert np.allclose(
        upper(model, ROWS).detach().numpy(), bert.mean_pooled(ROWS, 0), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ConfigError, match="expected 0 to 2"):
        LoraBert(bert, first_layer=3, rank=4, alpha=8)


def test_merged_weights_give_the_vectors_of_training(tmp_path):
    _, weights = bert_weights()
    model = trained(weights)
    write_adapter(tmp_path / "a", model.adapter(), "tiny")
    merged = replace(weights, tensors=merge(weights.tensors, read_adapter(tmp_path / "a")))
    vectors = Bert(merged, "float32").mean_pooled(ROWS, 0)
    assert np.allclose(vectors, upper(model, ROWS).detach().numpy(), rtol=1e-4, atol=1e-5)
    plain = Bert(weights, "float32").mean_pooled(ROWS, 0)
    assert np.abs(vectors - plain).max() > 0.01


def test_the_adapter_folder_loads_with_peft_on_transformers_bert(tmp_path):
    from peft import PeftModel
    from transformers import BertConfig, BertModel

    words, weights = bert_weights()
    model = trained(weights)
    write_adapter(tmp_path / "a", model.adapter(), "tiny")
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=INNER,
        max_position_embeddings=64,
        layer_norm_eps=1e-5,
    )
    bert = BertModel(config, add_pooling_layer=False)
    state = {name: torch.from_numpy(value) for name, value in weights.tensors.items()}
    state["embeddings.word_embeddings.weight"] = torch.from_numpy(words)
    bert.load_state_dict(state, strict=True)
    adapted = PeftModel.from_pretrained(bert, str(tmp_path / "a")).eval()
    for row in ROWS:
        with torch.no_grad():
            states = adapted(input_ids=torch.tensor([row])).last_hidden_state[0]
        mean = nn.functional.normalize(states.mean(dim=0), dim=-1)
        own = upper(model, [row])[0].detach()
        assert torch.allclose(mean, own, rtol=1e-3, atol=1e-4)


def test_the_hash_follows_weights_and_scale_and_wrong_folders_are_refused(tmp_path):
    _, weights = bert_weights()
    adapter = trained(weights).adapter()
    for name, value in (
        ("a", adapter),
        ("same", adapter),
        ("scaled", replace(adapter, alpha=9.0)),
    ):
        write_adapter(tmp_path / name, value, "tiny")
    hashes = [adapter_hash(tmp_path / name) for name in ("a", "same", "scaled")]
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(NotFoundError, match="PEFT adapter folder"):
        read_adapter(tmp_path)
    short = {k: v for k, v in weights.tensors.items() if "layer.2" not in k}
    with pytest.raises(InputError, match="has not so"):
        merge(short, adapter)


def test_batches_hold_rows_of_similar_length():
    assert batches_by_length([3, 9, 4, 1], 9) == [[1], [2, 0], [3]]
    assert sorted(i for b in batches_by_length([5] * 7, 11) for i in b) == list(range(7))


@pytest.mark.parametrize("kind", [E5Encoder, MiniLmEncoder])
def test_the_text_encoders_take_an_adapter_on_either_side(tmp_path, kind):
    plain = kind(threads=1)
    fem = changed(plain, tmp_path / "a")
    texts, passages = ["what did Ross buy?", "会议"], [Passage(text="Ross: a red bicycle")]
    both, queries, mixed = (
        kind(threads=1, adapter=tmp_path / "a", **options)
        for options in (
            {},
            {"adapter_side": "queries"},
            {"adapter_side": "queries", "adapter_share": 0.5},
        )
    )
    trained_QD = fem.embed(fem.rows(texts, are_queries=True)).detach().numpy()
    plain_QD = plain.encode_queries(texts)
    assert np.abs(trained_QD - plain_QD).max() > 0.01
    assert np.allclose(both.encode_queries(texts), trained_QD, atol=5e-3)
    assert np.array_equal(queries.encode_queries(texts), both.encode_queries(texts))
    assert np.array_equal(queries.encode_passages(passages), plain.encode_passages(passages))
    assert not np.array_equal(both.encode_passages(passages), plain.encode_passages(passages))
    mean = (queries.encode_queries(texts) + plain_QD) / 2
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.allclose(mixed.encode_queries(texts), mean, atol=1e-6)
    assert len({e.fingerprint for e in (plain, both, queries, mixed)}) == 4
    with pytest.raises(ConfigError, match="adapter_share"):
        kind(threads=1, adapter=tmp_path / "a", adapter_share=0.5)


def test_an_adapter_of_another_encoder_is_refused(tmp_path):
    changed(MiniLmEncoder(threads=1), tmp_path / "a")
    with pytest.raises(InputError, match=r"belongs to 'minilm-l6:.*this encoder is 'e5-small:"):
        E5Encoder(threads=1, adapter=tmp_path / "a")
    profile = {"kind": "minilm", "adapter": str(tmp_path / "a"), "adapter_side": "queries"}
    assert ":fem-queries-1-" in build_encoder(EncoderConfig(**profile)).fingerprint


def changed(encoder, folder):
    """A TextFem over the last layer whose adapter, written to `folder`, is not zero."""
    last = len(encoder.bert.layers) - 1
    model = LoraBert(encoder.bert, first_layer=last, rank=2, alpha=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02)
    fem = TextFem(encoder, model, 512)
    fem.save(folder)
    return fem


def test_a_run_takes_the_vectors_that_an_earlier_one_kept(tmp_path, monkeypatch):
    from jobs.fem.backbones import TextBackbone
    from jobs.fem.config import FemConfig

    config = FemConfig(
        data=({"path": "unread"},),
        num_steps=1,
        launch={"name": "a", "storage_path": str(tmp_path)},
        cache=str(tmp_path / "kept"),
    )
    rows = ["what did Ross buy?", Passage(text="Ross: a red bicycle")]
    first = TextBackbone(config).plain(rows)
    monkeypatch.setattr(E5Encoder, "encode_passages", None)
    monkeypatch.setattr(E5Encoder, "encode_queries", None)
    assert np.array_equal(TextBackbone(config).plain(rows), first)
