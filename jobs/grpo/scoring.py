"""Stages of difficulty scoring: a greedy answer for each sample, then its F1 and entropy.

Rows are dicts of equally long arrays, as Ray Data passes them; the stages run without Ray as well.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.adapters import LoraSettings, adapter_hash
from ffr_core.curriculum import Difficulty, ScoredSample, label, plan
from ffr_core.errors import ConfigError, FfrError
from ffr_core.generation import Sampling
from ffr_core.prompts import Prompts
from ffr_core.rewards import f1_reward, read_answer
from jobs.grpo.config import DifficultyConfig
from jobs.grpo.data import Sample, data_records, image_reader, make_request, read_difficulty
from jobs.training.checkpoints import data_hash

Rows = dict[str, Any]
ADAPTER = "cold-start"


class AnswerStage:
    """Greedy answers by an engine with the cold-start adapter."""

    def __init__(self, config: DifficultyConfig, device: str = "cpu") -> None:
        from jobs.grpo.engines import open_engine

        self._engine = open_engine(config.model, config.engine, config.data.train, device)
        self._adapter = None
        if config.model.cold_start is not None:
            self._engine.load_adapter(ADAPTER, config.model.cold_start)
            self._adapter = ADAPTER
        self._prompts = Prompts.load(config.model.prompts)
        self._sampling = Sampling(max_new_tokens=config.max_new_tokens)

    def __call__(self, rows: Rows) -> Rows:
        """`item` (a pickled `Sample`) -> `item`, `text`, `token_ids` (JSON), `error`."""
        samples = [pickle.loads(item) for item in rows["item"]]
        answers = self._engine.generate(
            [make_request(s, self._prompts, self._sampling, 0, self._adapter) for s in samples]
        )
        return {
            "item": _objects(rows["item"]),
            "text": _objects(answer.text for answer in answers),
            "token_ids": _objects(json.dumps(answer.token_ids) for answer in answers),
            "error": _objects(answer.error or "" for answer in answers),
        }


class EntropyStage:
    """F1 of each answer, and the entropy of its tokens by one forward pass of the same model.

    Engines tell the log-probability of the token they took; an entropy needs the whole vocabulary.
    """

    def __init__(self, config: DifficultyConfig, device: str = "cpu") -> None:
        from ffr_core.engine.inputs import PromptEncoder, banned_token_ids
        from ffr_core.engine.loading import load_model, load_processor
        from jobs.grpo.policy import PolicyModel

        model = config.model
        self._encoder = PromptEncoder(
            load_processor(model.path),
            image_reader(model, config.data.train).open,
            model.max_pixels,
            model.max_images,
        )
        tokenizer = self._encoder.tokenizer
        self._pad: int = tokenizer.pad_token_id
        self._policy = PolicyModel(
            load_model(model.path, model.dtype, device),
            cold_start=model.cold_start,
            lora=LoraSettings(),
            banned_token_ids=banned_token_ids(tokenizer),
            pad_token_id=self._pad,
        )
        self._prompts = Prompts.load(model.prompts)

    def __call__(self, rows: Rows) -> Rows:
        """Answers -> `record`, one JSON line for each sample."""
        columns = zip(rows["item"], rows["text"], rows["token_ids"], rows["error"], strict=True)
        return {"record": _objects(json.dumps(self._record(*row)) for row in columns)}

    def _record(self, item: bytes, text: str, token_ids: str, error: str) -> dict[str, Any]:
        sample: Sample = pickle.loads(item)
        gold = sample.query.relevance
        record: dict[str, Any] = {"sample_id": sample.sample_id, "gold_empty": not gold}
        if error:
            return {**record, "error": error}
        tokens = tuple(json.loads(token_ids))
        return {
            **record,
            "f1": f1_reward(read_answer(text), gold),
            "entropy": self._entropy(sample, tokens),
            "num_tokens": len(tokens),
            "kind": sample.query.kind,
        }

    def _entropy(self, sample: Sample, tokens: tuple[int, ...]) -> float:
        """Mean over the answer's tokens, nats. Source: Sec 5.1.3, as stated."""
        import torch

        from jobs.grpo.rows import Row, build_batch

        prompt = self._encoder.encode(self._prompts.localize(sample.dialogue, sample.query.query))
        row = Row(prompt=prompt, completions=(tokens,), advantages=(0.0,), logprobs=((),))
        with torch.inference_mode():
            inputs = self._policy.inputs([prompt], build_batch([row], self._pad))
            return float(self._policy.score(inputs).entropies_T.mean())


