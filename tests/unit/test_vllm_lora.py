"""The sums of LoRA on CPUs against vLLM's own functions."""

import pytest
import torch

lora_ops = pytest.importorskip("vllm.lora.ops.torch_ops.lora_ops", reason="vllm is not installed")

from ffr_core.engine import vllm_lora  # noqa: E402

SLOTS, TOKENS, INPUTS, RANK, OUTPUTS = 4, 9, 6, 3, 8


def tensors(one_slot=False):
    torch.manual_seed(0)
    slots = torch.randint(0, SLOTS, (TOKENS,)) if not one_slot else torch.full((TOKENS,), 2)
    shrink = torch.randn(SLOTS, 1, RANK, INPUTS)
    expand = torch.randn(SLOTS, 1, OUTPUTS, RANK)
    return torch.randn(TOKENS, INPUTS), torch.randn(TOKENS, RANK), shrink, expand, slots


@pytest.mark.parametrize("one_slot", [False, True])
def test_both_products_are_those_of_vllm(one_slot):
    inputs, middle, shrink, expand, slots = tensors(one_slot)
    results = []
    for module in (lora_ops, vllm_lora):
        first, second = torch.zeros(TOKENS, RANK + 1), torch.ones(TOKENS, OUTPUTS + 2)
        sliced, whole = torch.ones(TOKENS, 12), torch.ones(TOKENS, 5)
        module.bgmv_shrink(inputs, shrink, first, slots, 0.5)
        module.bgmv_expand(middle, expand, second, slots)
        module.bgmv_expand(middle, expand, whole, slots, add_inputs=False)
        module.bgmv_expand_slice(middle, expand, sliced, slots, 2, OUTPUTS)
        results.append((first, second, sliced, whole))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_token_without_an_adapter_is_left_alone():
    _, middle, _, expand, slots = tensors()
    slots[3] = -1
    output = torch.ones(TOKENS, OUTPUTS)
    vllm_lora.bgmv_expand(middle, expand, output, slots)
    assert torch.equal(output[3], torch.ones(OUTPUTS))
    assert not torch.equal(output[2], torch.ones(OUTPUTS))
