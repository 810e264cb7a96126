"""Learn the numbers of the embedding localizer from dialogues with gold queries.

    python -m ffr_core.localization.fit --data a.jsonl.gz ffr_core/data/sample \
        --out ffr_core/data/localizer.json --cache DIR

Needs torch and scikit-learn (extra `dev`). Every file or folder that is named is one set, and all
sets weigh the same. Examples of one query: its whole dialogue, sometimes another dialogue, its gold
fragment, and fragments near the query anywhere in the set, most of which do not answer. The gate,
P(more than `LONG` turns answer), reads the form of the query and the length of turns, not the
networks; it feeds relevance and says how close to the best turn others must come. Relevance and
images are fitted on turn probabilities of networks that did not see the dialogue (two folds).

Shapes: N rows, F features, H hidden units.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.errors import InputError
from ffr_core.localization.embedding import gate_values, relevance_values
from ffr_core.localization.images import image_features
from ffr_core.localization.network import Network, logistic, network_to_json, shipped_model
from ffr_core.localization.reader import FeatureReader
from ffr_core.localization.terms import asks_summary, query_form
from ffr_core.localization.training import train_network
from ffr_core.passages import passage_of
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue, Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffr_core.protocols import Encoder

    Floats = NDArray[np.float64]

LONG = 8
"""Gold selections of more turns than this are stretches: they teach the network `many`, which reads
requests for a summary, and the gate; shorter ones teach the network `few`."""
OTHER = 0.25
"""Share of the queries that are also asked of another dialogue."""
NEAREST, PICKED = 20, 5
"""Fragments near the query, and how many of them become examples."""
TOP, RATE = 12, 0.03
"""Rows that train: gold, the best by either signal, and this share of the rest."""
RULES = {
    "turns": {"every": 0.15, "best": 0.1, "share": 0.9},
    "whole": {"every": 0.1, "best": 0.1},
    "images": {"every": 0.3, "best": 0.2, "share": 0.9},
}
"""Thresholds of `selection.above`; chosen by cross-validation over dialogues of the fitted sets."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One query on one scope."""

    query: Query
    dialogue: Dialogue
    turn_ids: tuple[int, ...]
    own: bool
    """The query belongs to this dialogue."""
    source: int
    """Number of the file."""
    names: tuple[str, ...]
    features_NF: NDArray[np.floating[Any]]
    """float32: a file has millions of rows."""
    gold_N: NDArray[np.bool_]
    long: bool


def examples_of(
    dialogues: Sequence[Dialogue],
    reader: FeatureReader,
    encoder: Encoder,
    source: int,
    most_queries: int,
    seed: int = 0,
) -> list[Example]:
    """Build the examples of one file."""
    rng = random.Random(seed)
    places = [(d, part) for d in dialogues for part in d.fragments or ()]
    means_MD = np.stack([_mean_vector(encoder, d, part) for d, part in places])
    pairs = [
        (d, q) for d in dialogues for q in d.queries or () if q.source_kind != "qa_adversarial"
    ]
    rng.shuffle(pairs)
    made: list[Example] = []
    for dialogue, query in pairs[:most_queries]:
        scopes = [(dialogue, tuple(range(len(dialogue.turns))))]
        other = rng.choice(dialogues)
        if other is not dialogue and rng.random() < OTHER:
            scopes.append((other, tuple(range(len(other.turns)))))
        if query.fragment_id is not None and dialogue.fragments is not None:
            scopes.append((dialogue, dialogue.fragments[query.fragment_id]))
        near = np.argsort(-(means_MD @ encoder.encode_queries([query.query])[0]))[:NEAREST]
        scopes += [places[int(i)] for i in rng.sample(list(near), min(PICKED, len(near)))]
        made += [_example(reader, query, dialogue, *scope, source) for scope in scopes]
    return made


def _example(
    reader: FeatureReader,
    query: Query,
    home: Dialogue,
    where: Dialogue,
    part: Sequence[int],
    source: int,
) -> Example:
    ids = tuple(sorted(set(part)))
    gold = query.relevance.utterance_ids if where is home else frozenset()
    columns = reader.columns(query.query, query_form(query.query), where, ids)
    return Example(
        query=query,
        dialogue=where,
        turn_ids=ids,
        own=where is home,
        source=source,
        names=tuple(columns),
        features_NF=np.stack(list(columns.values()), axis=1).astype(np.float32),
        gold_N=np.isin(ids, list(gold)),
        long=len(query.relevance.utterance_ids) > LONG,
    )


def fit(examples: Sequence[Example], hidden: int = 16, seeds: int = 2) -> dict[str, Any]:
    """Learn everything; returns the record that `EmbeddingLocalizer` reads.

    Raises:
        InputError: No query with a long selection, or none with a short one.
    """
    names = examples[0].names
    length = names.index("length")
    turns = _held_out(examples, hidden)
    gate = _fit_gate(examples, length)
    record = {"features": list(names), "gate": gate, "rules": RULES}
    record |= _fit_rest(examples, turns, gate, length)
    for name, long in (("few", False), ("many", True)):
        record[name] = network_to_json(_fit_part(examples, long, hidden, seeds))
    return record


