"""Run the rows of an ablation table, each over several seeds, and write the table.

    python -m jobs.ablate --config jobs/configs/paper/ablations/table6.toml

A row is `jobs.train_grpo` with some changes, or an evaluation of its cold start alone; with
`sft_share` it first trains a cold start on that share of the dialogues and scores the rest. Rows
that are finished are not run again. Writes `table.md` and `table.json` into `out`.
Source: Tables 6 and 7 (ablations); several seeds and the split by hash are our choice.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, model_validator

from ffr_core.config import Config, read_toml
from ffr_core.errors import ConfigError, FfrError
from ffr_core.records import read_jsonl, record_from_dialogue
from jobs.grpo.config import DifficultyConfig, GrpoConfig
from jobs.grpo.data import in_sft_share
from jobs.training.logs import mean_and_spread


class AblationRow(Config):
    """One row of the table."""

    name: str
    changes: dict[str, Any] = Field(default_factory=dict)
    """Changes of the GRPO configuration, table by table."""
    grpo: bool = True
    """False evaluates the cold start and trains nothing further."""
    sft_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the dialogues for a cold start of this row's own."""
    paper_f1: float | None = None
    """The paper's joint F1 on its in-domain set, in percent."""
    paper_mcc: float | None = None


class AblationConfig(Config):
    """An ablation table."""

    out: str
    """Folder for runs and the table."""
    grpo: str
    """TOML file of `jobs.train_grpo`, relative to this file."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Changes of that file for every row, table by table; `model` also of `difficulty`."""
    sft: str | None = None
    """TOML file of `jobs.train_sft`; rows with `sft_share` need it."""
    sft_changes: dict[str, Any] = Field(default_factory=dict)
    """Changes of that file, table by table."""
    difficulty: str | None = None
    """TOML file of `jobs.score_difficulty`; rows with `sft_share` and a curriculum need it."""
    train: tuple[str, ...] = ()
    """Corpora that `sft_share` divides."""
    held_out: tuple[str, ...] = ()
    """Corpora that the table is scored on, with the adapter that is best on the validation files;
    left out, the table has that adapter's validation scores."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    rows: tuple[AblationRow, ...]

    @model_validator(mode="after")
    def _check_names(self) -> AblationConfig:
        folders: dict[str, str] = {}
        for row in self.rows:
            folder = slug(row.name)
            if folder in folders:
                raise ValueError(
                    f"rows {folders[folder]!r} and {row.name!r} would share the results"
                    f" {folder!r}; give them names that differ in letters or digits"
                )
            folders[folder] = row.name
        return self


def run(config: AblationConfig, folder: Path) -> list[dict[str, Any]]:
    """Run what is not finished and return the rows of the table.

    Args:
        config: The table.
        folder: Of its TOML file; other files are relative to it.

    Raises:
        FfrError: A file is not there, or a run cannot be made or finished.
    """
    for path in config.held_out:
        if not Path(path).is_file():
            raise ConfigError(f"there is no corpus file {path}; check held_out")
    out = Path(config.out)
    results = []
    for row in config.rows:
        runs = []
        for seed in config.seeds if row.grpo else config.seeds[:1]:
            name = f"{slug(row.name)}-{seed}"
            done = out / "results" / f"{name}.json"
            settings = _settings(config, row, folder)
            if done.is_file():
                _check_settings(done.with_suffix(".settings"), settings, row.name)
            else:
                scores = _run_row(config, row, seed, name, folder)
                done.parent.mkdir(parents=True, exist_ok=True)
                done.with_suffix(".settings").write_text(settings, "utf-8")
                done.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
            runs.append(json.loads(done.read_text("utf-8")))
        results.append({**row.model_dump(mode="json"), "runs": runs})
    (out / "table.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    (out / "table.md").write_text(render(results), "utf-8")
    return results


def _settings(config: AblationConfig, row: AblationRow, folder: Path) -> str:
    """What makes the scores of a row, as JSON."""
    values = config.model_dump(mode="json", exclude={"out", "seeds", "rows"})
    for name in ("grpo", "sft", "difficulty"):
        if values[name] is not None:
            values[name] = read_toml(folder / values[name])
    values["row"] = row.model_dump(mode="json", include={"changes", "grpo", "sft_share"})
    return json.dumps(values, indent=2, default=str) + "\n"


def _check_settings(path: Path, settings: str, row: str) -> None:
    """Refuse to put scores made otherwise beside those of today's settings."""
    written = path.read_text("utf-8") if path.is_file() else settings
    if written == settings:
        return
    before, now = json.loads(written), json.loads(settings)
    changed = [name for name in now if now[name] != before.get(name)]
    raise ConfigError(
        f"row {row!r} was scored with other values of {', '.join(changed)}; restore them, give"
        f" another out, or delete {path.with_suffix('.json')} and the folder of its run"
    )


def _run_row(
    config: AblationConfig, row: AblationRow, seed: int, name: str, folder: Path
) -> dict[str, float]:
    """Scores of one row and seed."""
    from jobs.train_grpo import run as train

    out = Path(config.out)
    changes: dict[str, Any] = {"seed": seed}
    if row.sft_share is not None:
        changes = merge(changes, _cold_start(config, row, folder))
    launch = {"launch": {"name": name, "storage_path": str(out / "runs")}}
    values = read_toml(folder / config.grpo)
    for part in (config.changes, changes, launch, row.changes):
        values = merge(values, part)
    grpo = GrpoConfig.parse(values, f"{config.grpo} with the changes of row {row.name!r}")
    if not row.grpo:
        return score_adapter(grpo, grpo.model.cold_start, config.held_out)
    result = train(grpo)
    if not (result.value or {}).get("finished"):
        raise FfrError(f"run {name} stopped before its end; the same command goes on with it")
    if result.best is None:
        raise FfrError(
            f"run {name} has no best checkpoint; give data.validation files, and delete the folder"
            f" {result.folder}"
        )
    if not config.held_out:
        return dict(result.best_metrics)
    return score_adapter(grpo, str(result.best / "adapter"), config.held_out)


