"""The training loop of the fragment embedding model: one step, validation, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ffr_core.engine.loading import model_fingerprint
from ffr_core.errors import ConfigError, FfrError
from ffr_core.metrics.ranking import RECALL_CUTOFFS, recall_at_k
from ffr_core.records import read_jsonl
from ffr_core.types import Dialogue
from jobs.fem.backbones import Backbone, Row, build_backbone
from jobs.fem.config import FemConfig
from jobs.fem.losses import StepLoss, frozen_loss, step_loss
from jobs.fem.mining import mine
from jobs.fem.pairs import (
    Corpus,
    Unit,
    Written,
    build_corpus,
    question_answers,
    read_dialogues,
    read_written_pairs,
    split_dialogues,
)
from jobs.fem.sharing import shared_vectors
from jobs.fem.steps import Source, StepShape
from jobs.training.checkpoints import (
    Cursor,
    Provenance,
    data_hash,
    random_state,
    record_text,
    save_state,
)
from jobs.training.distributed import (
    all_reduce_gradients,
    broadcast_parameters,
    check_finite,
    clip_gradients,
    gather_objects,
)
from jobs.training.logs import RunLog
from jobs.training.run import Deadline, Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRIC = "validation/recall@1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A set whose Recall@K is logged."""

    side: Literal["validation", "held_out"]
    """The validation sets choose the best adapter, held-out sets choose nothing."""
    corpus: Corpus
    frozen: NDArray[np.float32] | None
    """`trained_side = "queries"`: plain vectors of its units."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What a worker holds."""

    config: FemConfig
    session: Session
    backbone: Backbone
    sources: list[Source]
    shape: StepShape
    frozen: list[NDArray[np.float32]]
    """`trained_side = "queries"`: plain vectors of all units of each training set."""
    anchor_texts: list[str]
    """Texts that stay where the plain encoder puts them."""
    scored: list[Scored]
    data_hash: str
    fingerprint: str
    """Of the model."""
    counts: dict[str, int]
    """Reason -> queries that are not trained on."""


def unit_of(config: FemConfig) -> Unit:
    """What one vector stands for when fragments are ranked."""
    return "fragment" if "fragment" in config.step.views else "turn"


def set_names(paths: Iterable[str]) -> dict[str, str]:
    """Path -> file name, with as many folders before it as tell the sets apart.

    Example:
        `a/x/d.jsonl`, `a/y/d.jsonl` and `a/e.jsonl` give `x/d.jsonl`, `y/d.jsonl` and `e.jsonl`.
    """
    parts = {path: Path(path).parts for path in paths}

    def shortest(path: str) -> str:
        own = parts[path]
        for length in range(1, len(own)):
            if sum(other[-length:] == own[-length:] for other in parts.values()) == 1:
                return "/".join(own[-length:])
        return path

    return {path: shortest(path) for path in parts}


def prepare(config: FemConfig, session: Session) -> Run:
    """Load the model and the data, mine negatives, freeze what does not change.

    Raises:
        ConfigError: A file has no query to train on, or no set has one to validate on.
    """
    backbone = build_backbone(config, session.device)
    broadcast_parameters([p for p in backbone.module.parameters() if p.requires_grad])
    unit = unit_of(config)
    sources, counts, records = [], Counter[str](), list[str]()
    held: list[tuple[Literal["validation", "held_out"], Corpus]] = []
    names = set_names([*(part.path for part in config.data), *config.held_out])
    for part in config.data:
        path, name = Path(part.path), names[part.path]
        dialogues = read_dialogues(path, part.max_dialogues, config.seed, counts)
        train, validation, test = split_dialogues(
            dialogues, part.validation, part.test, config.seed
        )
        corpus = build_corpus(name, train)
        counts.update(corpus.left_out)
        if not corpus.queries:
            raise ConfigError(f"{part.path} has no training query with a gold fragment; drop it")
        written = read_written_pairs(path)
        sources.append(_source(corpus, written, unit, backbone, config))
        records += hashed_records(name, dialogues, written)
        held.append(("validation", build_corpus(name, validation)))
        held.append(("held_out", build_corpus(name, test)))
    anchor_texts = read_anchor_texts(config)
    records += anchor_texts
    for file in config.held_out:
        dialogues = read_dialogues(Path(file), config.max_held_out_dialogues, config.seed)
        held.append(("held_out", build_corpus(names[file], dialogues)))
    wanted = any(part.validation for part in config.data)
    if wanted and not any(c.queries for side, c in held if side == "validation"):
        raise ConfigError(
            "no query is left to validate on, so no checkpoint would be the best one; raise"
            " validation in [[data]], or set it to 0 for a run that keeps its last adapter only"
        )
    queries_only = config.model.trained_side == "queries"
    return Run(
        config=config,
        session=session,
        backbone=backbone,
        sources=sources,
        shape=StepShape(**config.step.model_dump()),
        frozen=[_units(s.corpus, unit, backbone) for s in sources] if queries_only else [],
        anchor_texts=anchor_texts,
        scored=[
            Scored(
                side=side,
                corpus=corpus,
                frozen=_units(corpus, unit, backbone) if queries_only else None,
            )
            for side, corpus in held
            if corpus.queries
        ],
        data_hash=data_hash(records),
        fingerprint=fingerprint(config),
        counts=dict(counts),
    )


