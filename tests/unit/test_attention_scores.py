"""The scores of a head against the attention weights that transformers reports."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from ffr_core.adapters import LoraSettings
    from jobs.tiny.architecture import write_random_model
    from jobs.training.sft_model import build

    folder = tmp_path_factory.mktemp("model")
    write_random_model(folder)
    return build_with(folder, build, LoraSettings(), "attention", 1)


def build_with(folder, build, lora, head, layer):
    import torch

    return build(
        folder,
        lora=lora,
        init_adapter=None,
        dtype="float32",
        attention="eager",
        gradient_checkpointing=False,
        head=head,
        head_layer=layer,
        device=torch.device("cpu"),
    )


def test_softmax_of_the_scores_is_the_attention_of_the_first_head(model):
    import torch

    from jobs.training.attention_scores import attention_scores

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        text = model.base.model.language_model
        embeds = torch.randn(2, 9, text.config.hidden_size)
        positions = torch.stack([torch.arange(9) * step for step in (1, 2, 3)])[:, None]
        positions = positions.expand(3, 2, 9)
        out = text(
            inputs_embeds=embeds,
            position_ids=positions,
            output_hidden_states=True,
            output_attentions=True,
            use_cache=False,
        )
        for layer, row, query in ((0, 0, 8), (1, 1, 5)):
            keys = torch.arange(query + 1)
            scores = attention_scores(
                text,
                layer,
                out.hidden_states[layer],
                positions,
                torch.full_like(keys, row),
                torch.full_like(keys, query),
                keys,
            )
            expected = out.attentions[layer][row, 0, query, : query + 1]
            assert torch.allclose(scores.softmax(-1), expected, atol=1e-5)


def test_attention_as_auxiliary_head_needs_a_layer_behind(tmp_path):
    from ffr_core.adapters import LoraSettings
    from ffr_core.errors import ConfigError
    from jobs.tiny.architecture import write_random_model
    from jobs.training.sft_model import build

    write_random_model(tmp_path)
    for layer in (-1, 2):
        with pytest.raises(ConfigError, match="from 1 to 1"):
            build_with(tmp_path, build, LoraSettings(), "attention", layer)
