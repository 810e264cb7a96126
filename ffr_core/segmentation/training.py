"""Fit the small models of `TextTilingSegmenter` and write their numbers.

    python -m ffr_core.segmentation.training --linear talk.jsonl.gz --linear meetings.jsonl.gz \
        --chat ffr_core/data/sample/zh.jsonl --crowd channel.jsonl.gz \
        --cache DIR --out ffr_core/data/segmentation/weights.json

`FILE:N` stands for the first N dialogues of a file. `--linear` sets have contiguous gold fragments
and are read without their times, `--chat` sets have returning topics and are read with and without
them, `--crowd` sets are channels where turns address one another. A set weighs as the square root
of the number of its boundaries.

Shapes: N rows, F features; see the modules that make the features for theirs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.errors import InputError
from ffr_core.passages import passage_of
from ffr_core.records import read_jsonl
from ffr_core.segmentation.addressing import Addressing
from ffr_core.segmentation.cues import TurnCues
from ffr_core.segmentation.gaps import gap_features
from ffr_core.segmentation.linear import same_fragment
from ffr_core.segmentation.replies import link_features
from ffr_core.segmentation.threads import pair_features
from ffr_core.segmentation.weights import Kinds, LinkScorer, Logistic, boundary_probabilities
from ffr_core.types import Dialogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.protocols import Encoder

_FOLDS = 4
_KIND_FEATURES = {
    "dialogue_turns": 0.25,
    "dialogue_length": 0.15,
    "dialogue_length_spread": 0.1,
    "dialogue_short_turns": 0.05,
    "dialogue_speakers": 0.25,
    "dialogue_same_speaker": 0.05,
}
"""What tells kinds of talk apart, with the least spread that a kind is given."""
_PAIR_WEIGHT = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A dialogue with its vectors and the gold fragment of each turn."""

    dialogue: Dialogue
    cues: TurnCues
    vectors_TD: NDArray[np.float32]
    gold_T: NDArray[np.int64]
    """-1 for a turn that no gold fragment holds; the last fragment that names it otherwise."""


def examples(dialogues: Sequence[Dialogue], encoder: Encoder, hide_times: bool) -> list[Example]:
    """Embed the turns of dialogues that have at least two turns and gold fragments."""
    found = []
    for dialogue in dialogues:
        if dialogue.fragments is None or len(dialogue.turns) < 2:
            continue
        gold_T = np.full(len(dialogue.turns), -1)
        for number, turn_ids in enumerate(dialogue.fragments):
            gold_T[list(turn_ids)] = number
        passages = [passage_of(dialogue, [turn.turn_id]) for turn in dialogue.turns]
        seen = without_times(dialogue) if hide_times else dialogue
        found.append(
            Example(
                dialogue=seen,
                cues=TurnCues.of(seen),
                vectors_TD=encoder.encode_passages(passages),
                gold_T=gold_T,
            )
        )
    return found


def without_times(dialogue: Dialogue) -> Dialogue:
    """The dialogue as if its source had not kept times."""
    turns = tuple(replace(t, timestamp=None, timestamp_text=None) for t in dialogue.turns)
    return replace(dialogue, turns=turns)


def fit_gaps(sets: Sequence[Sequence[Example]], penalty: float = 150.0) -> Logistic:
    """Boundary or not, for every gap between two turns with gold fragments."""
    rows, targets, weights = [], [], []
    names: tuple[str, ...] = ()
    for group in sets:
        marks = [(e.gold_T[1:], e.gold_T[:-1]) for e in group]
        boundaries = [(after != before)[(after >= 0) & (before >= 0)] for after, before in marks]
        # Between every set alike (1 / count) and every boundary alike (1).
        share = math.sqrt(300 / max(1, sum(int(b.sum()) for b in boundaries)))
        for example, (after, before), boundary in zip(group, marks, boundaries, strict=True):
            names, features_GF = gap_features(example.cues, example.vectors_TD)
            rows.append(features_GF[(after >= 0) & (before >= 0)])
            targets.append(boundary)
            weights.append(np.full(len(boundary), share))
    return fit_logistic(
        names, np.concatenate(rows), np.concatenate(targets), np.concatenate(weights), penalty
    )


def fit_kinds(sets: Sequence[Sequence[Example]]) -> Kinds:
    """Mean and spread of the dialogues of each set."""
    means, spreads = [], []
    for group in sets:
        rows = []
        for example in group:
            names, features_GF = gap_features(example.cues, example.vectors_TD)
            rows.append(features_GF[0, [names.index(name) for name in _KIND_FEATURES]])
        means.append(np.mean(rows, axis=0))
        spreads.append(np.maximum(np.std(rows, axis=0), list(_KIND_FEATURES.values())))
    return Kinds(names=tuple(_KIND_FEATURES), mean_MF=np.array(means), spread_MF=np.array(spreads))