def read_anchor_texts(config: FemConfig) -> list[str]:
    """The turns with words of the `anchor_texts` files, each text once."""
    texts = dict.fromkeys(
        turn.text
        for file in config.anchor_texts
        for dialogue in read_jsonl(file)
        for turn in dialogue.turns
        if turn.text.strip()
    )
    if config.anchor_texts and not texts:
        raise ConfigError("the anchor_texts files have no turn with words; give others or none")
    return list(texts)


def hashed_records(name: str, dialogues: Sequence[Dialogue], written: Written) -> list[str]:
    """What of a training set goes into the data hash of a run."""
    return [
        text
        for dialogue in dialogues
        for text in (
            name,
            record_text(dialogue),
            json.dumps(written.get(dialogue.dialogue_id), ensure_ascii=False),
        )
    ]


def fingerprint(config: FemConfig) -> str:
    """What training starts from, wherever it lies."""
    path = config.model.path
    return config.model.kind if path is None else model_fingerprint(path)


def _source(
    corpus: Corpus, written: Written, unit: Unit, backbone: Backbone, config: FemConfig
) -> Source:
    def plain(rows: Sequence[Row]) -> NDArray[np.float32]:
        return shared_vectors(backbone.plain, rows)

    mined = mine(corpus, unit, plain, plain, depth=config.step.negative_depth)
    lengths: list[dict[int, int]] = []
    for position, fragment in enumerate(corpus.fragments):
        if "window" not in config.step.views:
            lengths.append({})
            continue
        turns = [corpus.passage(position, (i,)) for i in fragment.turn_ids]
        lengths.append(dict(zip(fragment.turn_ids, backbone.lengths(turns), strict=True)))
    return Source(
        corpus=corpus,
        mined=mined,
        pairs=question_answers(corpus, written),
        lengths=lengths,
        weight=math.sqrt(len(corpus.queries)),
    )


def _units(corpus: Corpus, unit: Unit, backbone: Backbone) -> NDArray[np.float32]:
    passages = [corpus.passage(*place) for place in corpus.units(unit)]
    return shared_vectors(backbone.plain, passages)


