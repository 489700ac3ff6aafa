"""What commands write, and what they say to do next; an impossible output file is refused before the work."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_classifierd.cli.streams import complain
from edge_classifierd.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def written(what: str, path: Path, write: Callable[[], None]) -> ExitCode:
    """Write it and say so; what cannot be written after all costs no other result, only the exit code."""
    try:
        write()
    except UsageError as error:
        complain(str(error))
        return ExitCode.FAILED
    typer.echo(f"{what}: {path}", err=True)
    return ExitCode.OK


def refuse_unwritable(option: str, path: Path | None, *, replaced: bool = False) -> None:
    """Raises UsageError for a folder, a missing folder or a forbidden place; `replaced`: for a device or a pipe too."""
    if path is None:
        return
    try:
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            wrong = "its name is not UTF-8; name it otherwise"
        elif path.is_dir():
            wrong = "is a folder; name a file"
        elif not path.parent.is_dir():
            wrong = f"there is no folder {path.parent}; create it or name another"
        elif replaced and path.exists() and not path.is_file():
            wrong = "is not a regular file; name another"
        elif not os.access(path if path.exists() and not replaced else path.parent, os.W_OK):
            wrong = "cannot be written by this account; name another place"
        else:
            return
    except OSError as error:
        wrong = f"cannot be reached ({error.strerror}); name another place"
    raise UsageError(f"{option} {path}: {wrong}")


def program() -> str:
    """Return what to type for this program; `python -m` leaves a file as `sys.argv[0]` that cannot be run."""
    if shutil.which("edge-classifierd"):
        return "edge-classifierd"
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m edge_classifierd"
    return shlex.quote(sys.argv[0])