def fit_pairs(
    sets: Sequence[Sequence[Example]], chats: Sequence[Example], penalty: float = 10.0
) -> Logistic:
    """Same fragment or not, for every two turns of the chats.

    The linear model that the features start from is fitted without the dialogue at hand.
    """
    rows, targets, weights = [], [], []
    names: tuple[str, ...] = ()
    for fold in range(_FOLDS):
        kept = [[e for i, e in enumerate(group) if i % _FOLDS != fold] for group in sets]
        gaps, kinds = fit_gaps(kept), fit_kinds(kept)
        for example in [e for i, e in enumerate(chats) if i % _FOLDS == fold]:
            boundary_G = boundary_probabilities(
                gaps, kinds, *gap_features(example.cues, example.vectors_TD)
            )
            names, features_PF = pair_features(
                example.cues, example.vectors_TD, same_fragment(boundary_G)
            )
            i, j = np.triu_indices(len(example.gold_T), 1)
            rows.append(features_PF.astype(float))
            targets.append(example.gold_T[i] == example.gold_T[j])
            weights.append(np.full(len(i), _PAIR_WEIGHT / len(i)))
    return fit_logistic(
        names, np.concatenate(rows), np.concatenate(targets), np.concatenate(weights), penalty
    )


def fit_logistic(
    names: tuple[str, ...],
    features_NF: NDArray[np.float64],
    targets_N: NDArray[Any],
    weights_N: NDArray[np.float64],
    penalty: float,
) -> Logistic:
    """Logistic regression by Newton's method, on standardized features.

    A ridge penalty holds the weights, not the bias, which carries the base rate.
    """
    mean_F = np.average(features_NF, axis=0, weights=weights_N)
    scale_F = features_NF.std(axis=0) + 1e-6
    scale_F[scale_F < 1e-4] = 1e9  # a constant column gets no weight
    design = np.column_stack([(features_NF - mean_F) / scale_F, np.ones(len(features_NF))])
    beta = np.zeros(design.shape[1])
    ridge_F = np.append(np.full(len(names), penalty), 1e-6)
    for _ in range(15):
        probability_N = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights_N * (targets_N - probability_N)) - ridge_F * beta
        curvature_N = weights_N * probability_N * (1 - probability_N)
        hessian = (design * curvature_N[:, None]).T @ design + np.diag(ridge_F)
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < 1e-5:
            break
    weights_F = beta[:-1] / scale_F
    return Logistic(names=names, weights_F=weights_F, bias=float(beta[-1] - mean_F @ weights_F))


def fit_links(
    crowds: Sequence[Example], hidden: int = 12, epochs: int = 12, seed: int = 0
) -> dict[str, list[Any]]:
    """Antecedents as a latent choice: any earlier turn of the same gold fragment is right.

    Returns the JSON form of `LinkScorer`. Adam with weight decay and a cosine schedule, one
    dialogue a step; the network is too small to be worth a framework.
    """
    made = [link_features(e.cues, Addressing.of(e.dialogue), e.vectors_TD) for e in crowds]
    seen = np.concatenate([features[exists] for features, exists in made])
    mean_F, scale_F = seen.mean(axis=0), seen.std(axis=0) + 1e-3
    scale_F[scale_F < 2e-3] = 1e9  # a constant column says nothing
    rng = np.random.default_rng(seed)
    size = len(mean_F)
    weights: dict[str, NDArray[np.float32]] = {
        "linear_F": np.zeros(size, np.float32),
        "hidden_FH": rng.uniform(-1, 1, (size, hidden)).astype(np.float32) / math.sqrt(size),
        "hidden_bias_H": np.zeros(hidden, np.float32),
        "output_H": rng.uniform(-1, 1, hidden).astype(np.float32) / math.sqrt(hidden),
    }
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    order = [int(k) for _ in range(epochs) for k in rng.permutation(len(made))]
    for step, k in enumerate(order, start=1):
        features, exists = made[k]
        right_TK = _antecedents(crowds[k].gold_T, exists)
        scorer = LinkScorer(mean_F=mean_F, scale_F=scale_F, **weights)
        rate = 5e-3 * (1 + math.cos(math.pi * step / len(order))) / 2
        for name, slope in _link_gradient(scorer, features, exists, right_TK).items():
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            pace = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            change = pace * first[name] / (np.sqrt(second[name]) + 1e-8) + 1e-3 * weights[name]
            weights[name] = (weights[name] - rate * change).astype(np.float32)
    record: dict[str, list[Any]] = {"mean_F": _rounded(mean_F), "scale_F": _rounded(scale_F)}
    for name, value in weights.items():
        record[name] = [_rounded(row) for row in value] if value.ndim > 1 else _rounded(value)
    return record


