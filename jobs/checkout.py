"""Which code runs: the commit of the checkout that holds it, for results to name."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit(digits: int = 40) -> str:
    """The commit, with `+` behind it when tracked files differ; `unknown` outside a checkout.

    Args:
        digits: Of its hash; more where fewer would be ambiguous.
    """
    command = ["git", "describe", "--always", f"--abbrev={digits}", "--dirty=+", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
