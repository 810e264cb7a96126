"""What a trained adapter does to a profile's recall, on dialogues that its run never saw.

    python -m jobs.fem_recall --run runs/fem-e5-t0.02-l0.2-s0 [--profile laptop] [--cache DIR]

`jobs.train_fem` logs what the encoder finds alone. A user gets the profile's recall, which joins it
with BM25, windows and fragments; here the gold fragments are ranked by it, with the encoder as it
is and with the best adapter of the run, on the test dialogues and held-out sets of the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffr_core.embedding.wrapped import WrappedEncoder
from ffr_core.errors import ConfigError, FfrError, NotFoundError
from ffr_core.metrics.ranking import recall_at_k
from ffr_core.parts import build_encoder
from ffr_core.profile import EncoderConfig, Profile, load_profile
from ffr_core.protocols import Encoder
from ffr_core.types import Dialogue, Passage
from jobs.eval_index import cached, rank_gold
from jobs.eval_sets import gold_fragments
from jobs.fem.config import FemConfig, resolve_paths
from jobs.fem.loop import hashed_records, read_anchor_texts, set_names
from jobs.fem.pairs import build_corpus, read_dialogues, read_written_pairs, split_dialogues
from jobs.training.checkpoints import data_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CUTOFFS = (1, 5)


class _PlainPassages(WrappedEncoder):
    """Queries of one encoder, passages of another: an adapter of queries changes none of those."""

    def __init__(self, queries: Encoder, passages: Encoder) -> None:
        super().__init__(queries)
        self._passages = passages

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        return self._passages.encode_passages(passages)


def compare(
    run: Path, profile: Profile, share: float = 1.0, cache: Path | None = None
) -> dict[str, dict[str, float]]:
    """Set -> number of queries, and `plain recall@K` and `adapted recall@K` of the profile.

    Args:
        run: Folder that `jobs.train_fem` wrote.
        profile: Its recall is measured, in memory; of its encoder only an adapter is exchanged,
            where the run trained another text encoder that one is taken.
        share: Of the adapted vector in a query, for an adapter of queries.
        cache: Folder that keeps vectors of the plain encoder.

    Raises:
        NotFoundError: The run has no best adapter.
        ConfigError: Run and profile do not go together, or no dialogue was left out of training.
    """
    adapter = run / "best" / "adapter"
    files = [run / "config.json", run / "provenance.json"]
    if not all(file.is_file() for file in files) or not adapter.is_dir():
        raise NotFoundError(
            f"{run} holds no config.json, provenance.json and best/adapter; give a run's folder"
        )
    values, source = (json.loads(file.read_text("utf-8")) for file in files)
    config = resolve_paths(FemConfig.parse(values, str(run)))
    plain_config = _plain(profile.encoder, config)
    side = config.model.trained_side
    adapted_config = EncoderConfig.model_validate(
        {
            **plain_config.model_dump(),
            "adapter": str(adapter),
            "adapter_side": side,
            "adapter_share": share,
        }
    )
    plain = cached(build_encoder(plain_config), cache)
    adapted: Encoder = build_encoder(adapted_config)
    if side == "queries":
        adapted = _PlainPassages(adapted, plain)
    index = profile.index.model_copy(update={"kind": "exact"})
    placed = profile.model_copy(update={"index": index, "encoder": plain_config})
    result = {}
    for name, dialogues in unseen(config, source["data_hash"]).items():
        gold = gold_fragments(dialogues)
        corpus = build_corpus(name, dialogues)
        asked = [(corpus.fragments[q.fragment].dialogue, q.query) for q in corpus.queries]
        scores: dict[str, float] = {"queries": len(asked)}
        for label, encoder in (("plain", plain), ("adapted", adapted)):
            ranks, _ = rank_gold(placed, encoder, gold, asked)
            scores |= {f"{label} recall@{k}": recall_at_k(ranks, k) for k in CUTOFFS}
        result[name] = scores
    return result


def unseen(config: FemConfig, trained_on: str) -> dict[str, list[Dialogue]]:
    """Set -> the dialogues that a run neither trained nor validated on.

    Args:
        config: Of the run.
        trained_on: Data hash of the run. The dialogues are divided by their places in the files, so
            another file would be divided otherwise.

    Raises:
        ConfigError: There are none with a query, or a training file is another one now.
    """
    names = set_names([*(part.path for part in config.data), *config.held_out])
    found, records = {}, list[str]()
    for part in config.data:
        path, name = Path(part.path), names[part.path]
        dialogues = read_dialogues(path, part.max_dialogues, config.seed)
        records += hashed_records(name, dialogues, read_written_pairs(path))
        found[name] = split_dialogues(dialogues, part.validation, part.test, config.seed)[2]
    records += read_anchor_texts(config)
    if data_hash(records) != trained_on:
        raise ConfigError("the training files changed since the run; give those it was trained on")
    for file in config.held_out:
        found[names[file]] = read_dialogues(Path(file), config.max_held_out_dialogues, config.seed)
    found = {name: ds for name, ds in found.items() if build_corpus(name, ds).queries}
    if not found:
        raise ConfigError("the run has neither test dialogues nor held_out sets; set one of them")
    return found


def _plain(encoder: EncoderConfig, config: FemConfig) -> EncoderConfig:
    kind = config.model.kind
    if kind != "qwen2vl":
        return EncoderConfig(kind=kind, threads=encoder.threads)
    if encoder.kind != "fem":
        raise ConfigError(
            f"the run trained a Qwen2-VL, but the profile's encoder is {encoder.kind!r}; give a"
            " profile whose encoder is `fem`"
        )
    return encoder.model_copy(update={"adapter": None})


def render(result: dict[str, dict[str, float]]) -> str:
    """Markdown in per cent: plain -> adapted; the last row is the mean over the sets."""
    lines = ["| set | queries | " + " | ".join(f"Recall@{k}" for k in CUTOFFS) + " |"]
    lines.append("|" + "---|" * (len(CUTOFFS) + 2))
    mean = {
        key: sum(scores[key] for scores in result.values()) / len(result)
        for key in next(iter(result.values()))
        if key != "queries"
    }
    for name, scores in (*result.items(), ("mean", mean)):
        cells = [
            f"{100 * scores[f'plain recall@{k}']:.1f} -> {100 * scores[f'adapted recall@{k}']:.1f}"
            for k in CUTOFFS
        ]
        lines.append(f"| {name} | {scores.get('queries', '')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    run: Annotated[Path, typer.Option(help="Folder of a run of jobs.train_fem.")],
    profile: Annotated[str, typer.Option(help="Name or path of a profile.")] = "laptop",
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Of the adapted vector in a query.")
    ] = 1.0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps vectors of the plain encoder.")
    ] = None,
) -> None:
    """Recall of a profile with and without a run's adapter."""
    try:
        print(render(compare(run, load_profile(profile), share, cache)), end="")
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
