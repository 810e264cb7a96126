"""Overlapping windows over what is too long to be read at once.

Source: App. C.1, as stated: windows of 35 turns, overlap 15.
"""

from __future__ import annotations

from ffr_core.errors import ConfigError

WINDOW_TURNS = 35
WINDOW_OVERLAP = 15


def check_windows(size: int, overlap: int) -> None:
    """Raise ConfigError unless 0 <= overlap < size."""
    if not 0 <= overlap < size:
        raise ConfigError(
            f"windows of {size} turns with overlap {overlap}: expected 0 <= overlap < size"
        )


def windows(num_turns: int, size: int = WINDOW_TURNS, overlap: int = WINDOW_OVERLAP) -> list[range]:
    """Positions of each window; neighbors share `overlap` turns, the last one ends at the end.

    Example:
        `windows(60)` is [0, 35), [20, 55), [40, 60).
    """
    check_windows(size, overlap)
    if num_turns <= size:
        return [range(num_turns)] if num_turns else []
    starts = range(0, num_turns - overlap, size - overlap)
    return [range(start, min(start + size, num_turns)) for start in starts]
