"""The command line: registers the commands. Each command imports heavy modules inside its function."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from typing import Annotated, NoReturn

import typer

from edge_classifierd import __version__
from edge_classifierd.cli import (
    bench,
    check,
    classify,
    demo,
    discovery,
    doctor,
    evaluate,
    events,
    replay,
    run,
    streams,
    train,
    web,
)
from edge_classifierd.cli.models import commands as models
from edge_classifierd.cli.streams import show
from edge_classifierd.cli.subscribers import fleet, listen
from edge_classifierd.cli.teach import commands as teach
from edge_classifierd.errors import ExitCode

app = typer.Typer(
    name="edge-classifierd",
    help="Point a Raspberry Pi at something, name what matters, and get MQTT events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        show(f"edge-classifierd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of all commands. Options of a command follow the command."""


app.command("run")(run.command)
app.command("check")(check.command)
app.command("doctor")(doctor.command)
app.command("classify")(classify.command)
app.command("listen")(listen.command)
app.command("fleet")(fleet.command)
app.command("events")(events.command)
app.command("demo")(demo.command)
app.command("bench")(bench.command)
app.command("replay")(replay.command)
app.command("eval")(evaluate.command)
app.command("train")(train.command)
app.add_typer(models.app, name="models", no_args_is_help=True)
app.add_typer(teach.app, name="teach", no_args_is_help=True)
app.add_typer(discovery.app, name="discovery")
app.add_typer(web.app, name="web", no_args_is_help=True)


def main() -> None:
    """Run the command line and exit with its code.

    A stdout that cannot be written gives one sentence and exit code 1; such a stderr does not change the exit code.
    """
    streams.prepare()
    interruptible = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code: int | str | None = ExitCode.FAILED
    try:
        app()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except (SystemExit, OSError) as error:
        refused = _usage_error_code(error)
        if refused is not None:
            code = refused
            streams.silence()
        elif isinstance(error, SystemExit):
            code = error.code
        elif streams.failure() is None:
            raise
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while the interpreter ends
    lost = streams.failure()
    if lost is not None:
        code = code or ExitCode.FAILED
        if lost.errno != errno.EPIPE:  # EPIPE: the reader (`head`) has ended on purpose
            streams.complain(f"standard output: {lost.strerror}; the result could not be written, run it again")
    leave(code)


def leave(code: int | str | None) -> NoReturn:
    """End the process with that code, at once if a thread is still inside a library.

    FFmpeg may hold a camera's thread until its deadline. If the exit handlers of C libraries run meanwhile, the process
    sometimes ends with SIGSEGV.
    """
    if isinstance(code, str) or not any(thread.daemon for thread in threading.enumerate()):
        raise SystemExit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code or 0)


def _usage_error_code(error: BaseException) -> int | None:
    """Return the exit code of a usage error of click that could not be written to stderr, else None.

    rich turns a closed pipe into SystemExit(1). The usage error is recognised by its `exit_code`, because typer may
    contain its own copy of click.
    """
    unwritable = False
    context: BaseException | None = error
    while context is not None:
        code = getattr(context, "exit_code", None)
        if unwritable and isinstance(code, int):
            return code
        unwritable = unwritable or isinstance(context, OSError)
        context = context.__context__
    return None
