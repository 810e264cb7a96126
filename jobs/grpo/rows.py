"""Groups as rows of a forward pass: one prompt, read once, with all its completions behind it.

Each completion sees the prompt and itself, not its siblings, and its positions start where the
prompt ends; the result equals one row for each completion (a test proves it) at a fraction of the
cost, since a prompt is much longer than an answer.

Legend: B rows, L tokens of a row, T completion tokens of all rows in a flat row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffr_core.engine.inputs import EncodedPrompt
from ffr_core.rollout import Group


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One prompt and completions of it."""

    prompt: EncodedPrompt
    completions: tuple[tuple[int, ...], ...]
    advantages: tuple[float, ...]
    """One for each completion."""
    logprobs: tuple[tuple[float, ...], ...]
    """The engine's, one tuple for each completion; empty tuples where it could not tell."""

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.input_ids)

    @property
    def num_tokens(self) -> int:
        """Tokens of the row."""
        return self.num_prompt_tokens + sum(map(len, self.completions))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowBatch:
    """Rows as tensors, padded on the right."""

    input_ids_BL: Tensor
    segments_BL: Tensor
    """0 for the prompt, k for the k-th completion, -1 for padding."""
    offsets_BL: Tensor
    """Distance from the end of the prompt, 0 at a completion's first token; 0 inside the prompt."""
    row_T: Tensor
    """Row of each completion token."""
    position_T: Tensor
    """Position in the row whose output predicts it."""
    target_T: Tensor
    """The token."""
    advantages_T: Tensor
    sampler_T: Tensor
    """Log-probabilities of the engine; NaN where it could not tell."""

    @property
    def num_tokens(self) -> int:
        """Completion tokens."""
        return len(self.target_T)


def rows_of(
    group: Group, prompt: EncodedPrompt, share_prompt: bool, scale_rewards: bool = True
) -> list[Row]:
    """Rows of a group; rollouts without a token (failed ones) carry no loss and are left out."""
    pairs = zip(group.rollouts, group.advantages(scale_rewards), strict=True)
    kept = [(r.token_ids, a, r.logprobs) for r, a in pairs if r.token_ids]
    if not share_prompt:
        return [_row(prompt, [item]) for item in kept]
    return [_row(prompt, kept)] if kept else []


def _row(
    prompt: EncodedPrompt, items: Sequence[tuple[tuple[int, ...], float, tuple[float, ...]]]
) -> Row:
    tokens, advantages, logprobs = zip(*items, strict=True)
    return Row(prompt=prompt, completions=tokens, advantages=advantages, logprobs=logprobs)


def microbatches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Rows of similar length, at most `max_tokens` padded tokens; a longer row goes alone."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda r: r.num_tokens):
        if batch and (len(batch) + 1) * row.num_tokens > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def share_rows(groups: Sequence[Sequence[Row]], rank: int, world_size: int) -> list[Row]:
    """This worker's rows: groups go to the worker with the fewest tokens, the longest first."""
    loads = [0] * world_size
    mine: list[Row] = []
    for group in sorted(groups, key=lambda rows: -sum(row.num_tokens for row in rows)):
        worker = loads.index(min(loads))
        loads[worker] += sum(row.num_tokens for row in group)
        if worker == rank:
            mine.extend(group)
    return mine


def build_batch(rows: Sequence[Row], pad_token_id: int) -> RowBatch:
    """Put rows into tensors."""
    length = max(row.num_tokens for row in rows)
    input_ids_BL = torch.full((len(rows), length), pad_token_id)
    segments_BL = torch.full((len(rows), length), -1)
    offsets_BL = torch.zeros((len(rows), length), dtype=torch.long)
    row_T: list[int] = []
    position_T: list[int] = []
    target_T: list[int] = []
    advantages_T: list[float] = []
    sampler_T: list[float] = []
    for number, row in enumerate(rows):
        end = row.num_prompt_tokens
        input_ids_BL[number, :end] = torch.tensor(row.prompt.input_ids)
        segments_BL[number, :end] = 0
        items = zip(row.completions, row.advantages, row.logprobs, strict=True)
        for segment, (tokens, advantage, logprobs) in enumerate(items, start=1):
            size = len(tokens)
            place = slice(end, end + size)
            input_ids_BL[number, place] = torch.tensor(tokens)
            segments_BL[number, place] = segment
            offsets_BL[number, place] = torch.arange(size)
            row_T += [number] * size
            position_T += [row.num_prompt_tokens - 1, *range(end, end + size - 1)]
            target_T += tokens
            advantages_T += [advantage] * size
            sampler_T += logprobs or (float("nan"),) * size
            end += size
    return RowBatch(
        input_ids_BL=input_ids_BL,
        segments_BL=segments_BL,
        offsets_BL=offsets_BL,
        row_T=torch.tensor(row_T),
        position_T=torch.tensor(position_T),
        target_T=torch.tensor(target_T),
        advantages_T=torch.tensor(advantages_T),
        sampler_T=torch.tensor(sampler_T),
    )


def attention_mask(segments_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, L, L]: causal, to the prompt and inside the own completion only."""
    length = segments_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=segments_BL.device).tril()
    query_BL1, key_B1L = segments_BL[:, :, None], segments_BL[:, None, :]
    seen_BLL = causal_LL & ((key_B1L == 0) | (key_B1L == query_BL1))
    mask = torch.zeros(seen_BLL.shape, dtype=dtype, device=segments_BL.device)
    return mask.masked_fill(~seen_BLL, torch.finfo(dtype).min)[:, None]
