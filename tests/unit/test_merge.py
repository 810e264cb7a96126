"""Merging an adapter for export."""

import json

import pytest

from ffr_core.errors import InputError


def test_merged_folder_equals_base_plus_adapter(tmp_path):
    import torch

    from ffr_core.adapters import LoraSettings, attach, save_adapter
    from ffr_core.engine.loading import load_model, load_processor
    from jobs.merge_adapter import merge
    from jobs.tiny.architecture import write_random_model

    write_random_model(tmp_path / "base", seed=0)
    model = attach(load_model(tmp_path / "base", "float32"), LoraSettings(rank=2), "default")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.05)
    adapter = save_adapter(model, "default", tmp_path / "adapter")
    report = merge(str(tmp_path / "base"), adapter, tmp_path / "merged")
    assert report["merged_differs_by"] < 1e-4 < 0.01 < report["adapter_changes_logits_by"]
    assert json.loads((tmp_path / "merged" / "merge.json").read_text()) == report
    # Hub layout: loads on its own, without PEFT; the vision tower is bit-identical.
    merged = load_model(tmp_path / "merged", "float32")
    assert type(merged).__name__ == "Qwen2VLForConditionalGeneration"
    base = load_model(tmp_path / "base", "float32")
    for (name, a), b in zip(
        base.model.visual.named_parameters(), merged.model.visual.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    ids = torch.arange(40, 70)[None]
    with torch.no_grad():
        difference = (merged(input_ids=ids).logits - model(input_ids=ids).logits).abs().max()
    assert difference < 1e-4
    tokenizer = load_processor(tmp_path / "merged").tokenizer
    assert tokenizer.convert_tokens_to_ids("<|utt_id_start|>") is not None
    with pytest.raises(InputError, match="exists already"):
        merge(str(tmp_path / "base"), adapter, tmp_path / "merged")
