"""Output files of a command, checked before the work starts, and the name of the program in messages."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.cli.streams import complain, show
from edge_classifierd.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def write_output(what: str, path: Path, write: Callable[[], None]) -> ExitCode:
    """Write a file and print its path. A failure is printed and returned as exit code, and other results are kept."""
    try:
        write()
    except UsageError as error:
        complain(str(error))
        return ExitCode.FAILED
    show(f"{what}: {path}", err=True)
    return ExitCode.OK


def refuse_unwritable(option: str, path: Path | None, *, replaced: bool = False) -> None:
    """Raise UsageError when `path` cannot be written. With `replaced` a device or a pipe is refused too."""
    if path is None:
        return
    try:
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            wrong = "its name is not UTF-8; choose another name"
        elif path.is_dir():
            wrong = "is a folder; give a file"
        elif not path.parent.is_dir():
            wrong = f"there is no folder {path.parent}; create it or give another"
        elif replaced and path.exists() and not path.is_file():
            wrong = "is not a regular file; give another"
        elif not os.access(path if path.exists() and not replaced else path.parent, os.W_OK):
            wrong = "cannot be written by this account; choose another place"
        else:
            return
    except OSError as error:
        wrong = f"cannot be reached ({error.strerror}); choose another place"
    raise UsageError(f"{option} {path}: {wrong}")


def program() -> str:
    """Return the command that starts this program. With `python -m`, `sys.argv[0]` cannot be executed."""
    if shutil.which("edge-classifierd"):
        return "edge-classifierd"
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m edge_classifierd"
    return shlex.quote(sys.argv[0])
