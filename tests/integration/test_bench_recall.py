import json
import subprocess
import sys

from jobs.bench.common import latency_ms
from jobs.bench.recall import sample_texts


def test_recall_writes_the_envelope_and_both_indexes_agree(tmp_path):
    path = tmp_path / "out" / "recall.json"
    options = ["recall", "--json", str(path), "--sizes", "60", "--dim", "8", "--queries", "3"]
    subprocess.run([sys.executable, "-m", "jobs.bench", *options], check=True, capture_output=True)
    result = json.loads(path.read_text())
    assert list(result) == ["benchmark", "command", "commit", "machine", "results"]
    assert result["command"].startswith("python -m jobs.bench recall --json")
    assert result["machine"]["cores"] > 0
    size = result["results"]["sizes"][0]
    assert (size["passages"], size["fragments"]) == (100, 20)
    assert size["write"]["rows"] == 120
    assert size["same_top"] == {"dense": 1.0, "bm25": 1.0, "fused": 1.0}
    for part in (size["milvus_lite"], size["numpy"]):
        for mode in ("dense", "bm25", "fused", "filtered"):
            assert 0 < part[mode]["p50"] <= part[mode]["p95"]


def test_an_unknown_benchmark_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "jobs.bench", "nothing"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "recall" in done.stderr


def test_every_call_is_timed_once():
    calls = []
    result = latency_ms([lambda: calls.append(1)] * 4)
    assert len(calls) == 4
    assert set(result) == {"p50", "p95"}


def test_the_sample_corpus_has_both_languages():
    texts = sample_texts()
    assert any("\u4e00" <= char <= "\u9fff" for text in texts for char in text)
    assert any(" the " in text for text in texts)
