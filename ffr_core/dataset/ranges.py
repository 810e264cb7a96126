"""Ranges of settings, for rules that check themselves when they are made."""

from __future__ import annotations

import math

from ffr_core.errors import ConfigError


def check_ranges(rules: object, **ranges: tuple[float, float]) -> None:
    """Refuse settings outside their closed range, all at once.

    Args:
        rules: Holds the settings as attributes.
        ranges: Setting -> (lowest, highest); `math.inf` where there is no highest.

    Raises:
        ConfigError: Names every setting that is out of range (or no number at all).

    Example:
        `check_ranges(rules, sft_share=(0, 1), num_matches=(1, math.inf))`.
    """
    wrong: list[str] = []
    for name, (low, high) in ranges.items():
        value = getattr(rules, name)
        if not low <= value <= high:
            expected = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
            wrong.append(f"{name} is {value!r}, expected {expected}")
    if wrong:
        raise ConfigError(f"{'; '.join(wrong)}; correct the configuration")
