"""What the commands of `ffrs` share: options, and errors as one sentence."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

Home = Annotated[
    Path | None,
    typer.Option(help="Data folder.", envvar="FFRS_HOME", show_default="~/.ffrs"),
]
ProfileName = Annotated[
    str, typer.Option("--profile", "--config", help="Name or path of a profile.")
]
Tenant = Annotated[str, typer.Option(help="Owner of the dialogues.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

F = TypeVar("F", bound=Callable[..., Any])


def clear_errors(command: F) -> F:
    """Print our own errors as one sentence and exit with code 2; let defects show a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from ffr_core.errors import FfrError

        try:
            return command(*args, **kwargs)
        except FfrError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error

    return wrapped  # type: ignore[return-value]
