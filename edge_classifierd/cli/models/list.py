"""What `models list` prints: the models in use, those that are installed, and those that can be fetched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edge_classifierd.cli.streams import show
from edge_classifierd.cli.tables import print_table
from edge_classifierd.config.loading.load import load
from edge_classifierd.config.loading.read_file import is_absent
from edge_classifierd.errors import ConfigurationError
from edge_classifierd.model.bundle import bundled_model_path
from edge_classifierd.model.catalogue import EMBEDDING, IMAGENET, LICENCE, catalogue
from edge_classifierd.pipeline.planning.validation import model_path

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.bundle import BundledName

_BUNDLED: tuple[tuple[BundledName, int, float], ...] = (("fast", 224, 74.4), ("accurate", 260, 77.0))
"""Name, side of the input in pixels, and the Top-1 in percent that the authors publish for their int8 models."""

_NOTES = """\
The 1,000 things are ImageNet's, the birds, insects and plants iNaturalist's.
A name that ends in _edgetpu is compiled for the Edge TPU. Licence: Apache-2.0."""


def model_rows(config: Path, folder: Path, *, optional: bool) -> list[dict[str, Any]]:
    """Return a row for each model: those in use first, then what is installed in `folder`, then the catalogue.

    `optional`: a configuration that does not exist is no reason for a warning.
    """
    used = _used(config, optional=optional)
    rows = []
    for name, side, top1 in _BUNDLED:
        bundled = bundled_model_path(name)
        rows.append(_row(bundled.stem, bundled, used.pop(bundled, []), input=side, top1=top1, description=IMAGENET))
    for entry in catalogue():
        file = folder / entry.file_name
        elsewhere = next((path for path in used if path.name == entry.file_name), file)
        row = _row(
            entry.name,
            elsewhere,
            used.pop(elsewhere, []),
            input=entry.side,
            top1=entry.top1,
            top5=entry.top5,
            edgetpu=entry.edgetpu,
            description=entry.description,
        )
        row["bytes"] = row["bytes"] or entry.size
        rows.append(row)
    for path, pipelines in used.items():
        compiled = path.stem.endswith("_edgetpu")
        rows.append(_row(path.stem, path, pipelines, licence=None, description="your own", edgetpu=compiled))
    return sorted(rows, key=lambda row: 0 if row["used_by"] else 1 if row["installed"] else 2)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table of what is here and tables of what can be fetched, within 80 columns."""
    here = [row for row in rows if row["used_by"] or row["installed"]]
    others = [row for row in rows if row not in here]
    _print_table("in use, installed", here)
    show()
    _print_table("to be fetched", [row for row in others if row["description"] != EMBEDDING])
    show()
    _print_table("for `train --extractor`", [row for row in others if row["description"] == EMBEDDING])
    show(f"\n{_NOTES}", err=True)


def _row(name: str, file: Path, used_by: list[str], **facts: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    installed = os.path.isfile(file)  # noqa: PTH113 - Path's raises in a folder that is closed to this account
    return {
        "name": name,
        "bytes": file.stat().st_size if installed else None,
        "input": None,
        "top1": None,
        "top5": None,
        "edgetpu": False,
        "description": "",
        "licence": LICENCE,
        **facts,
        "installed": str(file) if installed else None,
        "used_by": used_by,
    }


def _used(config: Path, *, optional: bool) -> dict[Path, list[str]]:
    """By model file, the pipelines of the configuration that name it; none when it cannot be read."""
    used: dict[Path, list[str]] = {}
    if optional and is_absent(config):
        return used
    try:
        pipelines = load(config).configuration.pipelines
    except ConfigurationError as error:
        show(f"which models are in use is not known: {error.problems[0]}", err=True)
        return used
    for pipeline in pipelines:
        if pipeline.model.taught is not None or pipeline.model.url is not None:
            continue  # `teach list` and the device's health show these
        for path in (model_path(pipeline.model), pipeline.model.cpu_model):
            if path is not None:
                used.setdefault(path, []).append(pipeline.name)
    return used


def _print_table(heading: str, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = {
        heading: [row["name"] for row in rows],
        "MB": ["" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f}" for row in rows],
        "px": [str(row["input"] or "") for row in rows],
        "Top-1": ["" if row["top1"] is None else f"{row['top1']:.1f}" for row in rows],
        "recognises": [row["description"] for row in rows],
        "used by": [", ".join(row["used_by"]) for row in rows],
    }
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    for title in shown:
        table.add_column(title, justify="right" if title in {"MB", "px", "Top-1"} else "left", no_wrap=True)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    print_table(table)
