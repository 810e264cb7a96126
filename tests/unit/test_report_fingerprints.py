"""A cell is measured again when anything that decides it changes, and only then."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffr_core.engine.config import EngineConfig
from ffr_core.profile import EncoderConfig
from jobs.report.config import ReportConfig, SetConfig, SystemConfig
from jobs.report.fingerprints import code_hash, fingerprint

PROFILE = """
[encoder]
kind = "fem"
path = "{folder}/base"
adapter = "{folder}/fem"
[engine]
kind = "transformers"
path = "{folder}/base"
adapters = {{ f2rvlm = "{folder}/f2rvlm" }}
[segmenter]
kind = "vlm"
prompts = "{folder}/segment.toml"
[localizer]
kind = "f2rvlm"
adapter = "f2rvlm"
prompts = "{folder}/localize.toml"
calibration = "{folder}/calibration.json"
"""
SET = {"set/set.jsonl", "set/a.png"}
PARTS = {"profile.toml", "segment.toml", "localize.toml", "calibration.json"}
BASE, CLIP = "base/model.safetensors", "clip/open_clip_model.safetensors"
FEM, F2RVLM = "fem/adapter_model.safetensors", "f2rvlm/adapter_model.safetensors"
DECIDES = {
    "profile": {*PARTS, BASE, FEM, F2RVLM},
    "brute_force": {*PARTS, BASE, FEM, F2RVLM},
    "vlm": {"localize.toml", BASE, F2RVLM},
    "fem": {BASE, FEM},
    "clip": {CLIP},
    "text_embedding": {FEM},
    "bm25": set(),
}

CHANGES = {
    b"[engine]": b"# New.\n[engine]",
    b"{dialogue}": b"{dialogue}!",
    b'"r": 8': b'"r": 4',
    b"look": b"walk",
}


@pytest.fixture
def folder(tmp_path):
    for name in ("set", "base", "clip", "fem", "f2rvlm"):
        (tmp_path / name).mkdir()
    turn = {"turn_id": 0, "speaker": "A", "text": "look", "images": [{"image_id": 0}]}
    turn["images"][0]["uri"] = "a.png"
    (tmp_path / "set/set.jsonl").write_text(json.dumps({"dialogue_id": "d", "turns": [turn]}))
    (tmp_path / "set/a.png").write_bytes(b"picture")
    for name in (BASE, CLIP, FEM, F2RVLM):
        (tmp_path / name).write_bytes(bytes(3 << 20 if name in (FEM, F2RVLM) else 9))
    for name in ("fem", "f2rvlm"):
        (tmp_path / name / "adapter_config.json").write_text('{"r": 8}')
    for task in ("segment", "localize"):
        slots = "{dialogue}" if task == "segment" else "{dialogue} {query}"
        (tmp_path / f"{task}.toml").write_text(f'[{task}.en]\nuser = "{slots}"\n')
    (tmp_path / "calibration.json").write_text("{}")
    (tmp_path / "profile.toml").write_text(PROFILE.format(folder=tmp_path))
    return tmp_path


def system_of(kind, folder):
    base, fem = str(folder / "base"), str(folder / "fem")
    more = {
        "profile": {"profile": str(folder / "profile.toml")},
        "brute_force": {"profile": str(folder / "profile.toml")},
        "vlm": {
            "engine": EngineConfig(path=base, adapters={"a": str(folder / "f2rvlm")}),
            "adapter": "a",
            "prompts": str(folder / "localize.toml"),
        },
        "fem": {"model": base, "adapter": fem},
        "clip": {"model": str(folder / "clip")},
        "text_embedding": {"encoder": EncoderConfig(adapter=fem)},
    }
    return SystemConfig(name="s", kind=kind, **more.get(kind, {}))


def name_of(system, folder, clip=None):
    item = SetConfig(name="t", path=str(folder / "set"))
    report = ReportConfig(name="r", reference="s", systems=(system,), sets=(item,), clip=clip)
    return fingerprint(report, system, item)


def change(path):
    """Other words in a text, another byte in the middle of everything else."""
    content = bytearray(path.read_bytes())
    if path.suffix in (".toml", ".jsonl") or path.name == "adapter_config.json":
        for old, new in CHANGES.items():
            content = content.replace(old, new)
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", DECIDES)
def test_a_change_of_what_a_system_reads_changes_its_name_and_nothing_else_does(kind, folder):
    system = system_of(kind, folder)
    first = name_of(system, folder)
    deciding = set()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        before, times = path.read_bytes(), path.stat()
        change(path)
        if name_of(system, folder) != first:
            deciding.add(path.relative_to(folder).as_posix())
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert name_of(system, folder) == first
    settings = {
        f"{Path(name).parent}/adapter_config.json" for name in DECIDES[kind] & {FEM, F2RVLM}
    }
    assert deciding == DECIDES[kind] | SET | settings


def test_the_clip_model_of_table_5_decides_every_cell(folder):
    system, clip = system_of("bm25", folder), str(folder / "clip")
    first = name_of(system, folder, clip)
    change(folder / CLIP)
    assert name_of(system, folder, clip) != first


def test_what_cannot_be_read_has_a_name_too(folder):
    system = system_of("profile", folder)
    names = {name_of(system, folder)}
    for lost in (F2RVLM, "segment.toml", "calibration.json", "set/a.png", "profile.toml"):
        (folder / lost).unlink()
        names.add(name_of(system, folder))
    (folder / "set/set.jsonl").write_text("no JSON")
    names.add(name_of(system, folder))
    assert len(names) == 7


def test_pictures_of_a_parquet_set_decide_its_cells(folder):
    rows = [json.loads((folder / "set/set.jsonl").read_text())]
    pq.write_table(pa.Table.from_pylist(rows), folder / "set/set.parquet")
    (folder / "set/set.jsonl").unlink()
    system = system_of("bm25", folder)
    item = SetConfig(name="t", path=str(folder / "set/set.parquet"))
    report = ReportConfig(name="r", reference="s", systems=(system,), sets=(item,))
    first = fingerprint(report, system, item)
    (folder / "set/a.png").write_bytes(b"another picture")
    assert fingerprint(report, system, item) != first


@pytest.mark.parametrize(
    "name", ["report/simple.py", "report/embedding_systems.py", "report/reading.py",
             "report/scoring.py", "eval_sets.py", "eval_index.py", "index/bm25.py"],
)  # fmt: skip
def test_new_code_is_measured_anew(name, monkeypatch):
    before, read = code_hash.__wrapped__(), Path.read_bytes
    new = b"# New.\n"
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + new * path.as_posix().endswith(f"/{name}")
    )
    assert code_hash.__wrapped__() != before
