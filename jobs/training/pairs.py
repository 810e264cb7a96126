"""Which tokens of a training sequence the auxiliary loss compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ffr_core.engine.inputs import EncodedPrompt
from ffr_core.errors import ConfigError
from jobs.training.examples import Example
from jobs.training.sequences import Pairs


class PairFinder:
    """Finds where turns, images and the query end, and where an answer lists ids."""

    def __init__(self, tokenizer: Any) -> None:
        """Read how the markers are tokenized."""
        self._tokenizer = tokenizer

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

        To localize, the query is paired with every turn and image. With the query last, each token
        inside the answer's lists is paired with the turns or the images as well: the next id
        depends on it. To segment, a turn is paired with those before it, and each token inside a
        cluster of the answer with all turns; gold is the same cluster. A turn ends before the next
        turn's marker (the last one: before the query or the end of the message), an image at the
        token behind its last placeholder.
        """
        if example.query is None:
            return self._find_clusters(prompt, example)
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
        behind = query_starts[0] if query_starts[0] > starts[-1] else None
        element = self._turn_ends(ids, starts, behind) + image_ends
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

    def _find_clusters(self, prompt: EncodedPrompt, example: Example) -> Pairs:
        ids = prompt.input_ids[: prompt.num_prompt_tokens]
        starts = _occurrences(ids, self._turn)
        if len(starts) != len(example.dialogue.turns):
            raise ConfigError(
                f"example {example.example_id!r}: {len(starts)} turn markers found in the tokens of"
                f" {len(example.dialogue.turns)} turns; the auxiliary loss needs a tokenizer that"
                " keeps markers apart, set auxiliary_loss_weight = 0"
            )
        ends = self._turn_ends(ids, starts)
        turns = {turn.turn_id: i for i, turn in enumerate(example.dialogue.turns)}
        cluster = {turns[t]: c for c, members in enumerate(example.clusters) for t in members}
        pairs = [
            (ends[late], ends[early], cluster[late] == cluster[early])
            for late in range(len(ends))
            for early in range(late)
        ]
        pairs += [
            (at, end, cluster[turn] == number)
            for at, number in self._clustered(prompt)
            for turn, end in enumerate(ends)
        ]
        return Pairs(
            query_E=torch.tensor([late for late, _, _ in pairs], dtype=torch.long),
            element_E=torch.tensor([early for _, early, _ in pairs], dtype=torch.long),
            gold_E=torch.tensor([same for _, _, same in pairs], dtype=torch.float32),
        )

    def _turn_ends(self, ids: list[int], starts: list[int], behind: int | None = None) -> list[int]:
        """Last token of each turn; `behind` is what follows the last one, else the message ends."""
        if behind is None:
            behind = len(ids) - 1 - ids[::-1].index(self._chat_end)
        return [start - 1 for start in [*starts[1:], behind]]

    def _clustered(self, prompt: EncodedPrompt) -> Iterator[tuple[int, int]]:
        """Positions of an answer that an id of a cluster may follow, with the cluster's number."""
        depth, number = 0, -1
        for at in range(prompt.num_prompt_tokens, len(prompt.input_ids)):
            for character in self._tokenizer.decode([prompt.input_ids[at]]):
                depth += (character == "[") - (character == "]")
                number += character == "[" and depth == 2
            if depth == 2:
                yield at, number

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
