"""The options that several commands share, and how an expected failure leaves the process."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from edge_classifierd.errors import EdgeClassifierError, ExitCode
from edge_classifierd.log import LEVELS, configure

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

DEFAULT_CONFIG = Path("/etc/edge-classifierd/config.yaml")

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
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


def reporting(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """A command whose expected failures become one sentence on stderr and an exit code; bugs keep their traceback."""

    @functools.wraps(command)
    def reported(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except EdgeClassifierError as error:
            typer.echo(str(error), err=True)
            code = error.exit_code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            # The reader (`head`) has left; Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FAILED
        raise typer.Exit(int(code or ExitCode.OK))

    return reported
