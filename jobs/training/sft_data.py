"""Examples -> training sequences, encoded once where memory allows, sharded over the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ffr_core.engine.inputs import EncodedPrompt, PromptEncoder, collate
from ffr_core.engine.transformers import rope_positions
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.prompts import Prompts
from jobs.training.distributed import gather_objects
from jobs.training.examples import Example, group_by_view
from jobs.training.pairs import PairFinder
from jobs.training.sequences import TrainingSequence, make_sequence

if TYPE_CHECKING:
    from jobs.training.sft_model import SftModel


class SequenceSource:
    """Sequences by number; the same numbers on every worker."""

    def __init__(
        self,
        examples: Sequence[Example],
        prompts: Prompts,
        encoder: PromptEncoder,
        model: SftModel,
        *,
        max_length: int,
        queries_per_sequence: int = 1,
        cached: bool = True,
        with_pairs: bool = False,
    ) -> None:
        """Group examples into sequences; call `measure` next.

        Args:
            examples: In their order.
            prompts: Templates.
            encoder: Makes token ids and patches.
            model: For positions, and for picture features when `cached`.
            max_length: A longer sequence is left out.
            queries_per_sequence: Examples of one view that share a sequence.
            cached: Keep sequences and picture features in memory. Else each is made when needed.
            with_pairs: Find the tokens that the auxiliary loss compares.
        """
        self._examples, self._prompts, self._encoder = examples, prompts, encoder
        self._model, self._max_length = model, max_length
        self._groups = group_by_view(examples, queries_per_sequence)
        self._cached = cached
        self._finder = PairFinder(encoder.tokenizer) if with_pairs else None
        self._sequences: dict[int, TrainingSequence] = {}
        self._features: dict[str, torch.Tensor] = {}
        self.lengths: list[int] = []
        """Tokens of each sequence; set by `measure`."""
        self.weights: list[tuple[int, int]] = []
        """Answer tokens and auxiliary pairs of each sequence; set by `measure`."""
        self.example_of: dict[str, str] = {}
        """What was wrong with one example of each reason; set by `measure`."""

    def measure(self, rank: int = 0, world_size: int = 1) -> Counter[str]:
        """Find all lengths, each worker a share, and leave out what does not fit.

        Returns:
            Reasons of what was left out; counted in examples. The same on every worker.
        """
        found: dict[int, tuple[int, int, int] | tuple[str, str]] = {}
        for number in range(rank, len(self._groups), world_size):
            found[number] = self._measure(number)
        merged = {k: v for part in gather_objects(found) for k, v in part.items()}
        counts: Counter[str] = Counter()
        kept: list[list[int]] = []
        sequences: dict[int, TrainingSequence] = {}
        for number, group in enumerate(self._groups):
            result = merged[number]
            if len(result) == 2:
                reason, problem = result
                counts[reason] += len(group)
                self.example_of.setdefault(reason, problem)
                continue
            if number in self._sequences:
                sequences[len(kept)] = self._sequences[number]
            kept.append(group)
            self.lengths.append(result[0])
            self.weights.append(result[1:])
        self._groups, self._sequences = kept, sequences
        return counts

    def __getitem__(self, number: int) -> TrainingSequence:
        """One sequence, from memory if it is there."""
        found = self._sequences.get(number)
        return found if found is not None else self._keep(number, self._make(number))

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self._groups)

    def _measure(self, number: int) -> tuple[int, int, int] | tuple[str, str]:
        """Length, answer tokens and pairs, or why it is left out: a word and a sentence."""
        try:
            sequence = self._make(number)
        except ConfigError:
            raise
        except (InputError, NotFoundError) as error:
            return "bad_image", str(error)
        if len(sequence) > self._max_length:
            first = self._examples[self._groups[number][0]].example_id
            return "too_long", f"example {first!r} has {len(sequence)} tokens"
        self._keep(number, sequence)
        pairs = 0 if sequence.pairs is None else len(sequence.pairs.gold_E)
        return len(sequence), len(sequence.targets_N), pairs

    def _keep(self, number: int, sequence: TrainingSequence) -> TrainingSequence:
        if self._cached:
            self._sequences[number] = sequence
        return sequence

    def _make(self, number: int) -> TrainingSequence:
        group = [self._examples[i] for i in self._groups[number]]
        prompts = [self._encoder.encode(e.messages(self._prompts), e.answer) for e in group]
        positions = [self._positions(prompt) for prompt in prompts]
        pairs = None
        if self._finder is not None:
            pairs = [self._finder.find(p, e) for p, e in zip(prompts, group, strict=True)]
        sequence = make_sequence(prompts, positions, pairs)
        if self._cached and sequence.pixel_values is not None:
            view = group[0].view_id
            if view not in self._features:
                assert sequence.image_grid_thw is not None
                self._features[view] = self._model.image_features(
                    sequence.pixel_values, sequence.image_grid_thw
                ).cpu()
            sequence = replace(
                sequence, pixel_values=None, image_grid_thw=None, features_KD=self._features[view]
            )
        return sequence

    def _positions(self, prompt: EncodedPrompt) -> torch.Tensor:
        """M-RoPE positions [3, L]."""
        if prompt.image_grid_thw is None:
            return torch.arange(len(prompt.input_ids)).expand(3, -1)
        batch = collate([prompt], 0)
        return rope_positions(self._model.base, batch)[:, 0]