class Loop:
    """The training loop of one start."""

    def __init__(
        self, run: Run, optimizer: Any, scheduler: Any, log: RunLog | None, source: Provenance
    ) -> None:
        self._run, self._optimizer, self._scheduler = run, optimizer, scheduler
        self._log, self._source = log, source
        self._parameters = [p for p in run.backbone.module.parameters() if p.requires_grad]

    def run(self, cursor: Cursor | None) -> Cursor:
        """Train from the cursor to the end, or to the deadline; return where it stands.

        Args:
            cursor: Of the checkpoint that the run goes on from; None at its first start, which
                validates and saves step 0. A step is never reported twice: Ray Train would then
                delete the folder of a checkpoint that it still counts on.
        """
        config = self._run.config
        deadline = Deadline(config.launch.stop_after_minutes)
        step = 0 if cursor is None else cursor.step
        self._say_what_is_trained_on()
        if cursor is None:
            self._report(0)
        while step < config.num_steps:
            self._step(step)
            step += 1
            stop = deadline.passed()
            if stop or step == config.num_steps or step % config.evaluate_every == 0:
                self._report(step)
            if stop:
                break
        return Cursor(step=step)

    def _say_what_is_trained_on(self) -> None:
        if self._log is not None:
            reasons = "".join(f", {n} left out: {why}" for why, n in self._run.counts.items())
            queries = sum(len(source.corpus.queries) for source in self._run.sources)
            self._log.say(f"{queries} training queries{reasons}")

    def _step(self, step: int) -> None:
        started = time.monotonic()
        run = self._run
        self._optimizer.zero_grad(set_to_none=True)
        self._run.backbone.module.train()
        made: StepLoss = (
            frozen_loss(
                run.backbone,
                run.sources,
                run.frozen,
                run.anchor_texts,
                run.shape,
                run.config,
                step,
            )
            if run.frozen
            else step_loss(run.backbone, run.sources, run.shape, run.config, step)
        )
        all_reduce_gradients(self._parameters)
        norm = clip_gradients(self._parameters, run.config.optimizer.max_grad_norm)
        check_finite(step + 1, made.values["train/loss"], norm)
        rate = self._scheduler.get_last_lr()[0]
        self._optimizer.step()
        self._scheduler.step()
        if self._log is not None:
            seconds = time.monotonic() - started
            self._log.write(
                step + 1,
                {
                    **made.values,
                    "train/grad_norm": norm,
                    "train/learning_rate": rate,
                    "speed/rows_per_second": made.rows / seconds,
                },
            )

    def _report(self, step: int) -> None:
        metrics = self._recalls()
        if self._log is not None:
            self._log.write(step, metrics)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            self._log.say(f"step {step}/{self._run.config.num_steps}  {shown}")
        states = gather_objects(random_state())

        def save(folder: Path) -> None:
            save_state(
                folder,
                modules={"fem": self._run.backbone.module},
                optimizer=self._optimizer,
                scheduler=self._scheduler,
                cursor=Cursor(step=step),
                random_states=states,
                provenance=self._source,
            )
            self._run.backbone.save(folder / "adapter")

        self._run.session.report(step, metrics, save)

    def _recalls(self) -> dict[str, float]:
        """Recall on each set that is scored, and the means of each side; the same on all ranks."""
        run = self._run
        run.backbone.module.eval()
        metrics: dict[str, float] = {}
        recalls: dict[str, list[float]] = {}
        for scored in run.scored:
            corpus = scored.corpus
            ranks = rank_queries(run.backbone, corpus, unit_of(run.config), scored.frozen)
            metrics[f"{scored.side}/{corpus.name} recall@1"] = recall_at_k(ranks, 1)
            for k in RECALL_CUTOFFS:
                name = f"{scored.side}/recall@{k}"
                recalls.setdefault(name, []).append(recall_at_k(ranks, k))
        return metrics | {name: float(np.mean(values)) for name, values in recalls.items()}


def rank_queries(
    backbone: Backbone, corpus: Corpus, unit: Unit, frozen: NDArray[np.float32] | None = None
) -> list[int]:
    """0-based rank of each query's fragment; a fragment counts with its best unit.

    Of fragments with equal scores the right one comes last, so an encoder that cannot tell them
    apart finds nothing.

    Raises:
        FfrError: The encoder gave a vector that is not finite.
    """
    import torch

    def embed(rows: Sequence[Row]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(backbone.embed(rows).cpu().numpy(), np.float32)

    queries_QD = shared_vectors(embed, [query.text for query in corpus.queries])
    places = corpus.units(unit)
    units_UD = frozen
    if units_UD is None:
        units_UD = shared_vectors(embed, [corpus.passage(*place) for place in places])
    for name, vectors in (("queries", queries_QD), ("passages", units_UD)):
        broken = int((~np.isfinite(vectors)).any(axis=1).sum())
        if broken:
            raise FfrError(
                f"{broken} of {len(vectors)} {name} of {corpus.name} have a vector that is not"
                " finite; lower the learning rate or use dtype = 'float32'"
            )
    starts = np.flatnonzero(np.diff([fragment for fragment, _ in places], prepend=-1))
    scores_QF = np.maximum.reduceat(queries_QD @ units_UD.T, starts, axis=1)
    gold_Q = np.array([query.fragment for query in corpus.queries])
    right_Q = scores_QF[np.arange(len(gold_Q)), gold_Q]
    # The right fragment itself is one of those that score no less.
    return [int(rank) for rank in (scores_QF >= right_Q[:, None]).sum(axis=1) - 1]
