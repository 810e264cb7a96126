"""Write the files that the training jobs read, each a corpus in our schema.

`sft`, `rft`, `validation`: dialogues with queries. `boundary_train`, `boundary_test`: dialogues
with gold fragments. `fem_train`, `fem_test`: dialogues with the queries that one gold fragment
answers and, under `qa_pairs`, the question-answer pairs of their fragments. A query-fragment pair
of the FEM test set keeps its dialogue with the sampled queries alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.dataset.long_dialogue import LongDialogue
from ffr_core.dataset.splits import TRAINING, SplitRules, cluster_sample, find_leaks
from ffr_core.dataset.steps import write_records
from ffr_core.records import record_from_dialogue
from ffr_core.types import Query, QueryKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_splits(
    pools: Mapping[str, Sequence[LongDialogue]],
    texts: Mapping[str, str],
    folder: Path,
    rules: SplitRules,
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> dict[str, Any]:
    """Write all files; returns their sizes and what was left out.

    Args:
        pools: Long dialogues with queries, by pool.
        texts: Text of every short dialogue, by id.
        folder: To write into.
        rules: Sizes.
        embed: Queries to unit vectors, for the clusters of the FEM test set.

    Raises:
        AssertionError: A dialogue, an image or a near-duplicate is in two pools; a defect of ours.
    """
    validation = _sample(pools["validation"], rules.num_validation, rules.seed)
    used = {**pools, "validation": validation}
    leaks = find_leaks(used, texts, rules.duplicate_threshold)
    assert not leaks, "; ".join(leaks[:5])
    training = [item for pool in TRAINING for item in pools[pool]]
    without = 0
    asked_sizes: dict[str, int] = {}
    for name in ("sft", "rft", "validation"):
        asked = [item for item in used[name] if item.dialogue.queries]
        without += len(used[name]) - len(asked)
        asked_sizes[name] = len(asked)
        write_records(folder / f"{name}.jsonl", map(_record, asked))
    write_records(folder / "boundary_train.jsonl", map(_fragments, training))
    write_records(folder / "boundary_test.jsonl", map(_fragments, pools["boundary_test"]))
    train_pairs, _ = _write_fem(folder / "fem_train.jsonl", training, None)
    held_out = [*validation, *pools["boundary_test"]]
    candidates = [(item, query) for item in held_out for query in fem_queries(item)]
    chosen = cluster_sample(
        embed([query.query for _, query in candidates]),
        rules.num_fem_test,
        rules.num_fem_clusters,
        rules.seed,
    )
    kept = {(candidates[i][0].dialogue.dialogue_id, candidates[i][1].query) for i in chosen}
    test_pairs, unused = _write_fem(folder / "fem_test.jsonl", held_out, kept)
    sizes = {
        **asked_sizes,
        "boundary_train": len(training),
        "boundary_test": len(pools["boundary_test"]),
        "fem_train_pairs": train_pairs,
        "fem_test_pairs": test_pairs,
    }
    return {
        "in": sum(len(items) for items in pools.values()),
        "sizes": sizes,
        "left_out": {
            "validation_surplus": len(pools["validation"]) - len(validation),
            "without_queries": without,
            "fem_pairs_not_sampled": unused,
        },
        "leaks": len(leaks),
    }


def fem_queries(item: LongDialogue) -> list[Query]:
    """Queries that one gold fragment answers."""
    return [
        query
        for query in item.dialogue.queries or ()
        if query.kind != QueryKind.NEGATIVE and query.fragment_id is not None
    ]


def _sample(items: Sequence[LongDialogue], num: int, seed: int) -> list[LongDialogue]:
    if len(items) <= num:
        return list(items)
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), num))]


def _record(item: LongDialogue) -> dict[str, Any]:
    return record_from_dialogue(item.dialogue)


def _fragments(item: LongDialogue) -> dict[str, Any]:
    return record_from_dialogue(replace(item.dialogue, queries=None))


def _write_fem(
    path: Path, items: Iterable[LongDialogue], kept: set[tuple[str, str]] | None
) -> tuple[int, int]:
    """Write pairs; `kept` names those of a test set. Returns pairs written and left out."""
    written = left_out = 0
    records: list[dict[str, Any]] = []
    for item in items:
        name = item.dialogue.dialogue_id
        queries = fem_queries(item)
        chosen = [q for q in queries if kept is None or (name, q.query) in kept]
        written += len(chosen)
        left_out += len(queries) - len(chosen)
        if chosen:
            dialogue = replace(item.dialogue, queries=tuple(chosen))
            records.append({**record_from_dialogue(dialogue), "qa_pairs": _qa(item)})
    write_records(path, records)
    return written, left_out


def _qa(item: LongDialogue) -> list[dict[str, Any]]:
    return [
        {
            "fragment_id": fragment,
            "question": pair.question,
            "answer": pair.answer,
            "answer_turns": list(pair.utterance_ids),
            "answer_images": list(pair.image_ids),
        }
        for fragment, pairs in sorted(item.qa.items())
        for pair in pairs
    ]
