"""The index job with a boundary model in its own processes, and the reindex job, on Milvus Lite."""

import json
import os
import signal
import threading
import time

import psutil
import pytest
import vlm_parts

import jobs.reindex as reindexing
from ffr_core.engine.build import close_shared_engines
from ffr_core.errors import ConfigError, InputError
from ffr_core.parts import open_system
from ffr_core.profile import load_profile
from ffr_core.records import dialogue_from_record
from ffr_core.storage import open_storage
from jobs.index_corpus import IndexJobConfig, PoolConfig, run
from jobs.reindex import reindex

POOLS = {
    "stages": "separate",
    "segment": PoolConfig(batch=4, cpus=0.5),
    "embed": PoolConfig(batch=4, cpus=0.5),
    "block_bytes": 2_000,
}


def fragments(profile, home, names):
    """Dialogue -> turn ids of its fragments, as stored."""
    with open_system(str(profile), home) as system:
        return {
            name: [f.fragment.turn_ids for f in system.index.fragments("default", name)]
            for name in names
        }


@pytest.mark.slow  # test_index_job.py kills workers of the same pools without an engine
def test_a_segmenter_that_is_killed_loses_nothing(ray_cluster, tmp_path):
    vlm_parts.write_models(tmp_path)
    profile = tmp_path / "p.toml"
    profile.write_text(vlm_parts.profile_text(tmp_path, index="milvus"))
    records = [vlm_parts.record(f"talk-{n}", num_turns=8) for n in range(24)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    killed = []

    def kill_once():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or ())
                if "MapWorker(MapBatches(SegmentStage)" in line and process.cpu_times().user > 3:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_once)
    thread.start()
    home = tmp_path / "home"
    summary = run(
        IndexJobConfig(input=(str(corpus),), profile=str(profile), home=str(home), **POOLS)
    )
    thread.join()
    assert killed
    assert (summary["indexed"], summary["dead_lettered"]) == (24, {})
    names = [record["dialogue_id"] for record in records]
    stored = fragments(profile, home, names)
    with open_system(str(profile), tmp_path / "other") as calm:
        for record in records:
            calm.add(dialogue_from_record(record))
    assert stored == fragments(profile, tmp_path / "other", names)
    close_shared_engines()


OLD = """
[encoder]
kind = "hashing"
[index]
kind = "milvus"
uri = "{home}/i.db"
"""
NEW = (
    OLD
    + """
[engine]
kind = "scripted"
[engine.script]
"" = "[[0,2],[1,3,4,5]]"
[segmenter]
kind = "vlm"
prompts = "compact"
"""
)


@pytest.mark.slow  # test_reindex.py does the same without an engine
def test_a_reindex_builds_beside_the_old_index_and_switches_at_its_end(
    ray_cluster, tmp_path, monkeypatch
):
    home, old, new = tmp_path / "home", tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(OLD)
    new.write_text(NEW)
    names = [f"talk-{n}" for n in range(6)]
    with open_system(str(old), home) as system:
        for name in names:
            system.add(dialogue_from_record(vlm_parts.record(name)))
        system.delete("talk-5")
    before = fragments(old, home, names)
    storage = open_storage(load_profile(str(new), home).storage.uri)

    def broken(*_):
        raise RuntimeError("the machine stops")

    with monkeypatch.context() as patch:
        patch.setattr(reindexing, "switch_collections", broken)
        with pytest.raises(RuntimeError):
            reindex(str(new), home, job=POOLS)
    assert fragments(old, home, names) == before
    assert not storage.exists("serving/collections.json")
    done = reindex(str(new), home, job=POOLS)
    assert (done.dialogues, done.deleted, done.passes) == (5, 1, 0)
    assert set(map(str, fragments(new, home, names[:5]).values())) == {"[(0, 2), (1, 3, 4, 5)]"}
    assert not (home / "reindex" / done.prefix).exists()
    with open_system(str(new), home) as system:
        assert {answer.dialogue_id for answer in system.search("red bicycle")} <= set(names[:5])
        assert system.get("talk-0").turns == dialogue_from_record(vlm_parts.record("talk-0")).turns
        with pytest.raises(InputError, match="deleted"):
            system.add(dialogue_from_record(vlm_parts.record("talk-5")))
    with pytest.raises(ConfigError, match="already"):
        reindex(str(new), home, job=POOLS)
    close_shared_engines()
