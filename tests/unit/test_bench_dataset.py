"""The memory that the data set benchmark tells is that of its steps."""

from jobs.bench import dataset


def test_what_was_in_memory_before_does_not_count():
    data = b"x" * 200_000_000
    high = dataset.peak_mb()
    del data
    dataset.forget_peak()
    assert dataset.peak_mb() < high - 150


def test_the_drawing_of_a_corpus_does_not_count(monkeypatch):
    """A size that is small is not told the memory of what came before it."""
    draw, peaks = dataset._draw, []

    def greedy(folder, size):
        data = b"x" * 200_000_000
        draw(folder, size)
        del data
        peaks.append(dataset.peak_mb())

    monkeypatch.setattr(dataset, "_draw", greedy)
    result = dataset.run([20])
    assert result["20"]["peak_mb"] < peaks[0] - 100
