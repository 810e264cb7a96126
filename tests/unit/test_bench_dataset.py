"""The memory that the data set benchmark tells is that of its steps."""

from jobs.bench import dataset


def test_what_was_in_memory_before_does_not_count():
    data = b"x" * 200_000_000
    high = dataset.peak_mb()
    del data
    dataset.forget_peak()
    assert dataset.peak_mb() < high - 150


def test_the_drawing_of_a_corpus_does_not_count(monkeypatch):
    draw, forget, steps = dataset._draw, dataset.forget_peak, []
    monkeypatch.setattr(dataset, "_draw", lambda *given: (steps.append("draw"), draw(*given)))
    monkeypatch.setattr(dataset, "forget_peak", lambda: (steps.append("forget"), forget()))
    assert dataset.run([20])["20"]["peak_mb"] > 0
    assert steps == ["draw", "forget"]
