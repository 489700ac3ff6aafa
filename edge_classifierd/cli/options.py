"""The options that several commands share, and how an expected failure leaves the process."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, ParamSpec

import typer

from edge_classifierd.cli.streams import complain
from edge_classifierd.errors import EdgeClassifierError, ExitCode, UsageError
from edge_classifierd.log import LEVELS, configure

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

DEFAULT_CONFIG = Path("/etc/edge-classifierd/config.yaml")

# Typer's own look at a file says neither why it cannot be read nor what to do, and ends the command for one of many.
file_option: Final = functools.partial(typer.Option, readable=False)
file_argument: Final = functools.partial(typer.Argument, readable=False)

Config = Annotated[Path, file_option("--config", "-c", help="The configuration file.")]
Labels = Annotated[Path | None, file_option(help="A labels file, when the model carries none.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]


def _set_level(level: str) -> str:
    if level not in LEVELS:
        raise typer.BadParameter(f"{level!r} is not one of {', '.join(LEVELS)}")
    configure(level)
    return level


LogLevel = Annotated[
    str,
    typer.Option("--log-level", callback=_set_level, help="What to log on stderr: debug, info, warning or error."),
]


def refuse_impossible_device(device: str | None) -> None:
    """Raises UsageError for what cannot be a device's id; `+` is all devices."""
    if device not in {None, "+"} and not re.fullmatch(r"[a-z0-9_-]{1,64}", str(device)):
        raise UsageError(f"--device {device}: give an id: 1 to 64 of the characters a-z, 0-9, _ and -")


def reporting(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """A command whose expected failures become one sentence on stderr and an exit code; bugs keep their traceback."""

    @functools.wraps(command)
    def reported(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except EdgeClassifierError as error:
            complain(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        raise typer.Exit(int(code or ExitCode.OK))

    return reported
