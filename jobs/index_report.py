"""The report of an index run: counts, dead letters, progress, and whether too much was left out."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffr_core.operations.config import LogConfig
from ffr_core.operations.logs import tell
from jobs.reading import Source

SKIPPED = frozenset({"deleted", "duplicate_id"})
"""Reasons of letters that are no errors: a person deleted it, or another record replaced it."""


def collect(
    rows: Iterator[dict[str, Any]],
    sources: list[Source],
    report: Path,
    started: float,
    dry_run: bool,
    logs: LogConfig,
) -> dict[str, Any]:
    """Count finished rows, write dead letters as they come, print progress."""
    total = max(1, sum(source.size for source in sources))
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    printed = started
    first_row, first_share = started, 0.0
    with (report / "dead_letter.jsonl").open("w", encoding="utf-8") as letters:
        for row in rows:
            counts["read"] += 1
            counts["consumed"] += int(row["consumed"])
            counts[row["status"] or "to_index"] += 1
            counts["tokens"] += int(row["tokens"])
            if row["status"] == "dead":  # also at the last stage, then with fragments
                reasons[row["reason"]] += 1
            else:
                for name in ("fragments", "passages", "turns"):
                    counts[name] += int(row[name])
            for letter in _letters(row):
                counts["bad_images"] += "image_id" in letter
                letters.write(json.dumps(letter, ensure_ascii=False) + "\n")
            now, share = time.monotonic(), min(1.0, counts["consumed"] / total)
            if counts["read"] == 1:
                first_row, first_share = now, share
            if now - printed > 5:
                printed = now
                left = seconds_left(share - first_share, 1 - share, now - first_row)
                _tell_progress(logs, counts, share, now - started, left)
    seconds = time.monotonic() - started
    return {
        "read": counts["read"],
        **({"to_index": counts["to_index"]} if dry_run else {}),
        "indexed": counts["indexed"],
        "updated": counts["updated"],
        "unchanged": counts["unchanged"],
        "skipped": {r: n for r, n in sorted(reasons.items()) if r in SKIPPED},
        "dead_lettered": {r: n for r, n in sorted(reasons.items()) if r not in SKIPPED},
        "bad_images": counts["bad_images"],
        "fragments": counts["fragments"],
        "passages": counts["passages"],
        "turns": counts["turns"],
        "tokens": counts["tokens"],
        "tokens_per_second": round(counts["tokens"] / seconds, 1),
        "seconds": round(seconds, 2),
        "dead_letter_file": str(report / "dead_letter.jsonl"),
    }


def _letters(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Dead letters of a row: the record, or images that were left out of it. No message text."""
    place = {
        "source": row["source"],
        "position": int(row["position"]),
        "dialogue_id": row["dialogue_id"],
        "sha256": row["sha256"],
    }
    if row["status"] == "dead":
        yield {**place, "reason": row["reason"], "message": row["message"]}
    for image_id, message in json.loads(row["bad_images"] or "{}").items():
        yield {**place, "reason": "bad_image", "image_id": int(image_id), "message": message}


def seconds_left(done: float, to_do: float, seconds: float) -> float | None:
    """The time that the rest will take at the pace so far; None before there is a pace.

    Args:
        done: Share of the input that was consumed after the first row, which waits for the start
            of all workers.
        to_do: Share that is left.
        seconds: Since the first row.
    """
    return seconds * to_do / done if done > 0 else None


def _tell_progress(
    logs: LogConfig, counts: Counter[str], share: float, seconds: float, left: float | None
) -> None:
    text = (
        f"{share:6.1%}  {counts['read']} dialogues  {counts['read'] / seconds:.1f} dialogues/s"
        f"  {counts['fragments'] / seconds:.1f} fragments/s"
        f"  {counts['turns'] / seconds:.0f} turns/s  {counts['tokens'] / seconds:.0f} tokens/s"
    )
    if left is not None:
        text += f"  ETA {math.ceil(left)} s"
    tell(logs, "index", text, {"share": round(share, 4), "seconds": round(seconds, 1), **counts})


def describe(summary: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    dead, skipped = summary["dead_lettered"], summary["skipped"]
    lines = [
        f"read {summary['read']} dialogues in {summary['seconds']:.1f} s: "
        f"{summary['indexed']} new, {summary['updated']} updated,"
        f" {summary['unchanged']} unchanged, {sum(skipped.values())} skipped,"
        f" {sum(dead.values())} left out",
        f"wrote {summary['fragments']} fragments, {summary['passages']} passages,"
        f" {summary['turns']} turns; the encoder read {summary['tokens']} tokens,"
        f" {summary['tokens_per_second']:.0f} tokens/s",
    ]
    lines += [f"  skipped, {reason}: {n}" for reason, n in skipped.items()]
    lines += [f"  left out, {reason}: {n}" for reason, n in dead.items()]
    if "estimate" in summary:
        estimate = summary["estimate"]
        lines[1] = (
            f"dry run: {summary['to_index']} dialogues with {summary['turns']} turns to index,"
            f" about {estimate['seconds']:.0f} s"
        )
    if summary["bad_images"]:
        lines.append(f"  images that cannot be read (dialogue kept): {summary['bad_images']}")
    if dead or skipped or summary["bad_images"]:
        lines.append(f"  reasons and positions: {summary['dead_letter_file']}")
    return "\n".join(lines)


def exceeds(summary: dict[str, Any], max_dead_share: float) -> bool:
    """Whether too many of the records that were not skipped went to the dead letter."""
    meant = summary["read"] - sum(summary["skipped"].values())
    return sum(summary["dead_lettered"].values()) > max_dead_share * max(1, meant)
