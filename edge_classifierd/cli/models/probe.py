"""`models probe`: finds a model's preprocessing from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_classifierd.cli.classify import FitOption
from edge_classifierd.cli.options import (
    Json,
    Labels,
    LogLevel,
    Output,
    Size,
    file_argument,
    model_options,
    reporting,
)
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from edge_classifierd.learning.probe import ProbeResult
    from edge_classifierd.model.tflite.metadata import Normalisation


@reporting
def probe_command(
    model: Annotated[Path, file_argument(metavar="MODEL", help="A .tflite file.")],
    pictures: Annotated[
        list[Path] | None,
        file_argument(metavar="PICTURES", help="Picture files or a folder; best one folder per label, as for eval."),
    ] = None,
    *,
    labels: Labels = None,
    size: Size = None,
    output: Output = None,
    fit: FitOption = "crop",
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference.")] = 2,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Find a model's preprocessing by trying the usual ones on pictures.

    With labelled pictures the accuracy decides, without labels how much the scores tell about the pictures. Prints the
    lines for the configuration, or "undecided". Without PICTURES the bundled photographs are used, which are too few
    to decide.

    Example: edge-classifierd models probe model.tflite pictures
    """
    import edge_classifierd
    from edge_classifierd.cli.tables import progress_bar
    from edge_classifierd.learning.probe import probe
    from edge_classifierd.model.bundle import load_bundle

    bundle = load_bundle(model, labels, options=model_options(None, None, None, size, output), log_guess=False)
    sources = pictures or [Path(edge_classifierd.__file__).parent / "demo_photos"]
    with progress_bar() as report:
        result = probe(bundle, sources, lambda done, of: report(bundle.name, done, of), fit=fit, threads=threads)
    if json:
        print_json(_document(result))
        return ExitCode.OK
    _print_table(result)
    show(f"\n{result.sentence}")
    if result.decided:
        line = _yaml(result.candidates[0].normalisation, quantised=bundle.preparation.decided_by == "quantisation")
        show(f"\nmodel:\n  {line}" if line else "\nNothing needs to be set.")
    return ExitCode.OK


def _document(result: ProbeResult) -> dict[str, Any]:
    best = result.candidates[0].normalisation
    return {
        "pictures": result.pictures,
        "labelled": result.labelled,
        "decided": result.decided,
        "sentence": result.sentence,
        "input": _values(best) if result.decided else None,
        "candidates": [
            {
                "name": one.name,
                **_values(one.normalisation),
                "accuracy": one.accuracy,
                "confidence": round(one.confidence, 4),
                "agreement": round(one.agreement, 4),
                "labels": one.labels,
                "score": round(one.score, 4),
            }
            for one in result.candidates
        ],
    }


def _values(normalisation: Normalisation) -> dict[str, Any]:
    mean, std = ([round(value, 4) for value in values] for values in (normalisation.mean, normalisation.std))
    return {
        "mean": mean[0] if len(mean) == 1 else mean,
        "std": std[0] if len(std) == 1 else std,
        "channels": normalisation.channels,
    }


def _yaml(normalisation: Normalisation, *, quantised: bool) -> str:
    """Return the line for the configuration; empty where the file decides everything."""
    if quantised:
        return "" if normalisation.channels == "rgb" else "input: {channels: bgr}"
    values = _values(normalisation)
    mean, std = (_number(values[key]) for key in ("mean", "std"))
    order = ", channels: bgr" if normalisation.channels == "bgr" else ""
    return f"input: {{mean: {mean}, std: {std}{order}}}"


def _number(value: float | list[float]) -> str:
    return f"[{', '.join(f'{one:g}' for one in value)}]" if isinstance(value, list) else f"{value:g}"


def _print_table(result: ProbeResult) -> None:
    from rich.table import Table

    from edge_classifierd.cli.tables import print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("pixels", no_wrap=True)
    for column in ("bits", "accuracy", "confidence", "agreement", "labels"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in result.candidates:
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
        shares = (f"{share:.1%}" for share in (one.confidence, one.agreement))
        table.add_row(one.name, f"{one.score:.2f}", accuracy, *shares, str(one.labels))
    print_table(table)
