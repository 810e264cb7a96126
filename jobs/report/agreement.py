"""Means of ratings, and how far raters agree: people with people, people with a judge.

Legend: U units (one criterion of one answer), R raters; NaN is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffr_core.dataset.agreement import cohen_kappa
from ffr_core.errors import InputError
from jobs.report.judging import CHOICES, LIKERT, Rating


def interval_alpha(values_UR: NDArray[np.float64]) -> float:
    """Krippendorff's alpha with squared differences, for ratings on a scale; NaN is missing.

    alpha = 1 - D_o / D_e. D_o: mean over all pairable values of the squared difference to the
    others of their unit; D_e: mean squared difference of all pairs of pairable values. 1 when
    nothing varies.

    Example:
        Units (1, 2), (3, 3): D_o = 0.5; of the six pairs of 1, 2, 3, 3 the squared differences
        are 1, 4, 4, 1, 1, 0, so D_e = 11 / 6 and alpha = 1 - 3 / 11 = 0.727.

    Raises:
        InputError: No unit has two values.
    """
    units = [row[~np.isnan(row)] for row in values_UR]
    units = [row for row in units if len(row) > 1]
    if not units:
        raise InputError("no answer was rated by two raters; hand out the same sheet twice")
    values = np.concatenate(units)
    n = len(values)
    within = sum(float(_squares(row)) / (len(row) - 1) for row in units) / n
    expected = float(_squares(values)) / (n * (n - 1))
    return 1.0 if expected == 0 else 1 - within / expected


def _squares(values: NDArray[np.float64]) -> float:
    """Sum over ordered pairs of squared differences."""
    return float(((values[:, None] - values[None, :]) ** 2).sum())


def summarize_ratings(ratings: Sequence[Rating]) -> dict[str, dict[str, Any]]:
    """Mean and deviation of each system's ratings, and how often it was the best.

    `overall` of an answer is the mean of a rater's relevance and coverage. The deviation is that
    of single ratings (n - 1). Our reading of Table 12.
    """
    result = {}
    for system in sorted({rating.system for rating in ratings}):
        mine = [rating for rating in ratings if rating.system == system]
        columns = {name: [r.scores[name] for r in mine if name in r.scores] for name in LIKERT}
        both = [r for r in mine if all(name in r.scores for name in LIKERT)]
        columns["overall"] = [float(np.mean([r.scores[n] for n in LIKERT])) for r in both]
        result[system] = {
            "answers": len({r.item_id for r in mine}),
            "ratings": len(mine),
            **{name: _spread(values) for name, values in columns.items()},
            "top": {name: sum(name in r.best for r in mine) for name in CHOICES},
        }
    return result


def agreement(people: Sequence[Rating], judge: Sequence[Rating] = ()) -> dict[str, Any]:
    """Agreement of people, and of their mean with the judge.

    For each criterion: `alpha` (Krippendorff, squared differences) over all people; `spearman` and
    `kappa` (Cohen, the people's mean rounded) against the judge, over the answers that both rated;
    for top choices `kappa` of "is the best" by majority. None where there is too little to compare.
    """
    result: dict[str, Any] = {"people": _raters(people), "judge": _raters(judge)}
    for name in LIKERT:
        table = _table(people, name)
        means = {unit: float(np.mean(list(row.values()))) for unit, row in table.items()}
        judged = {unit: float(np.mean(list(r.values()))) for unit, r in _table(judge, name).items()}
        shared = sorted(means.keys() & judged.keys())
        result[name] = {
            "alpha": _alpha(table),
            "pairs_kappa": _pairwise_kappa(table),
            "shared": len(shared),
            "spearman": spearman([means[u] for u in shared], [judged[u] for u in shared]),
            "kappa": cohen_kappa(
                [_round(means[u]) for u in shared], [_round(judged[u]) for u in shared]
            )
            if shared
            else None,
        }
    result["top"] = {name: _top(people, judge, name) for name in CHOICES}
    return result


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation, ties averaged; None for fewer than three pairs or a constant side."""
    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


Unit = tuple[str, str]
"""(item, system)."""


def _table(ratings: Sequence[Rating], name: str) -> dict[Unit, dict[str, int]]:
    table: dict[Unit, dict[str, int]] = {}
    for rating in ratings:
        if name in rating.scores:
            unit = (rating.item_id, rating.system)
            table.setdefault(unit, {})[rating.rater] = rating.scores[name]
    return table


def _alpha(table: Mapping[Unit, Mapping[str, int]]) -> float | None:
    raters = sorted({rater for row in table.values() for rater in row})
    rows = [[float(row.get(rater, np.nan)) for rater in raters] for row in table.values()]
    if not any(len(row) > 1 for row in table.values()):
        return None
    return interval_alpha(np.array(rows))


def _pairwise_kappa(table: Mapping[Unit, Mapping[str, int]]) -> dict[str, float]:
    raters = sorted({rater for row in table.values() for rater in row})
    found = {}
    for a, b in combinations(raters, 2):
        both = [row for row in table.values() if a in row and b in row]
        if both:
            found[f"{a}/{b}"] = cohen_kappa([row[a] for row in both], [row[b] for row in both])
    return found


def _top(people: Sequence[Rating], judge: Sequence[Rating], name: str) -> dict[str, Any]:
    sides = []
    for ratings in (people, judge):
        votes: dict[Unit, list[bool]] = {}
        # A rater who names no best answer of an item says nothing about it.
        said = {(r.item_id, r.rater) for r in ratings if name in r.best}
        for r in ratings:
            if (r.item_id, r.rater) in said:
                votes.setdefault((r.item_id, r.system), []).append(name in r.best)
        sides.append({unit: int(sum(v) * 2 > len(v)) for unit, v in votes.items()})
    shared = sorted(sides[0].keys() & sides[1].keys())
    labels = [[side[unit] for unit in shared] for side in sides]
    return {"shared": len(shared), "kappa": cohen_kappa(*labels) if shared else None}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"mean": None, "sd": None}
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    }


def _raters(ratings: Sequence[Rating]) -> list[str]:
    return sorted({rating.rater for rating in ratings})


def _round(value: float) -> int:
    """Halves go up."""
    return int(np.floor(value + 0.5))
