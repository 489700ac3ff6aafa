"""The options that several commands share, and the conversion of expected failures to exit codes."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, ParamSpec

import typer

from edge_classifierd.cli.streams import complain
from edge_classifierd.errors import EdgeClassifierError, ExitCode, UsageError
from edge_classifierd.log import LEVELS, configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.model.bundle import BundledName
    from edge_classifierd.model.options import ModelOptions

P = ParamSpec("P")

DEFAULT_CONFIG = Path("/etc/edge-classifierd/config.yaml")

# Typer's own check of a file gives neither the reason nor a remedy, and one bad file of many would end the command.
file_option: Final = functools.partial(typer.Option, readable=False)
file_argument: Final = functools.partial(typer.Argument, readable=False)

Config = Annotated[Path, file_option("--config", "-c", help="The configuration file.")]
Labels = Annotated[Path | None, file_option(help="A label file, if the model contains no labels.")]
Bundled = Annotated[
    Literal["fast", "accurate"] | None, typer.Option("--bundled", help="A bundled model, in place of a file.")
]
BundledList = Annotated[  # typer has no lists of a Literal
    list[str] | None,
    typer.Option("--bundled", metavar="<fast|accurate>", help="A bundled model; again for both side by side."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]


Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="N[,N,N]", help="What is subtracted from a pixel of 0 to 255, such as 127.5."),
]
Std = Annotated[
    str | None, typer.Option("--std", metavar="N[,N,N]", help="What a pixel is then divided by, such as 127.5.")
]
Channels = Annotated[
    Literal["rgb", "bgr"] | None, typer.Option("--channels", help="The order of the model's colour channels.")
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="HEIGHT,WIDTH", help="For a model whose input has no fixed size."),
]
Output = Annotated[
    str | None, typer.Option("--output", metavar="NUMBER|NAME", help="Which output has the scores, of several.")
]


def model_path(option: str, path: Path | None, bundled: BundledName | None) -> Path:
    """Return the file that an option and --bundled choose; by default the fast bundled model. Raises UsageError."""
    from edge_classifierd.model.bundle import bundled_model_path

    if path is not None and bundled is not None:
        raise UsageError(f"--bundled {bundled}: leave out {option} {path}, or --bundled")
    return path or bundled_model_path(bundled or "fast")


def model_paths(paths: list[Path] | None, bundled: list[str] | None) -> list[Path]:
    """Return the files and bundled models to compare; by default the fast bundled model. Raises UsageError."""
    from edge_classifierd.model.bundle import BUNDLED_MODELS, bundled_model_path

    for name in bundled or []:
        if name not in BUNDLED_MODELS:
            raise UsageError(f"--bundled {name}: give {' or '.join(BUNDLED_MODELS)}")
    named = [bundled_model_path(name) for name in BUNDLED_MODELS if name in (bundled or [])]
    return [*(paths or []), *named] or [bundled_model_path()]


def model_options(
    mean: str | None,
    std: str | None,
    channels: Literal["rgb", "bgr"] | None,
    size: str | None = None,
    output: str | None = None,
) -> ModelOptions:
    """Return the options of a model. Raises UsageError."""
    from edge_classifierd.model.options import ModelOptions

    sides = None if size is None else _numbers("--size", size, (1, 2), minimum=1)
    return ModelOptions(
        mean=None if mean is None else _numbers("--mean", mean, (1, 3)),
        std=None if std is None else _numbers("--std", std, (1, 3), minimum=1e-6),
        channels=channels,
        size=None if sides is None else (int(sides[0]), int(sides[-1])),
        output=int(output) if output is not None and output.isdecimal() else output,
    )


def _numbers(option: str, text: str, counts: tuple[int, ...], minimum: float = -math.inf) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in counts or not all(math.isfinite(value) and value >= minimum for value in values):
        wanted, example = ("two", "224,224") if 2 in counts else ("three", "123.7,116.8,103.9")
        above = "" if minimum == -math.inf else " above 0"
        raise UsageError(f"{option} {text}: give one number{above}, or {wanted} with commas between, such as {example}")
    return values


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
