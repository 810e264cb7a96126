"""A corpus, a home and an index job of one test, and the rows that it stored."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ffr_core.parts import build_encoder, build_index, open_system
from ffr_core.profile import load_profile, remember_root
from ffr_core.records import dialogue_from_record
from jobs.index_corpus import IndexJobConfig, PoolConfig, run

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "milvus"
uri = "{home}/i.db"
"""
WORDS = ["red", "bus", "hotel", "rain", "ticket", "map", "火锅", "明天", "会议", "lamp", "repair"]
NUM_CALM = 64
"""Dialogues of the corpus `calm`."""
FAST = {"build": PoolConfig(batch=4, cpus=0.5)}


def record(name, num_turns=8, seed=0, image=None):
    rng = random.Random(f"{name}{seed}")
    turns = [
        {
            "turn_id": i,
            "speaker": rng.choice(["Ana", "Ben", "小明"]),
            "text": " ".join(rng.choices(WORDS, k=6)),
        }
        for i in range(num_turns)
    ]
    if image:
        turns[0]["images"] = [{"image_id": 0, "uri": image, "caption": None}]
    return {"dialogue_id": name, "turns": turns}


def write(path, records):
    lines = (r if isinstance(r, bytes) else json.dumps(r).encode() for r in records)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


class Place:
    """A corpus folder, a home and a profile of one test."""

    def __init__(self, folder):
        self.corpus, self.home = folder / "corpus", folder / "home"
        self.corpus.mkdir()
        self.profile = folder / "p.toml"
        self.profile.write_text(PROFILE)

    def config(self, **changes):
        given = {"input": (str(self.corpus),), "home": str(self.home), **FAST, **changes}
        return IndexJobConfig(profile=str(self.profile), **given)

    def run(self, **changes):
        summary = run(self.config(**changes))
        done = summary["indexed"] + summary["updated"] + summary["unchanged"]
        left_out = {**summary["skipped"], **summary["dead_lettered"]}
        assert summary["read"] == done + sum(left_out.values())
        return summary

    def rows(self):
        """Every stored row of the tenant but for revisions, and the payload keys."""
        return self._rows(self.home)

    def library_rows(self, records):
        """The same of the library, which adds these records to a home of their own."""
        with tempfile.TemporaryDirectory(dir=self.corpus.parent) as home:
            remember_root(Path(home), str(self.corpus))
            with open_system(str(self.profile), home) as system:
                for given in records:
                    system.add(dialogue_from_record(given, base=str(self.corpus)))
            return self._rows(Path(home))

    def _rows(self, home):
        profile = load_profile(str(self.profile), home)
        encoder = build_encoder(profile.encoder)
        index = build_index(profile, encoder.fingerprint, encoder.dim)
        found = dump(index)
        headers = {h.dialogue_id: h for h in index.scan_headers("default")}
        index.close()
        return found, {name: (h.fingerprint, h.payload) for name, h in headers.items()}

    def payloads(self):
        return sorted(p.name for p in (self.home / "store").rglob("*.zst"))

    def letters(self):
        path = self.home / "runs" / "index" / "dead_letter.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


def dump(index):
    """All fragment and passage rows but for their revisions."""
    view = index._tenants.find("default")
    if view is None:
        return {}
    fields, found = ["turn_ids", "text", "min_ms", "has_image", "vector"], {}
    for collection in (view.fragments, view.passages):
        keys = [row["id"] for row in view.connection.scan(collection, view.scope, [])]
        for start in range(0, len(keys), 200):
            part = view.connection.get(collection, keys[start : start + 200], fields, "Strong")
            for row in part.values():
                dialogue, _, place = row.pop("id").split(":", 2)
                found[collection, dialogue, place] = row
    return found


def assert_same(one, other):
    (rows, headers), (other_rows, other_headers) = one, other
    assert headers == other_headers
    assert rows.keys() == other_rows.keys()
    for key, row in rows.items():
        twin = dict(other_rows[key])
        row = dict(row)
        np.testing.assert_allclose(row.pop("vector"), twin.pop("vector"), atol=1e-6)
        assert repr(row) == repr(twin)


def start(place, address, build="batch = 4\ncpus = 0.5\n", **environment):
    """The job as a process of its own on the Ray at an address."""
    config = place.home.parent / "job.toml"
    config.write_text(
        f'input = ["{place.corpus}"]\nhome = "{place.home}"\nprofile = "{place.profile}"\n'
        f"[build]\n{build}"
    )
    log = (place.home.parent / "job.log").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.index_corpus", "--config", str(config)],
        env={**os.environ, "RAY_ADDRESS": address, **environment},
        stdout=log,
        stderr=log,
    )


def wait_for_payloads(place, number, process):
    deadline = time.monotonic() + 180
    while len(place.payloads()) < number:
        assert time.monotonic() < deadline, (place.home.parent / "job.log").read_text()
        if process.poll() is not None:
            return
        time.sleep(0.02)
