"""Exports to import: the samples of tests/data, and the run of an importer."""

import shutil
from pathlib import Path

from ffr_core.importers import import_export
from ffr_core.records import read_jsonl

DATA = Path(__file__).parents[1] / "data" / "exports"


def run(format_name, path, tmp_path, **options):
    """Import into a fresh folder; the report, which must add up, and the dialogues."""
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    report = import_export(format_name, path, tmp_path / "out", **options)
    assert report.balanced
    return report, list(read_jsonl(tmp_path / "out" / "dialogues.jsonl"))


def copy(name, tmp_path):
    """A sample that a test may change."""
    return Path(shutil.copytree(DATA / name, tmp_path / name))
