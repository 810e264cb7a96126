"""The model in SFT: base, adapter, the optional auxiliary head, and the two losses of a batch.

Legend: as in `sequences.py`; V vocabulary, H size of the head's space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ffr_core.adapters import LoraSettings, attach, load_adapter
from ffr_core.engine.loading import load_model
from ffr_core.errors import ConfigError
from jobs.training.attention_scores import attention_scores
from jobs.training.branch_attention import BranchMask, use_branch_attention
from jobs.training.sequences import TrainingBatch

ADAPTER = "default"
"""Name of the adapter inside the model in training."""
HeadKind = Literal["bilinear", "linear", "attention"]
POSITIVE_WEIGHT = 3.0
"""Weight of selected elements in the auxiliary loss; they are about one in ten."""


class ElementHead(nn.Module):
    """Scores each turn and image against the query, from hidden states; training only.

    `bilinear`: (A q) . (B e) / sqrt(H) + bias, for prompts with the query last. `linear`: w . e +
    bias, for prompts with the query first, where the element's state has seen the query.
    """

    def __init__(self, kind: HeadKind, hidden_size: int, size: int = 64) -> None:
        super().__init__()
        self.kind, self._size = kind, size
        self.element = nn.Linear(hidden_size, size if kind == "bilinear" else 1)
        self.query = nn.Linear(hidden_size, size) if kind == "bilinear" else None
        if self.query is not None:  # starts as a plain dot product
            self.query.load_state_dict(self.element.state_dict())
        # About one element in eight is selected.
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, query_ED: Tensor, element_ED: Tensor) -> Tensor:
        """Logits [E]."""
        element = self.element(element_ED)
        if self.query is None:
            return element[:, 0] + self.bias
        return (self.query(query_ED) * element).sum(-1) / math.sqrt(self._size) + self.bias


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSums:
    """Sums over a batch, so that batches and workers add up; divide by the counts of a step."""

    answer: Tensor
    """Cross entropy over the N answer tokens."""
    auxiliary: Tensor
    """Binary cross entropy over the E pairs; 0 without a head."""
    correct: int
    """Answer tokens whose most probable token is the right one."""


class SftModel:
    """A Qwen2-VL or Qwen2.5-VL with a LoRA in training; everything else is frozen."""

    def __init__(
        self, base: Any, peft: Any, head: ElementHead | None, scored_layer: int | None
    ) -> None:
        """Take loaded parts; see `build`.

        Args:
            base: The model with LoRA layers inside.
            peft: The PEFT wrapper around it.
            head: Auxiliary head of its own, or None.
            scored_layer: Layer whose output feeds the auxiliary loss, from 1, the last one's is -1;
                without a head the scores are those of the next layer's attention. None: no such
                loss.
        """
        self.base, self.peft, self.head, self._layer = base, peft, head, scored_layer
        self.device: torch.device = base.device

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds the trainable parameters of."""
        return {"model": self.peft, **({"head": self.head} if self.head else {})}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters in a fixed order."""
        return [p for m in self.modules.values() for p in m.parameters() if p.requires_grad]

    def train(self, on: bool) -> None:
        """Switch between training (gradient checkpointing acts) and generation."""
        self.peft.train(on)
        self.base.model.visual.eval()

    @torch.no_grad()
    def image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        """Output of the frozen vision tower, [K, D] over all pictures."""
        out = self.base.model.get_image_features(
            pixel_values.to(self.device), image_grid_thw.to(self.device)
        )
        return torch.cat(list(out.pooler_output))

    def losses(self, batch: TrainingBatch) -> LossSums:
        """Forward one batch; logits are computed for answer tokens only."""
        inner = self.base.model
        embeds_BLD = inner.get_input_embeddings()(batch.input_ids_BL)
        features_KD = batch.features_KD
        if features_KD is None and batch.pixel_values is not None:
            features_KD = self.image_features(batch.pixel_values, batch.image_grid_thw)
        if features_KD is not None:
            place = batch.image_BL[..., None].expand_as(embeds_BLD)
            embeds_BLD = embeds_BLD.masked_scatter(place, features_KD.to(embeds_BLD.dtype))
        wants_layers = self._layer is not None and batch.pairs is not None
        branches = isinstance(batch.mask, BranchMask)
        out = inner.language_model(
            inputs_embeds=embeds_BLD,
            attention_mask={"full_attention": batch.mask} if branches else batch.mask,
            position_ids=batch.positions_3BL,
            use_cache=False,
            output_hidden_states=wants_layers,
        )
        state_ND = out.last_hidden_state[batch.row_N, batch.predict_at_N]
        logits_NV = self.base.lm_head(state_ND).float()
        answer = functional.cross_entropy(logits_NV, batch.targets_N, reduction="sum")
        correct = int((logits_NV.detach().argmax(-1) == batch.targets_N).sum())
        auxiliary = answer.new_zeros(())
        if wants_layers:
            auxiliary = self._auxiliary(out.hidden_states[self._layer], batch)
        return LossSums(answer=answer, auxiliary=auxiliary, correct=correct)

    def _auxiliary(self, hidden_BLD: Tensor, batch: TrainingBatch) -> Tensor:
        assert batch.pairs is not None and batch.row_E is not None
        row_E, query_E, element_E = batch.row_E, batch.pairs.query_E, batch.pairs.element_E
        if self.head is None:
            assert self._layer is not None
            logits_E = attention_scores(
                self.base.model.language_model,
                self._layer,
                hidden_BLD,
                batch.positions_3BL,
                row_E,
                query_E,
                element_E,
            )
        else:
            hidden_BLD = hidden_BLD.to(self.head.bias.dtype)
            logits_E = self.head(hidden_BLD[row_E, query_E], hidden_BLD[row_E, element_E])
        return functional.binary_cross_entropy_with_logits(
            logits_E,
            batch.pairs.gold_E,
            reduction="sum",
            pos_weight=logits_E.new_tensor(POSITIVE_WEIGHT),
        )


def build(
    path: str | Path,
    *,
    lora: LoraSettings,
    init_adapter: str | None,
    dtype: str,
    attention: str,
    gradient_checkpointing: bool,
    head: HeadKind | None,
    head_layer: int,
    device: torch.device,
) -> SftModel:
    """Load a base model, add a fresh adapter (or go on from one), freeze the rest.

    Args:
        path: Model folder or hub id.
        lora: Size of a fresh adapter.
        init_adapter: PEFT folder to start from instead.
        dtype: Of the base; adapter and head stay in fp32.
        attention: `sdpa`, `flash_attention_2` or `eager`.
        gradient_checkpointing: Recompute each layer in the backward pass.
        head: Kind of the auxiliary head, None for none; `attention` takes a head of the model.
        head_layer: See `SftModel`.
        device: Where it runs.

    Raises:
        ConfigError: `attention` needs a layer that reads what `head_layer` writes.
    """
    base = load_model(path, dtype, str(device))
    base.set_attn_implementation(attention)
    if init_adapter is None:
        peft = attach(base, lora, ADAPTER)
    else:
        peft = load_adapter(base, init_adapter, ADAPTER, trainable=True)
    base = peft.get_base_model()
    if attention == "sdpa":
        use_branch_attention(base.model.language_model)
    if gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    hidden_size = base.config.get_text_config().hidden_size
    num_layers = len(base.model.language_model.layers)
    if head == "attention" and not 1 <= head_layer < num_layers:
        raise ConfigError(
            f"auxiliary_layer = {head_layer}: with auxiliary_head = 'attention' the layer behind it"
            f" is scored, take one from 1 to {num_layers - 1}"
        )
    module = ElementHead(head, hidden_size).to(device) if head in ("bilinear", "linear") else None
    return SftModel(base, peft, module, head_layer if head else None)
