"""`bench`: the latency of models on this machine, by stage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_classifierd.cli.options import (
    BundledList,
    Channels,
    Json,
    LogLevel,
    Mean,
    Output,
    Size,
    Std,
    file_argument,
    file_option,
    model_options,
    model_paths,
    reporting,
)
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, counted

if TYPE_CHECKING:
    from edge_classifierd.benchmark import Measurement


@reporting
def command(
    models: Annotated[
        list[Path] | None, file_argument(metavar="MODEL", help=".tflite files; default: the bundled model.")
    ] = None,
    *,
    bundled: BundledList = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads to compare: 1,2,4.")] = "1,2",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long for each line.")] = 3.0,
    fps: Annotated[float, typer.Option(min=0.1, max=1000, help="The frame rate to compare with.")] = 30.0,
    labels: Annotated[Path | None, file_option(help="A labels file, when the models carry none.")] = None,
    device: Annotated[
        str, typer.Option(help="What computes: auto, cpu, edgetpu, or one Edge TPU such as usb:0 or pci:0.")
    ] = "auto",
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Measure how fast models run here, and which keep up.

    Prints percentiles of the inference and of each stage, memory and steadiness. For figures that can be compared end
    other work first, the daemon too. Exit code 0 also when none keeps up.

    Example: edge-classifierd bench mobilenet_v2_1.0_224_quant.tflite --threads 1,2,4
    """
    from edge_classifierd.benchmark import measure
    from edge_classifierd.model.bundle import load_bundle

    counts = _counts(threads)
    options = model_options(mean, std, channels, size, output)
    # All of them first: a wrong file is reported before any waiting.
    bundles = [load_bundle(path, labels, options=options) for path in model_paths(models, bundled)]
    measured = []
    for bundle in bundles:
        for count in counts:
            show(f"measuring {_named(bundle.name, count)} …", err=True)
            measured.append(measure(bundle.path, labels, count, seconds=seconds, device=device, options=options))
    if json:
        print_json({"fps": fps, "results": [_document(one, fps) for one in measured]})
    else:
        _print(measured, fps)
    return ExitCode.OK


def _counts(text: str) -> list[int]:
    from edge_classifierd.errors import UsageError

    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or not all(1 <= count <= 64 for count in counts):
        raise UsageError(f"--threads {text}: give numbers from 1 to 64 with commas between, such as 1,2,4")
    return counts


def _named(model: str, threads: int) -> str:
    return f"{model} with {counted(threads, 'thread')}"


def _document(one: Measurement, fps: float) -> dict[str, Any]:
    return {**asdict(one), "steady": one.steady, "meets": one.meets(fps), "verdict": one.verdict(fps)}


def _print(measured: list[Measurement], fps: float) -> None:
    from rich.table import Table

    from edge_classifierd.cli.tables import print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    parts = ("prepare", "scores", "decide")
    for column in ("threads", "inference p50", "p95", "p99", "bare", *parts, "frame p50", "p95", "gate", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in measured:
        stages = one.stages
        table.add_row(
            one.model,
            str(one.threads),
            *(f"{value:.2f}" for value in (one.inference.p50, one.inference.p95, one.inference.p99)),
            "" if one.bare_ms is None else f"{one.bare_ms:.2f}",
            *(f"{stage.p50:.2f}" for stage in (stages.prepare, stages.scores, stages.decide)),
            f"{stages.whole.p50:.2f}",
            f"{stages.whole.p95:.2f}",
            f"{stages.gate.p50:.2f}",
            f"{one.memory_mb:.0f}",
        )
    print_table(table)
    first = measured[0]
    show(f"\nMilliseconds; {first.runtime}. Frames of 640x480, one after the other; the daemon works on")
    show("two at a time and more. `bare` is the runtime's invoke alone, `gate` the motion gate's look, which is")
    show("all that a frame costs while nothing moves.\n")
    for one in measured:
        show(one.verdict(fps))
        if one.heat is not None:
            show(f"  {one.heat}")
    fit = [one for one in measured if one.meets(fps)]
    if len(measured) > 1:
        best = min(fit, key=lambda one: one.stages.whole.p95, default=None)
        fastest = "none of them keeps up" if best is None else f"the fastest is {_named(best.model, best.threads)}"
        show(f"{len(fit)} of {len(measured)} keep up with {fps:g} fps; {fastest}")
