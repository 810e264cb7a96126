"""What benchmarks make of the processes below a job."""

from types import SimpleNamespace

import pytest

from jobs.bench.watch import slope, worker_part


def test_the_slope_leaves_out_start_and_end():
    samples = [
        (0, {"driver": 1.0}),
        (0, {"driver": 5.0, "workers": 40.0}),
        (25, {"driver": 6.0, "workers": 41.0}),
        (50, {"driver": 7.0, "workers": 44.0, "gcs": 1.0}),
        (85, {"driver": 9.0, "workers": 47.0, "gcs": 1.5}),
        (100, {"driver": 30.0, "workers": 90.0, "gcs": 1.5}),
    ]
    assert slope(samples) == pytest.approx({"driver": 0.05, "workers": 0.1, "gcs": 0.025})


def test_a_run_that_is_over_at_once_has_no_slope():
    assert slope([(0, {"driver": 1.0}), (100, {"driver": 2.0})]) == {}


@pytest.mark.parametrize(
    ("title", "part"),
    [
        (["ray::MapWorker(MapBatches(SegmentStage)).submit", "", ""], "SegmentStage"),
        (["ray::IndexOwner", "", ""], "IndexOwner"),
        (["ray::IDLE"], "IDLE"),
        (["VLLM::EngineCore"], "vLLM engine"),
        (["/x/raylet", "--store=ray"], "Ray itself"),
    ],
)
def test_workers_are_named_by_what_they_run(title, part):
    process = SimpleNamespace(cmdline=lambda: title, name=lambda: "")
    assert worker_part(process) == part
