"""Fit the confidences of a profile's localizer on validation data and plot how reliable they are.

    python -m jobs.calibrate --profile laptop --data FILE [--data FILE ...] --out calibration.json

The files are indexed for this purpose, every query is asked, and every recalled candidate is read
without calibration: so the scores are those of real candidates, wrong ones included. A candidate is
relevant when it holds any gold turn or image of the query; a selected id is right when it is gold.
Half of the dialogues fit the calibration, the queries of the others measure it: expected
calibration error and a reliability plot, before and after. `[localizer] calibration` of the profile
takes the file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ffr_core.errors import FfrError, InputError
from ffr_core.localization.calibrated import apply
from ffr_core.localization.calibration import (
    ReliabilityBin,
    calibration_error,
    fit_calibration,
    reliability,
)
from ffr_core.parts import build_system
from ffr_core.pipeline import System, localize_all
from ffr_core.profile import Profile, load_profile
from ffr_core.types import Candidate, Dialogue, Filters, Localization, Query, Selection
from jobs.eval_index import TENANT, fill, placed
from jobs.eval_sets import EvalSet, folder_of, load_set

KINDS = ("relevance", "utterance", "image")
FEWEST = 100
"""Scores of a kind on the measuring side below which its numbers say little."""
Method = Literal["isotonic", "platt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One candidate of one query."""

    asked_of: str
    """The dialogue that the query belongs to; decides the side of the split."""
    found: Localization
    """Without calibration."""
    gold: Selection
    """The part of the gold selection inside the candidate."""


