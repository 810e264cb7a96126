"""What the commands of `ffrs` share: options, an index that exists, errors as one sentence."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from ffr_core.pipeline import System


def read_home(text: str) -> Path | None:
    """The data folder; an empty text is none, as if it were left out, and not this folder."""
    return Path(text) if text else None


def read_time(text: str) -> datetime:
    """An ISO 8601 time; that of this machine's zone where it names no offset.

    Raises:
        BadParameter: Anything else.
    """
    try:
        if text[10:11] not in ("", " ", "T"):  # Python takes any sign here, also that of an offset
            raise ValueError(text)
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2025-03-02, 2025-03-02T18:04 or 2025-03-02T18:04+01:00"
        ) from error


Home = Annotated[
    Path | None,
    typer.Option(
        help="Data folder.",
        envvar="FFRS_HOME",
        show_default="~/.ffrs",
        parser=read_home,
        metavar="<path>",
    ),
]
ProfileName = Annotated[
    str, typer.Option("--profile", "--config", help="Name or path of a profile.")
]
Tenant = Annotated[str, typer.Option(help="Owner of the dialogues.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

F = TypeVar("F", bound=Callable[..., Any])


def open_existing(profile: str, home: Path | None) -> System:
    """Open the index of a profile to ask it.

    Raises:
        NotFoundError: There is none; nothing is created.
    """
    from ffr_core.parts import build_system
    from ffr_core.profile import load_profile, require_index

    loaded = load_profile(profile, home)
    require_index(loaded, home)
    return build_system(loaded)


def check_writable(path: Path) -> None:
    """Make the folder of a file and try to write there, before the work whose result it will hold.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    with path.open("a"):
        pass
    if not existed:
        path.unlink()


def clear_errors(command: F) -> F:
    """Print our own errors, and those of files, as one sentence and exit with code 2.

    Defects show a traceback. A closed pipe is no error: typer ends quietly then.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from ffr_core.errors import FfrError

        try:
            return command(*args, **kwargs)
        except FfrError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            print(f"error: {file_sentence(error)}", file=sys.stderr)
            raise typer.Exit(2) from error

    return wrapped  # type: ignore[return-value]


def file_sentence(error: OSError) -> str:
    """What the system said about a path, and what to do."""
    if error.filename is None:
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} cannot be a folder ({error.strerror}); give another path"
    return f"{error.filename} cannot be used ({error.strerror}); check the path and its permissions"