class ScoreFile:
    """`difficulty.jsonl`: grows record by record, so that a killed run goes on where it was."""

    def __init__(
        self, folder: Path, config: DifficultyConfig, samples: Mapping[str, Sample]
    ) -> None:
        """Open the file of a folder.

        Raises:
            ConfigError: The folder holds scores of another model, adapter, prompt or data.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "difficulty.jsonl"
        _check_source(folder / "source.json", config, samples)
        self.done: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue  # The torn last line of a killed run.
                self.done[record["sample_id"]] = record
        self._write(self.done.values())

    def append(self, records: Iterable[str]) -> None:
        """Add finished records."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in records:
                record = json.loads(line)
                self.done[record["sample_id"]] = record
                file.write(f"{line}\n")

    def finish(self, order: Iterable[str]) -> None:
        """Put the records of `order` into that order; others go."""
        self._write(self.done[sample_id] for sample_id in order)

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        fresh.replace(self.path)


def _check_source(path: Path, config: DifficultyConfig, samples: Mapping[str, Sample]) -> None:
    """Compare what makes a score with what made those of a folder, and write it down."""
    model = config.model
    source = {
        "model": model.path,
        "dtype": model.dtype,
        "adapter": None if model.cold_start is None else adapter_hash(model.cold_start),
        "prompts": Prompts.load(model.prompts).fingerprint,
        "max_pixels": model.max_pixels,
        "max_images": model.max_images,
        "max_new_tokens": config.max_new_tokens,
        "samples": data_hash(data_records(samples)),
    }
    written = json.loads(path.read_text("utf-8")) if path.exists() else source
    if changed := [name for name, value in source.items() if written.get(name) != value]:
        raise ConfigError(
            f"{path.parent} holds scores made with other values of {', '.join(changed)};"
            " restore them or give another out"
        )
    path.write_text(json.dumps(source, indent=2) + "\n", "utf-8")


def pending_rows(samples: Mapping[str, Sample], done: Mapping[str, Any]) -> list[Rows]:
    """Input rows of the samples that have no record."""
    return [{"item": pickle.dumps(s)} for name, s in samples.items() if name not in done]


def summarize(path: Path, config: DifficultyConfig) -> dict[str, Any]:
    """Counts by both label presets, the curriculum's share, and means."""
    scored, failed = read_difficulty(path)
    samples = list(scored.values())
    if not samples:
        raise FfrError(f"no sample could be scored; see the reasons in {path}")
    made = plan(samples, config.curriculum.settings())
    labels = {preset: label(samples, preset) for preset in ("script", "text")}
    return {
        "samples": len(samples),
        "failed": failed,
        "mean_f1": float(np.mean([s.f1 for s in samples])),
        "mean_entropy": float(np.mean([s.entropy for s in samples])),
        "labels": {
            preset: {str(name): found.count(name) for name in Difficulty}
            for preset, found in labels.items()
        },
        "curriculum": {stage.name: len(stage.sample_ids) for stage in made.stages},
        "left_out": dict(made.left_out),
    }


def draw_distribution(samples: Sequence[ScoredSample], path: Path) -> None:
    """F1 against entropy, colored by class, one panel for each label preset."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharex=True, sharey=True)
    for axis, preset in zip(axes, ("script", "text"), strict=True):
        labels = label(samples, preset)
        for name, color in zip(
            Difficulty, ("#2a9d8f", "#8ab17d", "#e9c46a", "#e76f51"), strict=True
        ):
            chosen = [s for s, found in zip(samples, labels, strict=True) if found == name]
            axis.scatter(
                [s.entropy for s in chosen],
                [s.f1 for s in chosen],
                s=8,
                alpha=0.6,
                color=color,
                label=f"{name} ({len(chosen)})",
            )
        axis.set_title(f"labels: {preset}", fontsize=10)
        axis.set_xlabel("mean token entropy (nats)")
        axis.legend(fontsize=8)
    axes[0].set_ylabel("F1")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def batches(rows: Sequence[Rows], size: int) -> Iterator[Rows]:
    """Rows as column batches, for a run without Ray."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield {name: _objects(row[name] for row in part) for name in part[0]}


def _objects(values: Iterable[Any]) -> np.ndarray[Any, Any]:
    """An array of Python objects, which Ray Data passes on as they are."""
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