def _cold_start(config: AblationConfig, row: AblationRow, folder: Path) -> dict[str, Any]:
    """Train and score a row's own cold start; changes of the GRPO configuration."""
    from jobs.score_difficulty import run as score
    from jobs.train_sft import run as train_sft
    from jobs.training.sft_config import SftConfig

    assert row.sft_share is not None
    if config.sft is None or not config.train:
        raise ConfigError(f"row {row.name!r} has an sft_share; give sft and train as well")
    out = Path(config.out) / f"share-{row.sft_share:g}"
    sft_file, rft_file = split_corpora(config.train, row.sft_share, out)
    roots = sorted({str(Path(path).resolve().parent) for path in config.train})
    values = merge(read_toml(folder / config.sft), config.sft_changes)
    values["train"], values["image_roots"] = [str(sft_file)], roots
    values["image_roots"] += [str(Path(p).resolve().parent) for p in values.get("evaluation", [])]
    values["launch"] |= {"name": "sft", "storage_path": str(out)}
    best = train_sft(SftConfig.parse(values, str(config.sft))).best
    if best is None:
        raise FfrError(f"the cold start in {out} has no best checkpoint; give it evaluation files")
    model = {"cold_start": str(best / "adapter"), "image_roots": roots}
    if not row.grpo:
        return {"model": model}
    changes: dict[str, Any] = {"model": model, "data": {"train": [str(rft_file)]}}
    if config.difficulty is not None:
        values = read_toml(folder / config.difficulty)
        shared = {"model": config.changes.get("model", {}), "out": str(out / "difficulty")}
        for part in (shared, changes):
            values = merge(values, part)
        score(DifficultyConfig.parse(values, str(config.difficulty)))
        changes["curriculum"] = {"difficulty": str(out / "difficulty" / "difficulty.jsonl")}
    return changes


def split_corpora(files: Sequence[str], share: float, out: Path) -> tuple[Path, Path]:
    """Write `sft.jsonl` and `rft.jsonl`: the dialogues of the share, and the others."""
    out.mkdir(parents=True, exist_ok=True)
    paths = out / "sft.jsonl", out / "rft.jsonl"
    lines: tuple[list[str], list[str]] = ([], [])
    for file in files:
        for dialogue in read_jsonl(file):
            side = 0 if in_sft_share(dialogue.dialogue_id, share) else 1
            lines[side].append(json.dumps(record_from_dialogue(dialogue), ensure_ascii=False))
    for path, part in zip(paths, lines, strict=True):
        path.write_text("".join(f"{line}\n" for line in part), "utf-8")
    return paths


def score_adapter(
    config: GrpoConfig, adapter: str | None, held_out: Sequence[str]
) -> dict[str, float]:
    """Scores of one adapter, or of the bare base, by one engine in this process.

    Args:
        config: Model, engine and prompts; its validation files where `held_out` is empty.
        adapter: PEFT folder.
        held_out: Corpora, read whole.
    """
    from ffr_core.prompts import Prompts
    from jobs.grpo.data import load_samples
    from jobs.grpo.engines import LocalSampler, open_engine
    from jobs.grpo.evaluation import evaluate

    files = tuple(held_out) or config.data.validation
    samples = load_samples(files, limit=None if held_out else config.data.max_validation)
    device = "cuda" if config.launch.use_gpu and config.engine.kind == "transformers" else "cpu"
    engine = open_engine(config.model, config.engine, files, device)
    with contextlib.closing(LocalSampler(engine)) as sampler:
        if adapter is not None:
            sampler.load(Path(adapter), "scored")
        prompts = Prompts.load(config.model.prompts)
        return evaluate(sampler, samples, prompts, config.rollout.max_new_tokens)


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with changes; tables are merged, everything else is replaced.

    Example:
        {a: {x: 1, y: 2}} with {a: {y: 3}} is {a: {x: 1, y: 3}}.
    """
    merged = dict(values)
    for key, change in changes.items():
        both = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], change) if both else change
    return merged


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown: mean and spread over seeds in percent, and the paper's numbers."""
    lines = [
        "| row | F1 | MCC | utterance F1 | image F1 | seeds | paper F1 | paper MCC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = [result["name"]]
        for name in ("f1", "mcc", "utterance_f1", "image_f1"):
            cells.append(mean_and_spread([scores[name] for scores in result["runs"]], 2))
        cells.append(str(len(result["runs"])))
        for name in ("paper_f1", "paper_mcc"):
            cells.append("" if result[name] is None else f"{result[name]:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def slug(name: str) -> str:
    """A folder name.

    Example:
        `F1, no order` is `f1-no-order`; `100 % SFT` is `100-sft`.
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def main(config: Annotated[Path, typer.Option(help="TOML file of the table.")]) -> None:
    """Run an ablation table; the same command goes on with what is missing."""
    try:
        results = run(AblationConfig.load(config), config.parent)
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(render(results), end="")


if __name__ == "__main__":
    typer.run(main)
