"""`replay`: prints the events that a recording would have made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.options import DEFAULT_CONFIG, Config, Json, LogLevel, file_argument, file_option, reporting
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, UsageError, counted

if TYPE_CHECKING:
    from edge_classifierd.replay.replay import Candidate, ReplayedEvent, Summary


@reporting
def command(
    recording: Annotated[
        Path | None,
        file_argument(metavar="RECORDING", help="A folder of pictures or a video; default: the configured source."),
    ] = None,
    *,
    config: Config = DEFAULT_CONFIG,
    other: Annotated[Path | None, file_option("--other", help="A second configuration, side by side.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline; default: all.")] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, max=1000, help="Pictures a second of a folder (default 5), or taken of a video (all)."),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright", help="The pictures are already turned and cropped, as kept pictures are.")
    ] = False,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Print the events that a recording would have made.

    Much faster than the recording took. Nothing is published or stored. With --json one event per line, with the
    additional fields config, at_s and frame.

    Example: edge-classifierd replay recorded/ --config config.yaml --other stricter.yaml
    """
    from edge_classifierd.replay.recording import Recording
    from edge_classifierd.replay.replay import Summary, replay

    chosen = config
    if recording is not None and recording.suffix in {".yaml", ".yml"} and config == DEFAULT_CONFIG:
        chosen, recording = recording, None
    if other is not None and other == chosen:
        raise UsageError(f"--other {other}: is the same configuration; give a second one to compare with")
    files = [chosen] if other is None else [chosen, other]
    candidates = [candidate for file in files for candidate in _candidates(file, pipeline)]
    played = None if recording is None else Recording(recording, fps)
    summary = Summary()
    counts = dict.fromkeys(map(str, files), 0)
    events: list[ReplayedEvent] = []
    for event in replay(candidates, played, fps=fps, upright=upright, summary=summary):
        counts[event.config] += 1
        if json:
            print_json(event.document())
        elif other is None:
            show(f"{_when(event.at_s)}  {event.frame}  {event.draft}")
        else:
            events.append(event)
        sys.stdout.flush()
    if events:
        _print_side_by_side(events, [str(file) for file in files])
    _report(summary, counts)
    return ExitCode.OK if summary.frames else ExitCode.FAILED


def _candidates(file: Path, pipeline: str | None) -> list[Candidate]:
    from edge_classifierd.pipeline.planning.validation import prepare
    from edge_classifierd.replay.replay import Candidate

    document, plans = prepare(file)
    device = document.configuration.device.id
    found = [Candidate(str(file), device, plan) for plan in plans if pipeline in {None, plan.section.name}]
    if not found:
        names = ", ".join(plan.section.name for plan in plans)
        raise UsageError(f"{file}: has no pipeline {pipeline}; it has {names}")
    return found


def _when(at_s: float) -> str:
    minutes, seconds = divmod(at_s, 60)
    return f"{int(minutes):3d}:{seconds:05.2f}"


def _print_side_by_side(events: list[ReplayedEvent], configs: list[str]) -> None:
    from rich.table import Table

    from edge_classifierd.cli.tables import print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("time", "picture", *configs):
        table.add_column(column)
    rows: dict[tuple[float, str], dict[str, list[str]]] = {}
    for event in sorted(events, key=lambda event: event.at_s):
        cells = rows.setdefault((event.at_s, event.frame), {})
        cells.setdefault(event.config, []).append(str(event.draft))
    for (at_s, frame), cells in rows.items():
        table.add_row(_when(at_s), frame, *("\n".join(cells.get(config, [])) for config in configs))
    print_table(table)


def _report(summary: Summary, counts: dict[str, int]) -> None:
    for sentence in summary.damaged:
        show(f"skipped: {sentence}", err=True)
    if summary.failed:
        show(f"{counted(summary.failed, 'picture')} could not be classified", err=True)
    events = ", ".join(f"{config}: {counted(count, 'event')}" for config, count in counts.items())
    if summary.gated:
        show(f"the motion gate would have left out {summary.gated} of {counted(summary.frames, 'picture')}", err=True)
    show(
        f"{events}; {counted(summary.frames, 'picture')}, {summary.recorded_s:.0f} s recorded, "
        f"replayed in {summary.took_s:.1f} s ({summary.speed:.0f} times faster)",
        err=True,
    )
