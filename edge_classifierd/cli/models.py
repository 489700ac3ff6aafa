"""`models`: the catalogue, what a model file contains, download with checksum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_classifierd.cli.options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    Labels,
    LogLevel,
    file_argument,
    file_option,
    reporting,
)
from edge_classifierd.cli.streams import print_json
from edge_classifierd.errors import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress

    from edge_classifierd.model.catalogue import Entry
    from edge_classifierd.model.inspection import Inspection
    from edge_classifierd.model.tflite.signature import TensorSpec

app = typer.Typer(help="List, inspect, download and verify models.")

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
    from edge_classifierd.cli.model_list import model_rows, print_rows

    rows = model_rows(config, _folder(folder), optional=config == DEFAULT_CONFIG)
    if json:
        print_json(rows)
    else:
        print_rows(rows)
    return ExitCode.OK


@app.command("info")
@reporting
def info_command(
    file: Annotated[Path, file_argument(metavar="FILE", help="A .tflite file.")],
    *,
    labels: Labels = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001
) -> ExitCode:
    """Print what a model file contains.

    Also prints how the daemon will prepare pictures for it, and why.

    Example: edge-classifierd models info mobilenet_v2_1.0_224_quant.tflite
    """
    from edge_classifierd.model.inspection import inspect

    document = _document(inspect(file, labels))
    if json:
        print_json(document)
    else:
        typer.echo(_text(document))
    return ExitCode.OK


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
            typer.echo(str(error), err=True)
            failed += 1
            continue
        if json:
            print_json(document)
        else:
            typer.echo(f"{document['path']}" + ("" if document["fresh"] else "  (was there already)"))
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
            typer.echo(f"{result['file']}: {result['sentence']}")
    if not results and not json:
        typer.echo(f"{_folder(folder)}: no models there", err=True)
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
    from edge_classifierd.errors import ModelError
    from edge_classifierd.inference.trial import try_model
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
        if not inspected.edgetpu_compiled:
            try_model(inspected)
    except OSError as error:
        return {"file": str(file), "ok": False, "known": entry is not None, "sentence": f"{error.strerror or error}"}
    except ModelError as error:
        sentence = str(error).removeprefix(f"{file}: ")
        return {"file": str(file), "ok": False, "known": False, "sentence": sentence}
    works = "can be read" if inspected.edgetpu_compiled else "can be read and run"
    return {"file": str(file), "ok": True, "known": False, "sentence": f"{works}; the catalogue does not know it"}


def _document(found: Inspection) -> dict[str, Any]:
    metadata = found.metadata
    return {
        "file": str(found.path),
        "bytes": found.size,
        "edgetpu": found.edgetpu_compiled,
        "input": _tensor(found.input),
        "output": {**_tensor(found.output), "kind": found.output_kind},
        "operators": found.operators,
        "multiply_adds": found.multiply_adds,
        "metadata": {
            "name": metadata.name,
            "description": metadata.description,
            "version": metadata.version,
            "author": metadata.author,
            "licence": metadata.licence,
        },
        "labels": None if found.labels is None else list(found.labels.display),
        "labels_trouble": found.labels_trouble,
        "preparation": found.preparation,
        "reason": found.reason,
    }


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }


def _text(document: dict[str, Any]) -> str:
    labels = document["labels"]
    operators = document["operators"]
    cost = document["multiply_adds"]
    lines = [
        f"{document['file']}: {document['bytes']:,} bytes, "
        + ("compiled for the Edge TPU" if document["edgetpu"] else "for the CPU"),
        f"input        {_tensor_text(document['input'])}",
        f"output       {_tensor_text(document['output'])}, {document['output']['kind'].replace('_', ' ')}",
    ]
    if labels is None:
        lines.append(f"labels       none: {document['labels_trouble']}")
    else:
        shown = "; ".join(labels[:5]) + ("; …" if len(labels) > 5 else "")
        lines.append(f"labels       {len(labels):,}: {shown}")
    if operators is not None:
        counted = ", ".join(f"{count} {name}" for name, count in operators.items())
        lines.append(f"operators    {sum(operators.values())}: {counted}")
    unknown = "hidden in the compiled part" if document["edgetpu"] else "not known"
    work = unknown if cost is None else f"{cost / 1e6:,.1f} million multiply-adds an inference"
    lines.append(f"work         {work}")
    lines += [f"{key:<12} {value}" for key, value in document["metadata"].items() if value]
    lines += [f"preparation  {document['preparation']}", f"because      {document['reason']}"]
    return "\n".join(lines)


def _tensor_text(tensor: dict[str, Any]) -> str:
    shape = ", ".join(map(str, tensor["shape"]))
    if tensor["dtype"] == "float32":
        return f"{tensor['name']} ({shape}) float32"
    quantised = f"scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
    return f"{tensor['name']} ({shape}) {tensor['dtype']}, {quantised}"
