"""The options that several commands share, and the conversion of expected failures to exit codes."""

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

# Typer's own check of a file gives neither the reason nor a remedy, and one bad file of many would end the command.
file_option: Final = functools.partial(typer.Option, readable=False)
file_argument: Final = functools.partial(typer.Argument, readable=False)

Config = Annotated[Path, file_option("--config", "-c", help="The configuration file.")]
Labels = Annotated[Path | None, file_option(help="A label file, if the model contains no labels.")]
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
    """Raise UsageError when `device` is not a valid id; `+` means all devices."""
    if device not in {None, "+"} and not re.fullmatch(r"[a-z0-9_-]{1,64}", str(device)):
        raise UsageError(f"--device {device}: give an id: 1 to 64 of the characters a-z, 0-9, _ and -")


def reporting(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """Decorate a command: an expected failure becomes one sentence on stderr and an exit code; a bug its traceback."""

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
