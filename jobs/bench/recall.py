"""Recall latency of Milvus Lite against NumPy, by number of passages.

Rows are passages with unit random vectors and text of the sample corpus, 5 a fragment, 50 a
dialogue. One search returns 20 candidates with the stored vectors of their passages. NumPy is the
exact index over the same rows; `same_top` is the share of its candidates that Milvus returns too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.bench.common import latency_ms, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffr_core.protocols import FragmentIndex
    from ffr_core.types import Filters, IndexedDialogue

_TENANT = "bench"
_PASSAGES_OF_FRAGMENT, _FRAGMENTS_OF_DIALOGUE = 5, 10
_DIALOGUES_AT_ONCE = 20
_START = datetime(2024, 1, 1, tzinfo=UTC)
_SPEAKERS = [f"Speaker {i}" for i in range(40)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    vector_D: NDArray[np.float32]
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that make the run smaller."""
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)


def run(
    sizes: Sequence[int] = (1_000, 10_000, 100_000),
    dim: int = 384,
    queries: int = 50,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure every size.

    Args:
        sizes: Numbers of passages; rounded up to whole dialogues of 50.
        dim: D.
        queries: Searches per mode.
        seed: Of vectors, texts and queries.

    Returns:
        `{dim, queries, num_candidates, sizes: [{passages, fragments, write, milvus_lite, numpy,
        same_top}]}`; latencies as `{mode: {p50, p95}}` in milliseconds.
    """
    return {
        "dim": dim,
        "queries": queries,
        "num_candidates": 20,
        "sizes": [_run_size(size, dim, queries, seed) for size in sizes],
    }


def _run_size(size: int, dim: int, num_queries: int, seed: int) -> dict[str, Any]:
    import numpy as np

    from ffr_core.index.exact import ExactIndex
    from ffr_core.index.milvus import MilvusIndex

    rng = np.random.default_rng(seed)
    texts = sample_texts()
    items = list(_items(size, dim, rng, texts))
    queries = _queries(num_queries, dim, rng, texts)
    exact = ExactIndex(dim=dim, encoder_fingerprint="random")
    for item in items:
        exact.upsert(_TENANT, item, "")
    with tempfile.TemporaryDirectory() as folder:
        lite = MilvusIndex(str(Path(folder, "bench.db")), dim=dim, encoder_fingerprint="random")
        start = time.perf_counter()
        for first in range(0, len(items), _DIALOGUES_AT_ONCE):
            batch = items[first : first + _DIALOGUES_AT_ONCE]
            lite.upsert_many(_TENANT, [(item, "") for item in batch])
        seconds = time.perf_counter() - start
        fragments = sum(len(item.fragments) for item in items)
        passages = fragments * _PASSAGES_OF_FRAGMENT
        rows = fragments + passages
        say(f"{rows} rows written in {seconds:.1f} s")
        result = {
            "passages": passages,
            "fragments": fragments,
            "write": {
                "rows": rows,
                "seconds": round(seconds, 2),
                "rows_per_s": round(rows / seconds),
            },
            "milvus_lite": _latencies(lite, queries),
            "numpy": _latencies(exact, queries) | {"dot": _plain_dot(items, queries)},
            "same_top": {
                mode: _same_top(exact, lite, mode, queries) for mode in ("dense", "bm25", "fused")
            },
        }
        lite.close()
    say(f"milvus_lite {result['milvus_lite']}\nnumpy {result['numpy']}")
    return result


def _modes() -> dict[str, tuple[dict[str, float], Filters]]:
    """Mode -> fusion weights and filters."""
    from ffr_core.types import Filters

    none = {"dense_passage": 0.0, "bm25_passage": 0.0, "bm25_fragment": 0.0}
    filters = Filters(
        participants=("Speaker 1", "Speaker 2"), since=_START + timedelta(days=100), has_image=False
    )
    return {
        "dense": (none | {"dense_passage": 1.0}, Filters()),
        "bm25": (none | {"bm25_passage": 1.0}, Filters()),
        "fused": ({}, Filters()),
        "filtered": ({}, filters),
    }


def _latencies(index: Any, queries: list[_Query]) -> dict[str, dict[str, float]]:
    result = {}
    for mode in _modes():
        searches = [_search(index, mode, query) for query in queries]
        searches[0]()
        result[mode] = latency_ms(searches)
    return result


def _search(index: Any, mode: str, query: _Query) -> Any:
    from ffr_core.index.fusion import FusionWeights

    weights, filters = _modes()[mode]

    def search() -> Any:
        opened: FragmentIndex = index
        index._weights = FusionWeights(**weights)
        return opened.search(_TENANT, query.vector_D, query.text, filters, 20)

    return search


def _same_top(exact: Any, lite: Any, mode: str, queries: list[_Query]) -> float:
    shares = []
    for query in queries:
        left, right = (
            {(c.dialogue_id, c.fragment.fragment_id) for c in _search(index, mode, query)()}
            for index in (exact, lite)
        )
        shares.append(len(left & right) / len(left) if left else float(not right))
    return round(sum(shares) / len(shares), 4)


def _plain_dot(items: list[IndexedDialogue], queries: list[_Query]) -> dict[str, float]:
    """The floor: one matrix product over all passages and the best 20 of it."""
    import numpy as np

    vectors_PD = np.stack(
        [p.vector_D for item in items for part in item.fragments for p in part.passages]
    )
    return latency_ms(
        [
            lambda q=query.vector_D: np.argpartition(-(vectors_PD @ q), 19)[:20]  # type: ignore[misc]
            for query in queries
        ]
    )


def sample_texts() -> list[str]:
    """All texts of the sample corpus that ships, Chinese ones too."""
    from ffr_core.records import read_jsonl

    folder = Path(str(resources.files("ffr_core"))) / "data" / "sample"
    texts = [
        turn.text
        for path in sorted(folder.glob("*.jsonl"))
        for dialogue in read_jsonl(path)
        for turn in dialogue.turns
        if turn.text
    ]
    assert texts, f"the sample corpus is missing from {folder}"
    return texts


def _queries(
    num_queries: int, dim: int, rng: np.random.Generator, texts: list[str]
) -> list[_Query]:
    """Random directions; texts are up to four words (or eight characters) of the corpus."""
    vectors_QD = _unit(rng, num_queries, dim)
    chosen = rng.choice(len(texts), size=num_queries)
    return [
        _Query(
            vector_D=vector_D,
            text=" ".join(texts[i].split()[:4]) if " " in texts[i] else texts[i][:8],
        )
        for vector_D, i in zip(vectors_QD, chosen, strict=True)
    ]


def _unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    import numpy as np

    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _items(
    size: int, dim: int, rng: np.random.Generator, texts: list[str]
) -> Iterator[IndexedDialogue]:
    turns = _PASSAGES_OF_FRAGMENT * _FRAGMENTS_OF_DIALOGUE
    for number in range(-(-size // turns)):
        yield _item(f"dialogue {number}", turns, dim, rng, texts)


def _item(
    name: str, num_turns: int, dim: int, rng: np.random.Generator, texts: list[str]
) -> IndexedDialogue:
    from ffr_core.passages import passage_of
    from ffr_core.types import (
        Dialogue,
        Fragment,
        IndexedDialogue,
        IndexedFragment,
        IndexedPassage,
        Turn,
    )

    speakers = rng.choice(_SPEAKERS, size=4)
    start = _START + timedelta(hours=int(rng.integers(0, 24 * 365)))
    dialogue = Dialogue(
        dialogue_id=name,
        turns=tuple(
            Turn(
                turn_id=i,
                speaker=str(rng.choice(speakers)),
                text=texts[int(rng.integers(len(texts)))],
                timestamp=start + timedelta(minutes=i),
            )
            for i in range(num_turns)
        ),
    )
    vectors = iter(_unit(rng, num_turns + _FRAGMENTS_OF_DIALOGUE, dim))
    fragments = []
    for number in range(_FRAGMENTS_OF_DIALOGUE):
        first = number * _PASSAGES_OF_FRAGMENT
        ids = tuple(range(first, first + _PASSAGES_OF_FRAGMENT))
        fragments.append(
            IndexedFragment(
                fragment=Fragment(fragment_id=number, turn_ids=ids),
                text=passage_of(dialogue, ids).text,
                vector_D=next(vectors),
                passages=tuple(
                    IndexedPassage(passage=passage_of(dialogue, [i]), vector_D=next(vectors))
                    for i in ids
                ),
            )
        )
    return IndexedDialogue(dialogue=dialogue, fingerprint="random", fragments=tuple(fragments))