def calibrate(
    profile_name: str,
    files: Sequence[Path],
    out: Path,
    plot: Path | None = None,
    method: Method = "isotonic",
    max_queries: int | None = None,
) -> dict[str, Any]:
    """Collect, fit, measure, write; returns what was measured.

    Raises:
        InputError: The files hold no queries, or too few dialogues to split.
    """
    sets = [(load_set(path, max_queries, hide_timestamps=False), path) for path in files]
    collected = [collect(profile_name, data, folder_of(path)) for data, path in sets]
    examples = [example for part, _ in collected for example in part]
    fitting = [e for e in examples if fits(e.asked_of)]
    measuring = [e for e in examples if not fits(e.asked_of)]
    if not fitting or not measuring:
        raise InputError(
            f"{len(examples)} candidates of {len({e.asked_of for e in examples})} dialogues cannot"
            " be split in two; give more data"
        )
    calibration = fit_calibration([(e.found, e.gold) for e in fitting], method)
    after = [apply(calibration, e.found) for e in measuring]
    gold = [e.gold for e in measuring]
    bins = {
        "raw": {kind: _bins(kind, [e.found for e in measuring], gold) for kind in KINDS},
        "calibrated": {kind: _bins(kind, after, gold) for kind in KINDS},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    calibration.save(out)
    results = {
        "profile": profile_name,
        "method": method,
        "candidates": {
            "fitted_on": len(fitting),
            "measured_on": len(measuring),
            "left_out": sum(left_out for _, left_out in collected),
        },
        "queries": sum(len(data.asked) for data, _ in sets),
        "expected_calibration_error": {
            kind: {way: round(calibration_error(bins[way][kind]), 4) for way in bins}
            for kind in KINDS
            if bins["raw"][kind]
        },
        "scores": {kind: sum(b.count for b in bins["raw"][kind]) for kind in KINDS},
        "bins": {
            way: {kind: [asdict(b) for b in part] for kind, part in kinds.items()}
            for way, kinds in bins.items()
        },
    }
    draw(bins, plot or out.with_suffix(".png"), profile_name)
    out.with_suffix(".report.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def fits(dialogue_id: str) -> bool:
    """Which half a dialogue is in: one bit of its hash, so a rerun splits in the same way."""
    return hashlib.sha256(dialogue_id.encode()).digest()[0] % 2 == 0


def collect(profile_name: str, data: EvalSet, folder: Path) -> tuple[list[Example], int]:
    """Index the set with the profile's own parts and read the candidates of every query.

    Pictures below `folder` are readable. The number is that of candidates that were left out: their
    dialogue was gone when it was to be read.
    """
    if not data.asked:
        raise InputError("a file without queries calibrates nothing; give one with gold labels")
    with (
        tempfile.TemporaryDirectory(prefix="ffrs-calibrate-") as home,
        _system(load_profile(profile_name).with_image_root(folder), home) as system,
    ):
        fill(system, data.dialogues)
        examples: list[Example] = []
        left_out = 0
        for dialogue, query in data.asked:
            found, missing = _read(system, dialogue, query)
            examples += found
            left_out += missing
        return examples, left_out


def _system(profile: Profile, home: str) -> System:
    """The profile with a fresh index and a localizer without calibration."""
    localizer = profile.localizer.model_copy(update={"calibration": None})
    return build_system(placed(profile.model_copy(update={"localizer": localizer}), home))


def _read(system: System, dialogue: Dialogue, query: Query) -> tuple[list[Example], int]:
    vector_D = system.builder.encoder.encode_queries([query.query])[0]
    recalled = system.index.search(TENANT, vector_D, query.query, Filters(), system.num_candidates)
    candidates, known = system.readable(TENANT, recalled)
    parts = [
        (query.query, known[c.dialogue_id], c.fragment.turn_ids, c.passages) for c in candidates
    ]
    examples = [
        Example(
            asked_of=dialogue.dialogue_id,
            found=found,
            gold=gold_inside(candidate, dialogue, query),
        )
        for candidate, found in zip(candidates, localize_all(system.localizer, parts), strict=True)
    ]
    return examples, len(recalled) - len(candidates)


def gold_inside(candidate: Candidate, dialogue: Dialogue, query: Query) -> Selection:
    """The gold turns and images of a query that lie in a candidate; none in another dialogue."""
    if candidate.dialogue_id != dialogue.dialogue_id:
        return Selection()
    turns = set(candidate.fragment.turn_ids)
    gold = query.relevance
    return Selection(
        utterance_ids=gold.utterance_ids & turns,
        image_ids=frozenset(i for i in gold.image_ids if dialogue.turn_of_image[i] in turns),
    )


def _bins(
    kind: str, found: Sequence[Localization], gold: Sequence[Selection]
) -> list[ReliabilityBin]:
    pairs: list[tuple[float, bool]] = []
    for each, right in zip(found, gold, strict=True):
        if kind == "relevance":
            pairs.append((each.relevance, bool(right)))
        elif kind == "utterance":
            pairs += [(p, i in right.utterance_ids) for i, p in each.utterances.items()]
        else:
            pairs += [(p, i in right.image_ids) for i, p in each.images.items()]
    return reliability([p for p, _ in pairs], [label for _, label in pairs])


def draw(bins: dict[str, dict[str, list[ReliabilityBin]]], path: Path, title: str) -> None:
    """Share that is right against the probability that was given, a panel a kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = [kind for kind in KINDS if bins["raw"][kind]]
    figure, axes = pyplot.subplots(
        1, len(kinds), figsize=(4.2 * len(kinds), 4.2), squeeze=False, sharey=True
    )
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for way, marker in (("raw", "o"), ("calibrated", "s")):
            part = bins[way][kind]
            axis.plot(
                [b.mean_probability for b in part],
                [b.share_correct for b in part],
                marker=marker,
                label=f"{way}, ECE {100 * calibration_error(part):.1f}",
            )
        count = sum(b.count for b in bins["raw"][kind])
        axis.set(title=f"{kind} ({count})", xlabel="probability given", xlim=(0, 1), ylim=(0, 1))
        axis.legend(loc="upper left")
    axes[0][0].set_ylabel("share that is right")
    figure.suptitle(f"Reliability, {title}, held-out dialogues")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def describe(results: dict[str, Any]) -> str:
    """The numbers as a person reads them."""
    counts = results["candidates"]
    lines = [
        f"{results['queries']} queries; fitted on {counts['fitted_on']} candidates, measured on"
        f" {counts['measured_on']} of other dialogues"
    ]
    if counts["left_out"]:
        lines.append(f"  left out, their dialogue was gone: {counts['left_out']} candidates")
    for kind, error in results["expected_calibration_error"].items():
        few = "  (few scores)" if results["scores"][kind] < FEWEST else ""
        lines.append(
            f"  {kind:10} expected calibration error {100 * error['raw']:5.1f} ->"
            f" {100 * error['calibrated']:5.1f}  ({results['scores'][kind]} scores){few}"
        )
    return "\n".join(lines)


def main(
    data: Annotated[list[Path], typer.Option(help="Corpus file with gold labels; repeatable.")],
    out: Annotated[Path, typer.Option(help="Calibration file; plot and report lie beside it.")],
    profile: Annotated[
        str, typer.Option("--profile", "--config", help="Name or path of a profile.")
    ] = "laptop",
    plot: Annotated[Path | None, typer.Option(help="PNG; beside --out when left out.")] = None,
    method: Annotated[str, typer.Option(help="isotonic (hundreds of examples) or platt.")] = (
        "isotonic"
    ),
    max_queries: Annotated[int | None, typer.Option(help="Evenly spaced subset a file.")] = None,
) -> None:
    """Fit and measure the confidences of a profile."""
    try:
        if method not in ("isotonic", "platt"):
            raise InputError(f"--method {method!r} is unknown; use isotonic or platt")
        chosen: Method = "isotonic" if method == "isotonic" else "platt"
        print(describe(calibrate(profile, data, out, plot, chosen, max_queries)))
    except FfrError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
