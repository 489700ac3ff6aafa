"""`events`: prints the last events from the device's own database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, file_option, reporting
from edge_classifierd.cli.streams import can_show, complain, show
from edge_classifierd.cli.subscribers.listen import event_line
from edge_classifierd.errors import ExitCode, UsageError, shortened

if TYPE_CHECKING:
    from edge_classifierd.events.history import PastEvent

_COLUMNS: Final = 80
_WAITING: Final = "  (waiting)"


@reporting
def command(
    config: Config = DEFAULT_CONFIG,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Print at most N events, the newest.")] = 20,
    pipeline: Annotated[str | None, typer.Option(help="Only events of this pipeline.")] = None,
    watch: Annotated[str | None, typer.Option(help="Only events of this watch.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="AGE|TIME", help="Only later ones: 2h, 3d, or 2026-11-29T06:00.")
    ] = None,
    database: Annotated[Path | None, file_option(help="The outbox to read; no configuration is read.")] = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Print the last events from the device's database.

    Oldest first. The daemon may run meanwhile; nothing is changed. Delivered events stay there as configured with
    outbox.keep_sent. With --json one event per line, as subscribers receive it.

    Example: sudo edge-classifierd events --since 2h --watch dog
    """
    from edge_classifierd.config.loading.load import load
    from edge_classifierd.events.history import EventFilter, read_events

    wanted = EventFilter(pipeline, watch, None if since is None else _moment(since, datetime.now(UTC)))
    path = database or load(config).configuration.outbox.path
    found = read_events(path, wanted, limit=limit)
    for past in reversed(found):
        show(_json_line(past) if json else _line(past))
    if not found:
        filtered = any(option is not None for option in (pipeline, watch, since))
        complain(f"{path}: {'no such events' if filtered else 'no events yet'}")
    return ExitCode.OK


def _line(past: PastEvent) -> str:
    mark = _WAITING if past.waiting else ""
    try:
        line = event_line(past.event, past.event.pipeline, "%Y-%m-%d %H:%M:%S")
    except (ArithmeticError, ValueError, OSError):  # a time that the calendar here does not have
        line = f"{past.event.time.isoformat()}  {past.event.watch} {past.event.type.value}"
    return shortened(line, _COLUMNS - len(mark)) + mark


def _json_line(past: PastEvent) -> str:
    import json

    text = past.payload.decode("utf-8", "replace")
    return text if can_show(text) and len(text.splitlines()) == 1 else json.dumps(json.loads(past.payload))


def _moment(text: str, now: datetime) -> datetime:
    """Return the moment that --since names. Raises UsageError."""
    from pydantic_core import PydanticCustomError

    from edge_classifierd.config.sections.durations import parse_duration

    try:
        return now - timedelta(seconds=parse_duration(text))
    except PydanticCustomError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone()  # without a zone: local time
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"--since {shortened(text)}: give an age such as 2h or 3d, or a time such as 2026-11-29 or 2026-11-29T06:00"
        ) from error
