"""The policy and its reference: one base model, two adapters, log-probabilities of completions.

Legend: B rows, L tokens, T completion tokens in a flat row, V vocabulary, H hidden size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffr_core.adapters import LoraSettings, attach, load_adapter, save_adapter
from ffr_core.engine.inputs import EncodedPrompt, collate
from ffr_core.engine.transformers import rope_positions
from ffr_core.losses.policy import token_entropies, token_logprobs, top_p_mask
from jobs.grpo.rows import RowBatch, attention_mask

POLICY, REFERENCE = "policy", "reference"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What the language model reads; shared by policy, behavior and reference passes."""

    embeddings_BLH: Tensor
    positions_3BL: Tensor
    mask_B1LL: Tensor
    batch: RowBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenScores:
    """What one pass says about T completion tokens."""

    logprobs_T: Tensor
    """Over the masked vocabulary, as it was sampled from."""
    plain_T: Tensor
    """At temperature 1 over the vocabulary without banned tokens, no gradient."""
    entropies_T: Tensor
    """Nats, over the vocabulary without banned tokens, no gradient."""
    allowed_TV: Tensor | None
    """The top_p mask that was used; None without one."""


class PolicyModel:
    """A base model with a trainable policy adapter and a frozen reference adapter."""

    def __init__(
        self,
        base: Any,
        *,
        cold_start: str | Path | None,
        lora: LoraSettings,
        banned_token_ids: Sequence[int],
        pad_token_id: int,
        sampling_temperature: float = 1.0,
        top_p: float = 1.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Load the cold-start adapter twice: to train, and as the frozen reference.

        Args:
            base: Model in eval mode, such as `load_model` returns.
            cold_start: PEFT folder; None starts with a fresh adapter, whose output is the base's.
            lora: Size of a fresh adapter.
            banned_token_ids: Never sampled.
            pad_token_id: Fills rows.
            sampling_temperature: Of the rollouts.
            top_p: Of the rollouts; below 1 the mask is recomputed from the behavior.
            gradient_checkpointing: Trade time for memory.
        """
        if cold_start is None:
            with tempfile.TemporaryDirectory() as folder:
                fresh = attach(base, lora, POLICY)
                save_adapter(fresh, POLICY, Path(folder) / "fresh")
                self.model = load_adapter(fresh, Path(folder) / "fresh", REFERENCE, trainable=False)
        else:
            policy = load_adapter(base, cold_start, POLICY, trainable=True)
            self.model = load_adapter(policy, cold_start, REFERENCE, trainable=False)
        self._base: Any = self.model.get_base_model()
        self._banned, self._pad = tuple(banned_token_ids), pad_token_id
        self._temperature, self._top_p = sampling_temperature, top_p
        # Dropout would make the ratio differ from 1 on policy.
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if gradient_checkpointing:
            self._base.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.train()
        self._activate(POLICY)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters: the policy adapter's."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def inputs(self, prompts: Sequence[EncodedPrompt], batch: RowBatch) -> Inputs:
        """Embed tokens and pictures and lay out positions; all of it frozen, so done once."""
        inner, device = self._base.model, self._base.device
        padded = {key: v.to(device) for key, v in collate(prompts, self._pad).items()}
        prompt_3BL = rope_positions(self._base, padded)
        ids_BL, segments_BL = batch.input_ids_BL.to(device), batch.segments_BL.to(device)
        # A completion's first token stands one behind the largest position of its prompt.
        start_B = prompt_3BL.masked_fill(padded["attention_mask"] == 0, 0).amax(dim=(0, 2)) + 1
        behind_BL = start_B[:, None] + batch.offsets_BL.to(device)
        positions_3BL = torch.where(segments_BL > 0, behind_BL, 0).expand(3, -1, -1).clone()
        length = prompt_3BL.shape[2]
        in_prompt_BL = segments_BL[:, :length] == 0
        positions_3BL[:, :, :length][:, in_prompt_BL] = prompt_3BL[:, in_prompt_BL]
        with torch.no_grad():
            embeddings_BLH = inner.get_input_embeddings()(ids_BL)
            if "pixel_values" in padded:
                pictures = inner.get_image_features(
                    padded["pixel_values"], padded["image_grid_thw"], return_dict=True
                ).pooler_output
                place = (ids_BL == self._base.config.image_token_id)[..., None]
                flat = torch.cat(tuple(pictures)).to(embeddings_BLH.dtype)
                embeddings_BLH = embeddings_BLH.masked_scatter(place, flat)
        return Inputs(
            embeddings_BLH=embeddings_BLH,
            positions_3BL=positions_3BL,
            mask_B1LL=attention_mask(segments_BL, embeddings_BLH.dtype),
            batch=batch,
        )

    def score(self, inputs: Inputs, allowed_TV: Tensor | None = None) -> TokenScores:
        """Log-probabilities under the policy, with gradient where gradients are enabled.

        Args:
            inputs: From `inputs`.
            allowed_TV: The behavior's top_p mask; None computes it from these logits.
        """
        logits_TV = self._logits(inputs)
        target_T = inputs.batch.target_T.to(logits_TV.device)
        if allowed_TV is None and self._top_p < 1:
            allowed_TV = top_p_mask(
                logits_TV,
                self._top_p,
                banned_token_ids=self._banned,
                sampling_temperature=self._temperature,
            )
        logprobs_T = token_logprobs(
            logits_TV,
            target_T,
            banned_token_ids=self._banned,
            sampling_temperature=self._temperature,
            allowed_TV=allowed_TV,
        )
        detached_TV = logits_TV.detach()
        plain = allowed_TV is None and self._temperature == 1
        return TokenScores(
            logprobs_T=logprobs_T,
            plain_T=logprobs_T.detach()
            if plain
            else token_logprobs(detached_TV, target_T, banned_token_ids=self._banned),
            entropies_T=token_entropies(detached_TV, self._banned),
            allowed_TV=allowed_TV,
        )

    @torch.no_grad()
    def reference(self, inputs: Inputs, allowed_TV: Tensor | None) -> Tensor:
        """Log-probabilities under the frozen reference over the same masked vocabulary, [T]."""
        with self._active(REFERENCE):
            return token_logprobs(
                self._logits(inputs),
                inputs.batch.target_T.to(inputs.embeddings_BLH.device),
                banned_token_ids=self._banned,
                sampling_temperature=self._temperature,
                allowed_TV=allowed_TV,
            )

    def save(self, folder: Path) -> Path:
        """Write the policy as a plain PEFT folder."""
        return save_adapter(self.model, POLICY, folder)

    def _logits(self, inputs: Inputs) -> Tensor:
        """Logits that predict the completion tokens, [T, V]; the prompt's are never made."""
        hidden_BLH = self._base.model.language_model(
            inputs_embeds=inputs.embeddings_BLH,
            position_ids=inputs.positions_3BL,
            attention_mask={
                "full_attention": inputs.mask_B1LL,
                "sliding_attention": inputs.mask_B1LL,
            },
            use_cache=False,
        ).last_hidden_state
        batch = inputs.batch
        logits: Tensor = self._base.lm_head(hidden_BLH[batch.row_T, batch.position_T])
        return logits

    @contextmanager
    def _active(self, name: str) -> Iterator[None]:
        self._activate(name)
        try:
            yield
        finally:
            self._activate(POLICY)

    def _activate(self, name: str) -> None:
        self.model.set_adapter(name, inference_mode=name == REFERENCE)
