"""The training loop of SFT: one optimizer step, evaluation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ffr_core.adapters import adapter_hash, save_adapter
from ffr_core.embedding.bert import native_bfloat16
from ffr_core.engine.inputs import PromptEncoder
from ffr_core.engine.loading import load_processor, model_fingerprint
from ffr_core.engine.transformers import TransformersEngine
from ffr_core.errors import ConfigError
from ffr_core.images import ImageLimits, ImageReader
from ffr_core.prompts import Prompts
from jobs.training.batches import split_step
from jobs.training.checkpoints import Cursor, Provenance, data_hash, random_state, save_state
from jobs.training.distributed import (
    all_reduce_gradients,
    all_reduce_sum,
    broadcast_parameters,
    check_finite,
    clip_gradients,
    gather_objects,
)
from jobs.training.examples import Example, Examples, read_examples
from jobs.training.logs import RunLog
from jobs.training.run import Deadline, Session
from jobs.training.sequences import TrainingBatch, collate_sequences
from jobs.training.sft_config import SftConfig
from jobs.training.sft_data import SequenceSource
from jobs.training.sft_eval import METRIC, evaluate
from jobs.training.sft_model import ADAPTER, SftModel, build


@dataclass(slots=True, kw_only=True)
class Run:
    """What a worker holds."""

    config: SftConfig
    session: Session
    model: SftModel
    source: SequenceSource
    evaluation: list[Example]
    engine: TransformersEngine
    """Over the model in training, so no second copy."""
    prompts: Prompts
    data_hash: str
    fingerprint: str
    """Of the model, and of the adapter that training starts from."""
    counts: dict[str, int]
    """Reasons of what is left out or repaired."""
    example_of: dict[str, str]
    """What was wrong with one example of some of them."""


def prepare(config: SftConfig, session: Session) -> Run:
    """Load the model and the data."""
    model = build(
        config.model,
        lora=config.lora,
        init_adapter=config.init_adapter,
        dtype=config.dtype,
        attention=config.attention,
        gradient_checkpointing=config.gradient_checkpointing,
        head=config.auxiliary_head if config.auxiliary_loss_weight else None,
        head_layer=config.auxiliary_layer,
        device=session.device,
    )
    broadcast_parameters(model.parameters)
    reader = ImageReader(limits=ImageLimits(roots=config.image_roots))
    encoder = PromptEncoder(
        load_processor(config.model), reader.open, config.max_pixels, config.max_images
    )
    prompts = Prompts.load(config.prompts)
    data = read_examples(
        config.train,
        config.task,
        config.views,
        config.negatives,
        config.seed,
        config.max_train_dialogues,
    )
    source = SequenceSource(
        data.examples,
        prompts,
        encoder,
        model,
        max_length=config.max_length,
        queries_per_sequence=config.queries_per_sequence,
        cached=config.keep_encoded,
        with_pairs=config.auxiliary_loss_weight > 0,
    )
    counts = data.counts + source.measure(session.rank, session.world_size)
    if not len(source):
        raise ConfigError(
            f"no training sequence is left of {len(data.examples)} examples"
            f" ({_reasons(counts, source.example_of)}); check `train` and `max_length`"
        )
    held_out = _evaluation_examples(config)
    counts.update({f"evaluation_{name}": count for name, count in held_out.counts.items()})
    return Run(
        config=config,
        session=session,
        model=model,
        source=source,
        evaluation=list(held_out.examples[: config.max_eval_examples]),
        engine=TransformersEngine(
            model.base, encoder, max_batch_tokens=config.eval_batch_tokens, seed=config.seed
        ),
        prompts=prompts,
        data_hash=data_hash(data.records),
        fingerprint=fingerprint(config),
        counts=dict(counts),
        example_of=source.example_of,
    )


def _evaluation_examples(config: SftConfig) -> Examples:
    """What the best checkpoint is chosen by; none where no files are given."""
    held_out = read_examples(config.evaluation, config.task, config.views)
    if config.evaluation and not held_out.examples:
        raise ConfigError(
            f"the evaluation files give no example of the task {config.task!r}"
            f" ({_reasons(held_out.counts, {})}), so no checkpoint would be the best one; correct"
            " `evaluation`, or leave it out for a run that keeps its last adapter only"
        )
    return held_out


def uses_autocast(setting: bool | Literal["auto"], device: str) -> bool:
    """What `autocast` of the configuration means on a type of device."""
    return (device == "cuda" or native_bfloat16()) if setting == "auto" else setting


def _reasons(counts: Mapping[str, int], example_of: Mapping[str, str]) -> str:
    """Counted reasons, each with one example where there is one."""
    return ", ".join(
        f"{number} {reason}" + (f" such as: {example_of[reason]}" if reason in example_of else "")
        for reason, number in sorted(counts.items())
    )


def fingerprint(config: SftConfig) -> str:
    """What training starts from, wherever it lies."""
    model, adapter = model_fingerprint(config.model), config.init_adapter
    return model if adapter is None else f"{adapter_hash(adapter)}:{model}"


class Loop:
    """The training loop of one start."""

    def __init__(
        self,
        state: Run,
        steps: list[list[int]],
        optimizer: Any,
        scheduler: Any,
        log: RunLog | None,
        source: Provenance,
    ) -> None:
        self._state, self._steps, self._log = state, steps, log
        self._optimizer, self._scheduler, self._source = optimizer, scheduler, source
        self._autocast = uses_autocast(state.config.autocast, state.model.device.type)

    def run(self, cursor: Cursor) -> Cursor:
        """Train from the cursor to the end, or to the deadline; return where it stands."""
        config, model = self._state.config, self._state.model
        deadline = Deadline(config.launch.stop_after_minutes)
        model.train(True)
        self._say(
            f"{len(self._state.source)} training sequences in {len(self._steps)} steps;"
            f" left out or repaired: {_reasons(self._state.counts, self._state.example_of) or 0}"
        )
        step = cursor.step
        while step < len(self._steps):
            self._step(step)
            step += 1
            last = step == len(self._steps)
            stop = deadline.passed()
            metrics: dict[str, float] = {}
            if last or step % config.eval_every == 0:
                metrics = self._evaluate(step)
            if last or stop or metrics or step % config.checkpoint_every == 0:
                self._save(Cursor(step=step), metrics)
            if stop:
                break
        return Cursor(step=step)

    def _step(self, step: int) -> None:
        """One optimizer step over the sequences of all workers."""
        state, config = self._state, self._state.config
        started = time.monotonic()
        ids, source, model = self._steps[step], state.source, state.model
        tokens = sum(source.weights[i][0] for i in ids)
        pairs = max(1, sum(source.weights[i][1] for i in ids))
        answer = auxiliary = correct = 0.0
        for batch in self._batches(ids):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self._autocast):
                sums = model.losses(batch)
            loss = sums.answer / tokens + config.auxiliary_loss_weight * sums.auxiliary / pairs
            loss.backward()  # type: ignore[no-untyped-call]
            answer += float(sums.answer.detach())
            auxiliary += float(sums.auxiliary.detach())
            correct += sums.correct
        all_reduce_gradients(model.parameters)
        norm = clip_gradients(model.parameters, config.optimizer.max_grad_norm)
        answer, auxiliary, correct = all_reduce_sum([answer, auxiliary, correct], model.device)
        check_finite(step + 1, answer / tokens, norm)
        rate = self._scheduler.get_last_lr()[0]
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._log is not None:
            seconds = time.monotonic() - started
            values = {
                "train/loss": answer / tokens,
                "train/token_accuracy": correct / tokens,
                "train/grad_norm": norm,
                "train/learning_rate": rate,
                "speed/tokens_per_second": sum(source.lengths[i] for i in ids) / seconds,
            }
            if config.auxiliary_loss_weight:
                values["train/auxiliary_loss"] = auxiliary / pairs
            self._log.write(step + 1, values)
            if (step + 1) % max(1, len(self._steps) // 100) == 0:
                self._log.say(
                    f"step {step + 1}/{len(self._steps)}  loss {answer / tokens:.4f}"
                    f"  {values['speed/tokens_per_second']:.0f} tokens/s"
                )

    def _batches(self, ids: list[int]) -> Iterator[TrainingBatch]:
        """This worker's padded microbatches of a step."""
        state = self._state
        shares = split_step(
            ids,
            state.source.lengths,
            state.session.world_size,
            state.config.batch.tokens_per_microbatch,
        )
        pad = state.engine.encoder.tokenizer.pad_token_id
        for numbers in shares[state.session.rank]:
            rows = [state.source[i] for i in numbers]
            yield collate_sequences(rows, pad).to(state.model.device)

    def _evaluate(self, step: int) -> dict[str, float]:
        state = self._state
        if not state.evaluation:
            return {}
        state.model.train(False)
        metrics = evaluate(
            state.engine,
            state.evaluation,
            state.prompts,
            state.config.task,
            max_new_tokens=state.config.max_new_tokens,
            say=self._say,
            rank=state.session.rank,
            world_size=state.session.world_size,
        )
        state.model.train(True)
        if self._log is not None:
            self._log.write(step, metrics)
            name = METRIC[state.config.task]
            self._say(f"step {step}  {name} {metrics[name]:.4f}")
        return metrics

    def _say(self, line: str) -> None:
        if self._log is not None:
            self._log.say(line)

    def _save(self, cursor: Cursor, metrics: dict[str, float]) -> None:
        """Checkpoint with the adapter as a PEFT folder; a barrier of all workers."""
        state = self._state
        random_states = gather_objects(random_state())

        def save(folder: Path) -> None:
            save_state(
                folder,
                modules=state.model.modules,
                optimizer=self._optimizer,
                scheduler=self._scheduler,
                cursor=cursor,
                random_states=random_states,
                provenance=self._source,
            )
            save_adapter(state.model.peft, ADAPTER, folder / "adapter")

        state.session.report(cursor.step, metrics, save)
