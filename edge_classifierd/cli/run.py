"""`run`: the daemon."""

from __future__ import annotations

import gc
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
        bool, typer.Option("--forget-commands", help="Forget values set by command over MQTT; use the configured ones.")
    ] = False,
    log_level: LogLevel = "info",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Run the daemon: capture, classify and publish until stopped.

    SIGTERM and Ctrl-C stop it (exit code 0). A wrong configuration ends it at once (exit code 2). A pipeline that
    cannot start is tried again until it works; the others run. The daemon ends by itself when all sources have ended
    (a folder without `loop`).

    Example: edge-classifierd run --config config.yaml
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until the service installs its own handlers
    from edge_classifierd.daemon.process import tune_allocator

    tune_allocator()
    from edge_classifierd.daemon.service import Service

    code = Service(config, forget_commands=forget_commands).run()
    gc.freeze()  # everything is closed; the interpreter's last search for cycles would take half a second
    return code


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(ExitCode.OK)
