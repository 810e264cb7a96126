r"""Score the localizer and the segmenter of `laptop` on dialogues that they were not fitted on.

    python -m jobs.cross_validate localizer --data a.jsonl.gz b.jsonl.gz --cache DIR
    python -m jobs.cross_validate segmenter --linear a.jsonl.gz --chat c.jsonl --chat d.jsonl \
        --crowd e.jsonl.gz --crowd f.jsonl.gz --cache DIR

Each set is scored twice: by models fitted on all sets without a fold of its dialogues, and by a
model fitted on the other sets alone. Nothing is written; times are hidden where segments are
scored. `FILE:N` stands for the first N dialogues of a file. Chats and crowds take two sets each:
each is left out in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ffr_core.errors import FfrError
from ffr_core.localization.embedding import EmbeddingLocalizer
from ffr_core.localization.fit import examples_of, fit
from ffr_core.localization.reader import FeatureReader
from ffr_core.metrics import segmentation, selection
from ffr_core.metrics.segmentation import PRF
from ffr_core.metrics.selection import Counts
from ffr_core.segmentation.texttiling import TextTilingSegmenter
from ffr_core.segmentation.training import fit_weights, without_times
from ffr_core.segmentation.weights import Weights
from ffr_core.types import Dialogue
from jobs.eval_sets import EXCLUDED, read_set, spaced

if TYPE_CHECKING:
    from ffr_core.protocols import Encoder

KINDS = ("linear", "chat", "crowd")
"""Kinds of talk that the segmenter is fitted on, see `ffr_core.segmentation.training`."""
T = TypeVar("T")
Sets = dict[str, list[Dialogue]]
"""Name -> dialogues."""


def folds(sets: Sets, count: int) -> Iterator[tuple[Sets, Sets]]:
    """The dialogues to fit on and those to score, `count` times; a fold is every `count`th."""
    for fold in range(count):
        yield (
            {name: [d for i, d in enumerate(ds) if i % count != fold] for name, ds in sets.items()},
            {name: ds[fold::count] for name, ds in sets.items()},
        )


def without_one(sets: Sets) -> Iterator[tuple[Sets, Sets]]:
    """The other sets to fit on, and each set in turn to score."""
    for name, dialogues in sets.items():
        yield {n: ds for n, ds in sets.items() if n != name}, {name: dialogues}


def read_sets(names: Sequence[str]) -> Sets:
    """Name -> dialogues of files or folders, or the first N of `FILE:N`."""
    sets: Sets = {}
    for name in names:
        path, _, number = name.rpartition(":")
        limited = bool(path) and number.isdecimal()
        dialogues = read_set(Path(path if limited else name))
        sets[name] = dialogues[: int(number)] if limited else dialogues
    return sets


def score_localizer(
    fitted: Sets, scored: Sets, encoder: Encoder, most_queries: int
) -> dict[str, list[Counts]]:
    """Set -> counts of the turns selected for each query in its whole dialogue."""
    examples = []
    for source, dialogues in enumerate(fitted.values()):
        examples += examples_of(dialogues, FeatureReader(encoder), encoder, source, most_queries)
    localizer = EmbeddingLocalizer(encoder, model=fit(examples))
    counts = {}
    for name, dialogues in scored.items():
        asked = [
            (d, q) for d in dialogues for q in d.queries or () if q.source_kind not in EXCLUDED
        ]
        counts[name] = [
            selection.count(
                localizer.localize(query.query, dialogue).selection.utterance_ids,
                query.relevance.utterance_ids,
                len(dialogue.turns),
            )
            for dialogue, query in spaced(asked, most_queries)
        ]
    return counts


def score_segmenter(
    fitted: Sets, scored: Sets, kinds: Mapping[str, str], encoder: Encoder
) -> dict[str, list[PRF]]:
    """Set -> pairwise scores of each dialogue that has gold fragments."""
    of_kind: dict[str, list[list[Dialogue]]] = {"linear": [], "chat": [], "crowd": []}
    for name, dialogues in fitted.items():
        of_kind[kinds[name]].append(dialogues)
    chats, crowds = ([d for ds in of_kind[kind] for d in ds] for kind in ("chat", "crowd"))
    record = fit_weights(of_kind["linear"], chats, crowds, encoder)
    segmenter = TextTilingSegmenter(encoder, weights=Weights.parse(json.dumps(record)))
    scores = {}
    for name, dialogues in scored.items():
        shown = [without_times(dialogue) for dialogue in dialogues if dialogue.fragments]
        predicted = segmenter.segment(shown)
        scores[name] = [
            segmentation.pairwise([part.turn_ids for part in parts], dialogue.fragments or ())
            for parts, dialogue in zip(predicted, shown, strict=True)
        ]
    return scores


def _tell(
    what: str,
    parts: Iterable[tuple[Sets, Sets]],
    score: Callable[[Sets, Sets], dict[str, list[T]]],
    f1: Callable[[list[T]], float],
) -> None:
    found: dict[str, list[T]] = {}
    for fitted, scored in parts:
        for name, results in score(fitted, scored).items():
            found.setdefault(name, []).extend(results)
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    for name, results in found.items():
        print(f"{what:12} {100 * f1(results):5.1f}  {len(results):5}  {name}", flush=True)


def main() -> None:
    """Read the sets, fit and score, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="what", required=True)
    localizer = commands.add_parser("localizer", help="utterance F1, micro over the queries")
    localizer.add_argument("--data", metavar="FILE[:N]", nargs="+", required=True)
    localizer.add_argument("--most-queries", type=int, default=500, help="of a set and fold")
    segmenter = commands.add_parser("segmenter", help="pairwise F1, mean over the dialogues")
    for kind in KINDS:
        segmenter.add_argument(f"--{kind}", metavar="FILE[:N]", action="append", default=[])
    for command in (localizer, segmenter):
        command.add_argument("--cache", required=True, help="folder for embeddings")
        command.add_argument("--folds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.folds < 2:
        parser.error("--folds must be at least 2: a fold is scored by what the others teach")
    try:
        run(arguments)
    except FfrError as error:
        sys.exit(f"error: {error}")


def run(arguments: argparse.Namespace) -> None:
    """What `main` does with arguments that were read."""
    from ffr_core.embedding.cache import CachedEncoder
    from ffr_core.embedding.sentence import E5Encoder

    encoder = CachedEncoder(E5Encoder(), arguments.cache)
    if arguments.what == "localizer":
        sets = read_sets(arguments.data)
        for what, parts in (
            ("folds", folds(sets, arguments.folds)),
            ("left out", without_one(sets)),
        ):
            _tell(
                what,
                parts,
                lambda fitted, scored: score_localizer(
                    fitted, scored, encoder, arguments.most_queries
                ),
                lambda counts: selection.scores(sum(counts, Counts())).f1,
            )
        return
    kinds = {name: kind for kind in KINDS for name in getattr(arguments, kind)}
    sets = read_sets(list(kinds))
    for what, parts in (("folds", folds(sets, arguments.folds)), ("left out", without_one(sets))):
        _tell(
            what,
            parts,
            lambda fitted, scored: score_segmenter(fitted, scored, kinds, encoder),
            lambda results: segmentation.mean(results).f1,
        )


if __name__ == "__main__":
    main()
