"""`doctor`: checks everything that the daemon needs and prints the remedy for each failure."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, reporting
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, UsageError, counted, printable

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.doctor.check_result import CheckResult

_COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED}
_INDENT = 9


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    suggest: Annotated[bool, typer.Option("--suggest", help="Print a configuration for what is found here.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print what works and what does not, and the command to run next.")
    ] = False,
    json: Json = False,
    log_level: LogLevel = "error",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Test cameras, Edge TPU, models, broker, disk, clock and supply.

    Prints one line for each, with the remedy. It does not disturb a running daemon. Exit code 0 when nothing failed,
    1 when something did, 3 when hardware or a runtime is missing. With --json one document: ok, findings (name,
    verdict, sentence, remedy).

    Example: edge-classifierd doctor --config config.yaml
    """
    if suggest and (json or summary):
        raise UsageError("--suggest prints YAML, to be saved as a configuration; leave out --json and --summary")
    if summary and json:
        raise UsageError("--summary prints text for people; leave out --json")
    if suggest:
        _suggest()
        return ExitCode.OK
    from edge_classifierd.clock import SystemClock
    from edge_classifierd.doctor.check_result import exit_code
    from edge_classifierd.doctor.examination import examine

    results = []
    for result in examine(config, SystemClock(), optional=config == DEFAULT_CONFIG):
        results.append(result)
        if not (json or summary):
            _print(result)
    code = exit_code(results)
    if json:
        document = {"ok": code is ExitCode.OK, "findings": [asdict(result) for result in results]}
        print_json(document)
    elif summary:
        _print_summary(results, config)
    else:
        failed = sum(result.verdict == "failed" for result in results)
        warnings = sum(result.verdict == "warning" for result in results)
        show(f"{counted(len(results), 'check')}: {failed} failed, {counted(warnings, 'warning')}")
    return code


def _print(result: CheckResult) -> None:
    from edge_classifierd.doctor.summary import wrapped

    line = printable(str(result))
    if sys.stdout.isatty():
        line = "\n".join(wrapped(line, shutil.get_terminal_size().columns, indent=_INDENT))
    colour = _COLOURS.get(result.verdict)
    if colour and not os.environ.get("NO_COLOR"):  # https://no-color.org; click checks only for a terminal
        line = line.replace(result.verdict, typer.style(result.verdict, fg=colour), 1)
    typer.echo(line)  # escaped above, before the colour
    sys.stdout.flush()


def _print_summary(results: list[CheckResult], config: Path) -> None:
    from edge_classifierd.doctor.summary import next_command, summary_lines

    for line in summary_lines(results, shutil.get_terminal_size().columns):
        show(line)
    show(f"\nNext: {next_command(results, config, default=config == DEFAULT_CONFIG)}")


def _suggest() -> None:
    """Print the configuration, and on stderr what was found and what was not."""
    from edge_classifierd.doctor.find_cameras import find_cameras
    from edge_classifierd.doctor.suggested_configuration import find_broker, found_lines, suggest
    from edge_classifierd.inference.edgetpu.devices import list_tpus

    found = find_cameras(), list_tpus(), find_broker()
    show(suggest(*found), nl=False)
    for line in found_lines(*found):
        show(line, err=True)
