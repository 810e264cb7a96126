"""Numbers of a run: TensorBoard, one CSV in long form, curves as PNG.

After a restart everything behind the restored step is dropped, so the files look like those of an
undisturbed run.
"""

from __future__ import annotations

import csv
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

FIELDS = ("step", "name", "value")


class RunLog:
    """Appends numbers; only rank 0 has one."""

    def __init__(self, folder: Path, step: int = -1) -> None:
        """Open the log of a run that stands at `step` and drop what lies behind.

        Args:
            folder: Gets `metrics.csv`, `curves/*.png`, `tensorboard/` and `progress.txt`.
            step: Step of the checkpoint that the run goes on from; -1 without one, when not even
                the numbers of step 0 stay.
        """
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._csv = folder / "metrics.csv"
        kept = [row for row in read_metrics(self._csv) if row[0] <= step]
        fresh = self._csv.with_suffix(".new")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([FIELDS, *kept])
        os.replace(fresh, self._csv)
        self._file = self._csv.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of one step; a name such as `eval/f1` puts a curve into the figure `eval`."""
        for name, value in values.items():
            self._rows.writerow((step, name, repr(float(value))))
            self._board.add_scalar(name, value, step)
        self._file.flush()

    def say(self, line: str) -> None:
        """Add a line to `progress.txt`, which the driver prints."""
        with (self._folder / "progress.txt").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def close(self) -> None:
        """Draw the curves and close the files."""
        self._file.close()
        self._board.close()
        draw_curves(self._csv, self._folder / "curves")


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """Shares of 1 over several seeds as a table's cell: mean and standard deviation, per cent.

    Example:
        [0.5, 0.7] with one digit is `60.0 ± 14.1`, [0.5] is `50.0`, [] is `not run`.
    """
    if not values:
        return "not run"
    cell = f"{100 * statistics.mean(values):.{digits}f}"
    return f"{cell} ± {100 * statistics.stdev(values):.{digits}f}" if len(values) > 1 else cell


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """Rows of a `metrics.csv`; a file that is not there has none, a torn last line is left out."""
    if not path.exists():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            try:
                step, name, value = row
                rows.append((int(step), name, float(value)))
            except ValueError:
                continue
    return rows


def series(path: Path, name: str) -> list[tuple[int, float]]:
    """One curve of a `metrics.csv`: (step, value), ascending steps."""
    return sorted((step, value) for step, row, value in read_metrics(path) if row == name)


def draw_curves(path: Path, folder: Path) -> list[Path]:
    """Draw one PNG for each prefix of the names in a `metrics.csv` and return the files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for step, name, value in read_metrics(path):
        if math.isfinite(value):
            figure = name.split("/", 1)[0] if "/" in name else "train"
            curves.setdefault(figure, {}).setdefault(name, []).append((step, value))
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for figure, lines in curves.items():
        drawing, axes = pyplot.subplots(
            len(lines), 1, figsize=(7, 2.2 * len(lines)), squeeze=False, sharex=True
        )
        for axis, (name, points) in zip(axes[:, 0], sorted(lines.items()), strict=True):
            axis.plot(*zip(*sorted(points), strict=True), marker="." if len(points) < 40 else None)
            axis.set_ylabel(name.split("/", 1)[-1], fontsize=8)
            axis.grid(alpha=0.3)
        axes[-1, 0].set_xlabel("step")
        drawing.tight_layout()
        file = folder / f"{figure}.png"
        drawing.savefig(file, dpi=110)
        pyplot.close(drawing)
        files.append(file)
    return files
