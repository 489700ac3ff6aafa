"""`models`: the catalogue, the contents of a model file, download and verification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_classifierd.cli.models.probe import probe_command
from edge_classifierd.cli.options import (
    DEFAULT_CONFIG,
    Bundled,
    Channels,
    Config,
    Json,
    Labels,
    LogLevel,
    Mean,
    Output,
    Size,
    Std,
    file_argument,
    file_option,
    model_options,
    model_path,
    reporting,
)
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from edge_classifierd.model.catalogue import Entry

app = typer.Typer(help="List, inspect, download, verify and probe models.")
app.command("probe")(probe_command)

Folder = Annotated[
    Path | None, file_option("--folder", help="Where models lie; default: `models` in the state directory.")
]


@app.command("list")
@reporting
def list_command(
    config: Config = DEFAULT_CONFIG,
    *,
    folder: Folder = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """List the models that can be used or fetched.

    Shows size where it is known, side of the input, published accuracy on ImageNet and what each recognises; models
    in use come first, then what is installed. With --json one list, with licence, path and users of each.

    Example: edge-classifierd models list
    """
    from edge_classifierd.cli.models.list import model_rows, print_rows

    rows = model_rows(config, _folder(folder), optional=config == DEFAULT_CONFIG)
    if json:
        print_json(rows)
    else:
        print_rows(rows)
    return ExitCode.OK


@app.command("info")
@reporting
def info_command(
    file: Annotated[Path | None, file_argument(metavar="FILE", help="A .tflite file.")] = None,
    *,
    bundled: Bundled = None,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001
) -> ExitCode:
    """Print what a model file contains and whether it can run here.

    Also prints how the daemon will prepare pictures for it, and what decided that: options, metadata, quantisation,
    arithmetic in the graph, or a guess. Exit code 1 when the model cannot run.

    Example: edge-classifierd models info mobilenet_v2_1.0_224_quant.tflite
    """
    from edge_classifierd.cli.models.info import info_document, info_text, runs_here
    from edge_classifierd.model.inspection import inspect

    if file is None and bundled is None:
        raise UsageError("FILE: missing; give a .tflite file, or --bundled fast or --bundled accurate")
    found = inspect(model_path("FILE", file, bundled), labels, model_options(mean, std, channels, size, output))
    runs = runs_here(found)
    document = info_document(found, runs)
    if json:
        print_json(document)
    else:
        show(info_text(document))
    return ExitCode.OK if runs.possible else ExitCode.FAILED


@app.command("fetch")
@reporting
def fetch_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names from `models list`.")],
    *,
    folder: Folder = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address of a folder with the same files; default: Coral's repository.")
    ] = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001
) -> ExitCode:
    """Download models and verify every byte.

    An interrupted download is continued; a model that is installed already is left alone.

    Example: edge-classifierd models fetch mobilenet_v2_1.0_224_quant
    """
    from edge_classifierd.errors import FetchError
    from edge_classifierd.model.catalogue import find_entry

    entries = [find_entry(name) for name in names]
    place = _folder(folder)
    failed = 0
    for entry in entries:
        try:
            document = _fetched(entry, place, mirror)
        except FetchError as error:
            show(str(error), err=True)
            failed += 1
            continue
        if json:
            print_json(document)
        else:
            show(f"{document['path']}" + ("" if document["fresh"] else "  (was there already)"))
    return ExitCode.FAILED if failed else ExitCode.OK


@app.command("verify")
@reporting
def verify_command(
    files: Annotated[
        list[Path] | None, file_argument(metavar="FILE", help="Model files; default: all that are installed.")
    ] = None,
    *,
    folder: Folder = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001
) -> ExitCode:
    """Compare model files with the catalogue, byte for byte.

    Files that are not in the catalogue are read and, for the CPU, run once. Exit code 1 when one cannot be used.

    Example: edge-classifierd models verify
    """
    checked = files if files is not None else sorted(_folder(folder).glob("*.tflite"))
    results = [_verified(file) for file in checked]
    for result in results:
        if json:
            print_json(result)
        else:
            show(f"{result['file']}: {result['sentence']}")
    if not results and not json:
        show(f"{_folder(folder)}: no models there", err=True)
    return ExitCode.OK if all(result["ok"] for result in results) else ExitCode.FAILED


def _folder(folder: Path | None) -> Path:
    from edge_classifierd.config.sections.paths import state_directory

    return folder or state_directory() / "models"


def _fetched(entry: Entry, place: Path, mirror: str | None) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from edge_classifierd.model.fetch import fetch

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar: Progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(entry.name, total=entry.size)
        fetched = fetch(
            entry, place, mirror=mirror, progress=lambda there, size: bar.update(task, completed=there, total=size)
        )
    return {"name": entry.name, "path": str(fetched.path), "fresh": fetched.fresh, "blob": entry.blob}


def _verified(file: Path) -> dict[str, Any]:
    from edge_classifierd.cli.models.info import runs_here
    from edge_classifierd.errors import ModelError
    from edge_classifierd.model.catalogue import blob_id, catalogue
    from edge_classifierd.model.inspection import inspect

    entry = next((entry for entry in catalogue() if entry.file_name == file.name), None)
    try:
        if entry is not None:
            ok = blob_id(file) == entry.blob
            remedy = f"`edge-classifierd models fetch {entry.name}` brings the catalogue's"
            sentence = "is the catalogue's" if ok else f"is damaged, or another version; {remedy}"
            return {"file": str(file), "ok": ok, "known": True, "sentence": sentence}
        inspected = inspect(file)
        runs = runs_here(inspected)
        if not runs.possible:
            return {"file": str(file), "ok": False, "known": False, "sentence": f"cannot run here: {runs.sentence}"}
    except OSError as error:
        return {"file": str(file), "ok": False, "known": entry is not None, "sentence": f"{error.strerror or error}"}
    except ModelError as error:
        sentence = str(error).removeprefix(f"{file}: ")
        return {"file": str(file), "ok": False, "known": False, "sentence": sentence}
    works = "can be read" if inspected.edgetpu_compiled else "can be read and run"
    return {"file": str(file), "ok": True, "known": False, "sentence": f"{works}; the catalogue does not know it"}
