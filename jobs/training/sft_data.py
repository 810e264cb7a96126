"""Examples -> training sequences, encoded once where memory allows, sharded over the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ffr_core.engine.inputs import EncodedPrompt, PromptEncoder, collate
from ffr_core.engine.transformers import rope_positions
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.prompts import Prompts
from jobs.training.distributed import gather_objects
from jobs.training.examples import Example, group_by_view
from jobs.training.sequences import Pairs, TrainingSequence, make_sequence

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
            with_pairs: Find queries, turns and images for the auxiliary loss.
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

    def measure(self, rank: int = 0, world_size: int = 1) -> Counter[str]:
        """Find all lengths, each worker a share, and leave out what does not fit.

        Returns:
            Reasons of what was left out; counted in examples. The same on every worker.
        """
        found: dict[int, tuple[int, int, int] | str] = {}
        for number in range(rank, len(self._groups), world_size):
            found[number] = self._measure(number)
        merged = {k: v for part in gather_objects(found) for k, v in part.items()}
        counts: Counter[str] = Counter()
        kept: list[list[int]] = []
        sequences: dict[int, TrainingSequence] = {}
        for number, group in enumerate(self._groups):
            result = merged[number]
            if isinstance(result, str):
                counts[result] += len(group)
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

    def _measure(self, number: int) -> tuple[int, int, int] | str:
        try:
            sequence = self._make(number)
        except ConfigError:
            raise
        except (InputError, NotFoundError):
            return "bad_image"
        if len(sequence) > self._max_length:
            return "too_long"
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


class PairFinder:
    """Finds the tokens at which turns, images and the query end, and where an answer lists ids."""

    def __init__(self, tokenizer: Any) -> None:
        """Read how the markers are tokenized."""

        def ids(marker: str) -> list[int]:
            return list(tokenizer(marker, add_special_tokens=False)["input_ids"])

        self._turn, self._query_start = ids("<|utt_id_start|>"), ids("<|query_start|>")
        self._query_end = ids("<|query_end|>")
        self._chat_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._lists = [
            (ids(f"<|{side}_ids_start|>"), ids(f"<|{side}_ids_end|>")) for side in ("utt", "img")
        ]

    def find(self, prompt: EncodedPrompt, example: Example) -> Pairs:
        """Pairs of one example; ConfigError when its markers cannot be found in the tokens.

        The query is paired with every turn and image. With the query last, each token inside the
        answer's lists is paired with the turns or the images as well: the next id depends on it.
        A turn ends before the next turn's marker (the last one: before the query or the end of
        the message), an image at the token behind its last placeholder.
        """
        ids = prompt.input_ids[: prompt.num_prompt_tokens]
        starts = _occurrences(ids, self._turn)
        query_ends = _occurrences(ids, self._query_end)
        query_starts = _occurrences(ids, self._query_start)
        kinds = prompt.mm_token_type_ids
        image_ends = [i for i in range(1, len(ids)) if kinds[i - 1] and not kinds[i]]
        shown = [image for image in example.dialogue.images if image.uri is not None]
        if (
            len(starts) != len(example.dialogue.turns)
            or len(query_ends) != 1
            or len(image_ends) != len(shown)
        ):
            raise ConfigError(
                f"example {example.example_id!r}: {len(starts)} turn markers,"
                f" {len(query_ends)} query markers and {len(image_ends)} images found in the"
                f" tokens of {len(example.dialogue.turns)} turns and {len(shown)} images;"
                " the auxiliary loss needs a tokenizer that keeps markers apart, set"
                " auxiliary_loss_weight = 0"
            )
        last = len(ids) - 1 - ids[::-1].index(self._chat_end)
        if query_starts[0] > starts[-1]:
            last = query_starts[0]
        element = [start - 1 for start in starts[1:]] + [last - 1] + image_ends
        gold = [turn.turn_id in example.selection.utterance_ids for turn in example.dialogue.turns]
        gold += [image.image_id in example.selection.image_ids for image in shown]
        query = query_ends[0] + len(self._query_end) - 1
        places = [(query, 0, len(element))]
        if query > starts[-1]:
            turns = len(starts)
            places += [(at, 0, turns) for at in self._listed(prompt, 0)]
            places += [(at, turns, len(element)) for at in self._listed(prompt, 1)]
        return Pairs(
            query_E=torch.tensor([at for at, low, high in places for _ in range(low, high)]),
            element_E=torch.tensor([e for _, low, high in places for e in element[low:high]]),
            gold_E=torch.tensor(
                [g for _, low, high in places for g in gold[low:high]], dtype=torch.float32
            ),
        )

    def _listed(self, prompt: EncodedPrompt, side: int) -> range:
        """Positions of an answer's list of turns (0) or images (1), but for its last bracket."""
        answer = prompt.input_ids[prompt.num_prompt_tokens :]
        opening, closing = (_occurrences(answer, marker) for marker in self._lists[side])
        if not (opening and closing):
            return range(0)
        first = opening[0] + len(self._lists[side][0])
        return range(prompt.num_prompt_tokens + first, prompt.num_prompt_tokens + closing[0] - 1)


def _occurrences(ids: list[int], part: list[int]) -> list[int]:
    """Where a run of tokens begins."""
    size = len(part)
    return [
        i for i in range(len(ids) - size + 1) if ids[i] == part[0] and ids[i : i + size] == part
    ]