def _held_out(examples: Sequence[Example], hidden: int) -> list[tuple[Floats, Floats]]:
    """Probabilities [N] of both networks for each example, learned on other dialogues."""
    numbers = {
        key: i for i, key in enumerate(dict.fromkeys(e.dialogue.dialogue_id for e in examples))
    }
    folds = [numbers[e.dialogue.dialogue_id] % 2 for e in examples]
    networks = {
        fold: [
            _fit_part(
                [e for e, f in zip(examples, folds, strict=True) if f != fold], long, hidden, 1
            )
            for long in (False, True)
        ]
        for fold in set(folds)
    }
    result = []
    for e, fold in zip(examples, folds, strict=True):
        few, many = (1 / (1 + np.exp(-n.log_odds(e.features_NF))) for n in networks[fold])
        result.append((few, many))
    return result


def _fit_part(examples: Sequence[Example], long: bool, hidden: int, seeds: int) -> Network:
    """One of the two networks."""
    rng = np.random.default_rng(0)
    part = [e for e in examples if e.long is long]
    if not part:
        raise InputError(
            f"no query has gold selections of {'more than' if long else 'at most'} {LONG} turns in"
            " enough dialogues; name a set that has such"
        )
    per_source = {e.source: 0.0 for e in part}
    for e in part:
        per_source[e.source] += 1
    ranks = [part[0].names.index(f"{signal}_rank") for signal in ("cosine", "overlap")]
    x, y, w = [], [], []
    for e in part:
        top = (e.features_NF[:, ranks] < np.log1p(TOP)).any(axis=1) | e.gold_N
        kept = top | (rng.random(len(top)) < RATE)
        weight = np.where(top, 1.0, 1 / RATE) / np.sqrt(max(e.gold_N.sum(), 1))
        x.append(e.features_NF[kept])
        y.append(e.gold_N[kept])
        w.append(weight[kept] / per_source[e.source])
    return train_network(np.concatenate(x), np.concatenate(y), np.concatenate(w), hidden, seeds)


def _fit_gate(examples: Sequence[Example], length: int) -> dict[str, float]:
    rows, labels, weights = [], [], []
    counts = _count_by_source(examples)
    for e in examples:
        if e.gold_N.any():
            rows.append(gate_values(query_form(e.query.query), e.features_NF[:, length]))
            labels.append(e.long)
            weights.append(1 / counts[e.source])
    return _logistic(rows, labels, weights, 0.3)


def _fit_rest(
    examples: Sequence[Example],
    held_out: Sequence[tuple[Floats, Floats]],
    gate: dict[str, float],
    length: int,
) -> dict[str, Any]:
    """Relevance and images, on held-out turn probabilities.

    Sets without pictures teach nothing of images: then the shipped numbers stay.
    """
    counts = _count_by_source(examples)
    relevance: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    images: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for e, (few, many) in zip(examples, held_out, strict=True):
        form = query_form(e.query.query)
        g = logistic(gate, gate_values(form, e.features_NF[:, length]))
        turns = many if asks_summary(e.query.query) else few
        gold_images = e.query.relevance.image_ids if e.own else frozenset()
        pictures = image_features(form, e.dialogue, dict(zip(e.turn_ids, turns, strict=True)))
        answers = bool(e.gold_N.any() or gold_images & pictures.keys())
        _append(relevance, relevance_values(turns, g), answers, 1 / counts[e.source])
        for image_id, values in pictures.items():
            _append(images, values, image_id in gold_images, 1.0)
    shown = _logistic(*images, 1.0) if images[0] else shipped_model()["images"]
    return {"relevance": _logistic(*relevance, 100.0), "images": shown}


def _append(table: tuple[list[Any], list[Any], list[Any]], *row: Any) -> None:
    for column, value in zip(table, row, strict=True):
        column.append(value)


def _count_by_source(examples: Sequence[Example]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for e in examples:
        counts[e.source] = counts.get(e.source, 0) + 1
    return counts


def _logistic(
    rows: list[dict[str, float]], labels: list[bool], weights: list[float], c: float
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    names = list(rows[0])
    table = np.array([[row[name] for name in names] for row in rows])
    scale = np.asarray(weights) / np.mean(weights)
    model = LogisticRegression(C=c, max_iter=2000).fit(table, labels, sample_weight=scale)
    fitted = {"bias": float(model.intercept_[0])}
    fitted |= dict(zip(names, map(float, model.coef_[0]), strict=True))
    return {name: float(f"{value:.4g}") for name, value in fitted.items()}


def _mean_vector(encoder: Encoder, dialogue: Dialogue, part: Sequence[int]) -> NDArray[np.float32]:
    vectors = encoder.encode_passages([passage_of(dialogue, [i]) for i in part])
    mean: NDArray[np.float32] = vectors.mean(axis=0)
    return mean


def main() -> None:
    """Read the files, learn, write."""
    from ffr_core.embedding.cache import CachedEncoder
    from ffr_core.embedding.sentence import E5Encoder

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", required=True, help="files or folders, a set each")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go (JSON)")
    parser.add_argument("--cache", required=True, help="folder for embeddings")
    parser.add_argument("--most-queries", type=int, default=1500, help="queries read of a set")
    arguments = parser.parse_args()
    encoder = CachedEncoder(E5Encoder(), arguments.cache)
    reader = FeatureReader(encoder)
    examples: list[Example] = []
    for source, path in enumerate(arguments.data):
        files = sorted(Path(path).glob("*.jsonl")) if Path(path).is_dir() else [path]
        dialogues = [dialogue for file in files for dialogue in read_jsonl(file)]
        examples += examples_of(dialogues, reader, encoder, source, arguments.most_queries)
        print(f"{path}: {len(examples)} examples so far")
    record = fit(examples)
    arguments.out.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
