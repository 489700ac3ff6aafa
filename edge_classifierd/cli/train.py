"""`train`: teaches a model new classes by replacing its last layer."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge_classifierd.cli.classify import FitOption
from edge_classifierd.cli.options import (
    Bundled,
    Channels,
    Json,
    LogLevel,
    Mean,
    Std,
    file_argument,
    file_option,
    model_options,
    model_path,
    reporting,
)
from edge_classifierd.cli.outputs import program, refuse_unwritable, write_output
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, counted

if TYPE_CHECKING:
    from edge_classifierd.learning.train import Training, TrainingPlan


@reporting
def command(
    source: Annotated[Path, file_argument(metavar="DIR|CSV", help="One folder of pictures per class, or a table.")],
    *,
    output: Annotated[Path, file_option("--output", "-o", help="The .tflite file to write.")],
    extractor: Annotated[
        Path | None, file_option(help="A .tflite classifier or embedding extractor; default: the bundled model.")
    ] = None,
    bundled: Bundled = None,
    seed: Annotated[int, typer.Option(min=0, help="The same pictures and seed give the same file.")] = 0,
    holdout: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of each class's pictures kept apart to measure with.")
    ] = 0.2,
    method: Annotated[
        Literal["regression", "imprinting"],
        typer.Option(help="imprinting: quicker and less accurate; it is what --keep-classes needs."),
    ] = "regression",
    keep_classes: Annotated[
        bool, typer.Option("--keep-classes", help="Add the classes to the classifier's own (with imprinting).")
    ] = False,
    unknown: Annotated[
        Path | None, file_option(metavar="DIR", help="Pictures of nothing in particular: the class `unknown`.")
    ] = None,
    augment: Annotated[
        int | None,
        typer.Option(min=0, max=32, help="Varied copies of each picture to try; default: 1 to 8, fewer of many."),
    ] = None,
    fit: FitOption = "crop",
    crop_fraction: Annotated[float, typer.Option(min=0.01, max=1, help="The crop's side, of the shorter side.")] = 1.0,
    held_out: Annotated[
        Path | None, file_option(metavar="CSV", help="Write the pictures kept apart as a table, for `eval`.")
    ] = None,
    report: Annotated[Path | None, file_option(help="Write a page with plots and the worst mistakes.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference.")] = 2,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Teach a model new classes from folders of pictures.

    Runs on the device, without TensorFlow. The result is one ordinary .tflite with its labels inside; use it as
    `model.path`. What is measured is measured on pictures that were not learnt from; give `fit` and `crop_fraction`
    in the configuration as here.

    Example: edge-classifierd train pictures -o birds.tflite --report birds.html
    """
    # The fit's products are small: shared out among busy cores they took five times as long. Read when numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from edge_classifierd.cli.tables import print_evaluations, progress_bar
    from edge_classifierd.learning.dataset import write_table
    from edge_classifierd.learning.json_report import training_document
    from edge_classifierd.learning.report import Page, write_report
    from edge_classifierd.learning.train import TrainingPlan, train

    refuse_unwritable("--output", output, replaced=True)
    refuse_unwritable("--report", report)
    refuse_unwritable("--held-out", held_out)
    plan = TrainingPlan(
        source=source,
        extractor=model_path("--extractor", extractor, bundled),
        output=output,
        seed=seed,
        holdout=holdout,
        method=method,
        keep_classes=keep_classes,
        unknown=unknown,
        augment=augment,
        fit=fit,
        crop_fraction=crop_fraction,
        threads=threads,
        options=model_options(mean, std, channels),
    )
    with progress_bar() as told:
        training = train(plan, told, lambda sentence: show(sentence, err=True))
    for sentence in (*(f"left out: {one}" for one in training.unreadable), *training.warnings):
        show(sentence, err=True)
    codes = {ExitCode.OK}
    if held_out is not None:
        codes.add(write_output("held out", held_out, lambda: write_table(held_out, training.held_out)))
    facts = _facts(training, plan.extractor)
    if report is not None and training.evaluation is None:
        show(f"{report}: not written: nothing was held out to measure with; give more pictures", err=True)
    elif report is not None and training.evaluation is not None:
        page = Page(f"What {output.stem} has learnt", str(source), facts, training.warnings)
        measured = [training.evaluation]
        codes.add(write_output("report", report, lambda: write_report(report, page, measured)))
    if json:
        print_json(training_document(training))
        return max(codes)
    for fact in facts:
        show(fact, err=True)
    if training.evaluation is None:
        show(f"{output}: {counted(len(training.labels), 'label')}; nothing was held out to measure with")
    else:
        print_evaluations([training.evaluation])
    show(f"\nNext, see what it makes of a picture:\n  {_next_command(plan, training)}", err=True)
    return max(codes)


def _next_command(plan: TrainingPlan, training: Training) -> str:
    """What to run next: the model on a picture, one that it was not trained on where there is one."""
    picture = (training.held_out or training.learnt)[0].path
    options = [] if plan.fit == "crop" else ["--fit", plan.fit]
    options += [] if plan.crop_fraction == 1 else ["--crop-fraction", f"{plan.crop_fraction:g}"]
    words = ["classify", "--model", str(training.twin or training.output), *options, str(picture)]
    return f"{program()} {shlex.join(words)}"


def _facts(training: Training, extractor: Path) -> list[str]:
    from edge_classifierd.model.bundle import model_title

    fitted = training.fitted
    tuned = "" if fitted.validation_accuracy is None else f"; {fitted.validation_accuracy:.1%} in cross-validation"
    looks = {"own": "its embedding", "mean": "its embedding", "detail": "its embedding and the parts of a finer map"}
    measured = f"measured on {counted(len(training.held_out), 'other')}" if training.held_out else "nothing held out"
    copies = {"none": "", "unmirrored": " and varied copies", "all": " and varied copies, mirrored ones too"}
    classes, learnt = counted(len(fitted.head.weights), "class"), counted(len(training.learnt), "picture")
    twin = "" if training.twin is None else f"; {training.twin.name}: the same for the CPU, for `model.cpu_model`"
    return [
        f"{classes} from {learnt}{copies[fitted.copies]} in {training.seconds:.0f} s; {measured}",
        f"on {model_title(extractor)}, {looks[fitted.head.pooling]}{tuned}; temperature {fitted.temperature:.2f}",
        f"{training.output}: {training.size / 1e6:.1f} MB, {counted(len(training.labels), 'label')}{twin}",
    ]
