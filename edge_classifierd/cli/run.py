"""`run`: the daemon."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, LogLevel, reporting
from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    forget_commands: Annotated[
        bool, typer.Option("--forget-commands", help="Drop what was commanded over MQTT; back to the configuration.")
    ] = False,
    log_level: LogLevel = "info",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Run the daemon: capture, classify and publish until stopped.

    SIGTERM and Ctrl-C end it orderly (exit code 0). A configuration that is wrong ends it at once (exit code 2).
    A pipeline that cannot start is tried again until it works; the others run.
    It ends by itself when every source has come to its end (a folder without `loop`).

    Example: edge-classifierd run --config config.yaml
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until the service has handlers of its own
    from edge_classifierd.daemon.process import tune_allocator

    tune_allocator()
    from edge_classifierd.daemon.service import Service

    return Service(config, forget_commands=forget_commands).run()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(ExitCode.OK)
