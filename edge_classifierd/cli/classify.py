"""`classify`: prints the best labels of picture files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge_classifierd.cli.options import (
    Bundled,
    Channels,
    Json,
    Labels,
    LogLevel,
    Mean,
    Output,
    Size,
    Std,
    file_option,
    model_options,
    model_path,
    reporting,
)
from edge_classifierd.cli.streams import complain, print_json, show
from edge_classifierd.errors import ExitCode, SourceError, UsageError, printable

if TYPE_CHECKING:
    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Preprocessor

FitOption = Annotated[
    Literal["crop", "letterbox", "stretch"],
    typer.Option("--fit", help="How pictures are fitted to the model's input."),
]


@reporting
def command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Picture files, or folders of them.")],
    *,
    model: Annotated[Path | None, file_option(help="A .tflite file; default: the bundled ImageNet model.")] = None,
    bundled: Bundled = None,
    labels: Labels = None,
    fit: FitOption = "crop",
    crop_fraction: Annotated[
        float, typer.Option(min=0.01, max=1, help="Side of the crop, as a fraction of the shorter side.")
    ] = 1.0,
    top: Annotated[int, typer.Option("--top", "-k", min=1, max=1000, help="How many labels to print.")] = 5,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference.")] = 2,
    locale: Annotated[str | None, typer.Option(help="Language of the labels, if the model has them in it.")] = None,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Print the best labels of picture files.

    Needs no configuration. With --json one object per line: file, top (index, label, confidence) and inference_ms.

    Example: edge-classifierd classify --json --top 3 cat.jpg
    """
    from edge_classifierd.inference.factory import make_classifier
    from edge_classifierd.model.bundle import load_bundle
    from edge_classifierd.preprocess import Preprocessor

    options = model_options(mean, std, channels, size, output)
    bundle = load_bundle(model_path("--model", model, bundled), labels, locale, options)
    if bundle.labels_beside:
        complain(f"the labels come from {bundle.labels_source}")
    classifier = make_classifier(bundle, "auto", threads)
    prepare = Preprocessor(bundle.input, bundle.normalisation, fit=fit, crop_fraction=crop_fraction)
    files, empty = _files(images)
    for sentence in empty:
        complain(sentence)
    failed = len(empty)
    for file in files:
        try:
            document = _classified(file, bundle, prepare, classifier, top)
        except SourceError as error:
            complain(str(error))
            failed += 1
            continue
        if json:
            print_json(document)
        else:
            show(_text(document))
    classifier.close()
    if failed:
        what = "pictures and folders" if empty else "pictures"
        complain(f"{failed} of {len(files) + len(empty)} {what} could not be read")
    return ExitCode.FAILED if failed else ExitCode.OK


def _files(images: list[str]) -> tuple[list[Path], list[str]]:
    """Return the pictures, and one sentence for each folder without any. Raises UsageError."""
    from edge_classifierd.frames.folder import images_in

    files: list[Path] = []
    empty: list[str] = []
    for image in images:
        if not image:  # Path would take it for the current folder
            raise UsageError("IMAGE: must not be empty; give a picture file, or a folder of them")
        path = Path(image)
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises in a folder without permission
            files.append(path)
            continue
        try:
            found = images_in(path)
        except SourceError as error:
            empty.append(str(error))
            continue
        files.extend(found)
        if not found:
            empty.append(f"{path}: contains no pictures; give a folder of JPEG, PNG, WebP, BMP, GIF or TIFF files")
    return files, empty


def _classified(
    file: Path, bundle: ModelBundle, prepare: Preprocessor, classifier: Classifier, top: int
) -> dict[str, object]:
    from edge_classifierd.frames.image import read_image
    from edge_classifierd.inference.scores import top_k

    inference = classifier.classify(prepare(read_image(file)))
    confidences = inference.confidences
    return {
        "file": str(file),
        "top": [
            {"index": index, "label": bundle.labels.display[index], "confidence": round(float(confidences[index]), 4)}
            for index in top_k(confidences, top).tolist()
        ],
        "inference_ms": round(inference.inference_ms, 2),
    }


def _text(document: dict[str, object]) -> str:
    ranked = document["top"]
    assert isinstance(ranked, list)
    lines = [f"{printable(str(document['file']))}  ({document['inference_ms']} ms)"]
    lines += [f"  {one['confidence']:7.1%}  {printable(one['label'])}  [{one['index']}]" for one in ranked]
    return "\n".join(lines)
