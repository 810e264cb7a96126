"""LoRA inside vLLM on CPUs: one matrix product an adapter.

vLLM 0.29's own functions for CPUs copy an adapter's weights once for every token of a batch, which
takes most of a prefill's time. These do the same sums. T tokens, I inputs, O outputs, S slots of
adapters; a negative slot means no adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def install() -> None:
    """Replace vLLM's functions in this process; on GPUs they are not used."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for function in (bgmv_expand, bgmv_shrink, bgmv_expand_slice):
        for module in (lora_ops, punica_cpu):
            assert hasattr(module, function.__name__), function.__name__
            setattr(module, function.__name__, function)


def products(inputs_TI: Tensor, weights_SOI: Tensor, slots_T: Tensor) -> Tensor:
    """Each token times the weights of its slot: [T, O]; zero without a slot."""
    if weights_SOI.dim() == 4:
        weights_SOI = weights_SOI.squeeze(1)
    used = sorted(set(slots_T.tolist()))
    if len(used) == 1 and used[0] >= 0:
        return inputs_TI @ weights_SOI[used[0]].T.to(inputs_TI.dtype)
    result_TO = inputs_TI.new_zeros(len(inputs_TI), weights_SOI.shape[1])
    for slot in used:
        if slot >= 0:
            rows = slots_T == slot
            result_TO[rows] = inputs_TI[rows] @ weights_SOI[slot].T.to(inputs_TI.dtype)
    return result_TO


def bgmv_shrink(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    scaling: float = 1.0,
) -> None:
    """As vLLM's: the first product, written to `output_tensor`."""
    found = products(inputs.to(output_tensor.dtype), lora_b_weights, lora_indices_tensor)
    output_tensor[:, : found.shape[1]] = scaling * found


def bgmv_expand(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    add_inputs: bool = True,
) -> None:
    """As vLLM's: the second product, added to or written over `output_tensor`."""
    size = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    bgmv_expand_slice(
        inputs, lora_b_weights, output_tensor, lora_indices_tensor, 0, size, add_inputs
    )


def bgmv_expand_slice(
    inputs: Tensor,
    lora_b_weights: Tensor,
    output_tensor: Tensor,
    lora_indices_tensor: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """As vLLM's: the second product for some columns."""
    found: Any = products(inputs.to(output_tensor.dtype), lora_b_weights, lora_indices_tensor)
    place = output_tensor[: len(found), slice_offset : slice_offset + slice_size]
    if add_inputs:
        place += found[:, :slice_size]
    else:
        place[:] = found[:, :slice_size]