def fit_weights(
    linear: Sequence[Sequence[Dialogue]],
    chats: Sequence[Dialogue],
    crowds: Sequence[Dialogue],
    encoder: Encoder,
) -> dict[str, Any]:
    """All numbers of the segmenter, in the JSON form that `Weights` reads.

    Args:
        linear: Sets with contiguous gold fragments.
        chats: Dialogues whose topics return.
        crowds: Channels.
        encoder: Of the turns.

    Raises:
        InputError: No chat, or no channel, has gold fragments.
    """
    timed, untimed = examples(chats, encoder, False), examples(chats, encoder, True)
    sets = [*(examples(group, encoder, True) for group in linear), timed, untimed]
    channels = [*examples(crowds[::2], encoder, True), *examples(crowds[1::2], encoder, False)]
    if not (timed and channels):
        raise InputError("chats and crowds with gold fragments are both needed; name more files")
    return {
        "gaps": _logistic_record(fit_gaps(sets)),
        "kinds": _kinds_record(fit_kinds(sets)),
        "pairs": _logistic_record(fit_pairs(sets, timed)),
        "links": fit_links(channels),
    }


def _link_gradient(
    scorer: LinkScorer,
    features: NDArray[np.float32],
    exists_TK: NDArray[np.bool_],
    right_TK: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """Of the mean over the turns of -log P(a right antecedent), by the weights."""
    all_TK = scorer.probabilities(features, exists_TK)
    right_only_TK = all_TK * right_TK
    right_only_TK /= np.maximum(right_only_TK.sum(axis=1, keepdims=True), 1e-12)
    # d loss / d score = P - P(given that it is right); candidates that do not exist have neither.
    pull_N = ((all_TK - right_only_TK) / len(all_TK))[exists_TK].astype(np.float32)
    scaled_NF = (features[exists_TK] - scorer.mean_F) / scorer.scale_F
    active_NH = np.tanh(scaled_NF @ scorer.hidden_FH + scorer.hidden_bias_H)
    inner_NH = pull_N[:, None] * scorer.output_H * (1 - active_NH**2)
    return {
        "linear_F": pull_N @ scaled_NF,
        "hidden_FH": scaled_NF.T @ inner_NH,
        "hidden_bias_H": inner_NH.sum(axis=0),
        "output_H": pull_N @ active_NH,
    }


def _antecedents(gold_T: NDArray[np.int64], exists_TK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    right_TK = np.zeros_like(exists_TK)
    for turn_id in range(len(gold_T)):
        count = int(exists_TK[turn_id].sum()) - 1
        earlier = gold_T[turn_id - count : turn_id][::-1]
        right_TK[turn_id, 1 : count + 1] = earlier == gold_T[turn_id]
        right_TK[turn_id, 0] = not right_TK[turn_id].any()
    return right_TK


def _rounded(values: Any) -> list[float]:
    return [float(f"{float(value):.4g}") for value in values]


def _logistic_record(model: Logistic) -> dict[str, Any]:
    weights = dict(zip(model.names, _rounded(model.weights_F), strict=True))
    return {"bias": _rounded([model.bias])[0], "weights": weights}


def _kinds_record(kinds: Kinds) -> dict[str, Any]:
    return {
        "names": list(kinds.names),
        "mean_MF": [_rounded(row) for row in kinds.mean_MF],
        "spread_MF": [_rounded(row) for row in kinds.spread_MF],
    }


def first_dialogues(name: str) -> list[Dialogue]:
    """Dialogues of `FILE`, or the first N of `FILE:N`."""
    path, _, number = name.rpartition(":")
    if path and number.isdecimal():
        return list(islice(read_jsonl(path), int(number)))
    return list(read_jsonl(name))


def main() -> None:
    """Read, embed, fit, write."""
    from ffr_core.embedding.cache import CachedEncoder
    from ffr_core.embedding.sentence import E5Encoder

    parser = argparse.ArgumentParser(description="Fit the shipped segmentation weights.")
    for kind in ("linear", "chat", "crowd"):
        parser.add_argument(f"--{kind}", metavar="FILE[:N]", action="append", default=[])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = CachedEncoder(E5Encoder(threads=1), args.cache)
    weights = fit_weights(
        [first_dialogues(name) for name in args.linear],
        [dialogue for name in args.chat for dialogue in first_dialogues(name)],
        [dialogue for name in args.crowd for dialogue in first_dialogues(name)],
        encoder,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(weights, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
