"""The paper's TOML files fit together: data, models, and the rows of the paper beside them."""

from pathlib import Path

import numpy as np
import pytest

from ffr_core.config import read_toml
from ffr_core.dataset.split_files import write_splits
from ffr_core.dataset.splits import POOLS, SplitRules

PAPER = Path(__file__).parents[2] / "jobs" / "configs" / "paper"
TRAINING = ("sft_*", "grpo*", "fem*", "difficulty", "ablations/*")


@pytest.fixture
def written(tmp_path):
    """Paths of the corpora that jobs.build_dataset leaves in `out` of dataset.toml."""
    pools = {pool: [] for pool in POOLS}
    write_splits(pools, {}, tmp_path, SplitRules(), lambda queries: np.zeros((0, 1), np.float32))
    out = read_toml(PAPER / "dataset.toml")["out"]
    return {f"{out}/{file.name}" for file in tmp_path.glob("*.jsonl")}


def corpora(value):
    """Every path of a corpus in a parsed TOML file."""
    if isinstance(value, dict):
        return {path for item in value.values() for path in corpora(item)}
    if isinstance(value, list):
        return {path for item in value for path in corpora(item)}
    # Other files that the jobs read lie below `runs`.
    is_corpus = isinstance(value, str) and ".jsonl" in value and not value.startswith("runs/")
    return {value} if is_corpus else set()


def test_training_reads_what_build_dataset_writes(written):
    files = [path for form in TRAINING for path in sorted(PAPER.glob(f"{form}.toml"))]
    named = {str(path.relative_to(PAPER)): corpora(read_toml(path)) for path in files}
    for name, paths in named.items():
        assert paths and paths <= written, name
    # Each file is read by some job.
    assert set().union(*named.values()) == written


def test_the_report_stands_beside_the_rows_of_its_models():
    profile, report = read_toml(PAPER / "profile.toml"), read_toml(PAPER / "report.toml")
    (system,) = [s for s in report["systems"] if s["kind"] == "profile"]
    localizer, segmenter = (
        engine["path"].removeprefix("Qwen/").removesuffix("-Instruct")
        for engine in (profile["engine"], profile["segmenter"]["engine"])
    )
    assert system["name"] == report["reference"] == f"F2RVLM-{localizer}"
    rows = system["paper_row"]
    assert rows[""] == f"F2RVLM-{localizer}"
    assert rows["8"] == f"Boundary model ({segmenter})"
    # Table 5 knows the 3B model only.
    assert "5" not in rows
