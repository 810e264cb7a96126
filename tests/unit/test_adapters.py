"""LoRA on the language model only: attach, save, load, hash."""

import json
import re

import pytest

from ffr_core.adapters import (
    TARGET_MODULES,
    LoraSettings,
    adapter_hash,
    adapter_weights,
    attach,
    load_adapter,
    save_adapter,
)
from ffr_core.errors import InputError, NotFoundError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from jobs.tiny.architecture import write_random_model

    path = tmp_path_factory.mktemp("model")
    write_random_model(path, seed=0)
    return path


def load(folder):
    from ffr_core.engine.loading import load_model

    return load_model(folder, "float32")


def logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(40, 60)[None]).logits


def trained(folder, name="f2rvlm"):
    """An adapter that changes the output."""
    import torch

    model = attach(load(folder), LoraSettings(rank=2, alpha=8), name)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


def test_only_the_language_model_gets_weights(folder):
    model = attach(load(folder), LoraSettings(rank=2), "f2rvlm")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    # 2 layers x 7 projections x 2 matrices.
    assert len(names) == 28
    assert all("language_model" in name and "visual" not in name for name in names)
    assert not any("visual" in key for key in adapter_weights(model, "f2rvlm"))


def test_the_vision_mlp_of_qwen25_has_the_same_leaves_and_gets_none():
    leaves = ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj")
    for leaf in leaves:
        assert re.fullmatch(TARGET_MODULES, f"model.language_model.layers.3.{leaf}")
    for name in ("model.visual.blocks.0.mlp.gate_proj", "model.visual.blocks.0.attn.qkv"):
        assert not re.fullmatch(TARGET_MODULES, name)


def test_a_fresh_adapter_changes_nothing(folder):
    assert (logits(attach(load(folder), LoraSettings())) - logits(load(folder))).abs().max() == 0


def test_a_saved_folder_loads_here_and_with_plain_peft(folder, tmp_path):
    from peft import PeftModel

    model = trained(folder)
    expected = logits(model)
    path = save_adapter(model, "f2rvlm", tmp_path / "adapter")
    assert sorted(p.name for p in path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert (expected - logits(load(folder))).abs().max() > 0.01
    plain = PeftModel.from_pretrained(load(folder), str(path))
    assert (logits(plain) - expected).abs().max() < 1e-6
    ours = load_adapter(load(folder), path, "again", trainable=True)
    assert (logits(ours) - expected).abs().max() < 1e-6
    assert any(p.requires_grad for p in ours.parameters())
    frozen = load_adapter(ours, path, "reference", trainable=False)
    state = {name: p.requires_grad for name, p in frozen.named_parameters()}
    assert not any(value for name, value in state.items() if ".reference." in name)
    with pytest.raises(InputError, match="fresh name"):
        load_adapter(ours, path, "reference", trainable=False)


def test_saving_again_replaces_and_leaves_nothing_behind(folder, tmp_path):
    model = trained(folder)
    path = save_adapter(model, "f2rvlm", tmp_path / "adapter")
    first = adapter_hash(path)
    for _ in range(5):  # safetensors orders its metadata anew each time
        assert adapter_hash(save_adapter(model, "f2rvlm", tmp_path / "copy")) == first
    import torch

    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1)
    save_adapter(model, "f2rvlm", path)
    assert adapter_hash(path) != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "copy"]


def test_an_adapter_with_a_key_of_the_vision_tower_is_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    path = save_adapter(trained(folder), "f2rvlm", tmp_path / "adapter")
    weights = load_file(path / "adapter_model.safetensors")
    key = next(iter(weights))
    weights[key.replace("language_model", "visual")] = weights[key].clone()
    save_file(weights, path / "adapter_model.safetensors")
    with pytest.raises(InputError, match="outside the language model"):
        load_adapter(load(folder), path, "bad", trainable=False)


def fewer_layers(weights):
    return {key: w for key, w in weights.items() if ".layers.1." not in key}


def more_layers(weights):
    more = {k.replace(".1.", ".7."): w.clone() for k, w in weights.items() if ".layers.1." in k}
    return {**weights, **more}


def wider_layers(weights):
    import torch

    return {k: torch.zeros(2, 99) if "lora_A" in k else w for k, w in weights.items()}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (fewer_layers, "qwen2_vl", r"it holds nothing for the layer '.*layers\.1"),
        (more_layers, "qwen2_vl", r"the model has no layer '.*layers\.7"),
        (wider_layers, "qwen2_vl", r"lora_A.weight' has the shape \[2, 99\]"),
        (dict, "qwen2_5_vl", "it was trained on a qwen2_5_vl"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_an_adapter_of_another_base_is_refused(folder, tmp_path, change, kind, message, beside):
    from safetensors.torch import load_file, save_file

    path = save_adapter(trained(folder), "f2rvlm", tmp_path / "adapter")
    model = load_adapter(load(folder), path, "own", trainable=True) if beside else load(folder)
    file = path / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"ffrs_base_model_type": kind})
    with pytest.raises(InputError, match=message):
        load_adapter(model, path, "other", trainable=False)


def test_a_folder_that_names_no_base_is_judged_by_its_layers(folder, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = save_adapter(trained(folder), "f2rvlm", tmp_path / "adapter")
    with safe_open(path / "adapter_model.safetensors", "pt") as weights:
        assert weights.metadata()["ffrs_base_model_type"] == "qwen2_vl"
    save_file(load_file(path / "adapter_model.safetensors"), path / "adapter_model.safetensors")
    load_adapter(load(folder), path, "x", trainable=False)
    config = json.loads((path / "adapter_config.json").read_text())
    config["layers_to_transform"], config["layers_pattern"] = [0], "layers"
    config["target_modules"] = ["q_proj"]
    (path / "adapter_config.json").write_text(json.dumps(config))
    weights = fewer_layers(load_file(path / "adapter_model.safetensors"))
    weights = {key: w for key, w in weights.items() if "q_proj" in key}
    save_file(weights, path / "adapter_model.safetensors")
    load_adapter(load(folder), path, "x", trainable=False)


def test_errors_name_what_is_missing(folder, tmp_path):
    with pytest.raises(NotFoundError, match="PEFT folder"):
        adapter_hash(tmp_path)
    with pytest.raises(NotFoundError, match=r"has no adapter 'x'; it has \['f2rvlm'\]"):
        save_adapter(trained(folder), "x", tmp_path / "adapter")
    import torch

    with pytest.raises(InputError, match="Linear has no layer"):
        attach(torch.nn.Linear(1, 1), LoraSettings())


def test_a_saved_config_names_no_vision_module(folder, tmp_path):
    path = save_adapter(trained(folder), "f2rvlm", tmp_path / "adapter")
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["target_modules"] == TARGET_MODULES
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (2, 8, True)
