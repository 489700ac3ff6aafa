"""`train`: trains a model on new classes by replacing its last layer."""

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
        float, typer.Option(min=0, max=0.9, help="Share of each class's pictures that is only used to measure.")
    ] = 0.2,
    method: Annotated[
        Literal["regression", "imprinting"],
        typer.Option(help="imprinting: quicker and less accurate; --keep-classes needs it."),
    ] = "regression",
    keep_classes: Annotated[
        bool, typer.Option("--keep-classes", help="Add the classes to the classifier's own (with imprinting).")
    ] = False,
    unknown: Annotated[
        Path | None, file_option(metavar="DIR", help="Pictures of what else the camera sees: the class `unknown`.")
    ] = None,
    no_unknown: Annotated[
        bool, typer.Option("--no-unknown", help="Do not learn `unknown` from built-in pictures when there is none.")
    ] = False,
    augment: Annotated[
        int | None,
        typer.Option(min=0, max=32, help="Varied copies of each picture to try; default: 1 to 8, fewer of many."),
    ] = None,
    fit: FitOption = "crop",
    crop_fraction: Annotated[float, typer.Option(min=0.01, max=1, help="The crop's side, of the shorter side.")] = 1.0,
    held_out: Annotated[
        Path | None, file_option(metavar="CSV", help="Write the pictures held out as a table, for `eval`.")
    ] = None,
    report: Annotated[Path | None, file_option(help="Write a page with plots and the worst mistakes.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference.")] = 2,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Train a model on new classes from folders of pictures.

    Runs on the device, without TensorFlow. The result is one ordinary .tflite with its labels inside; use it as
    `model.path`. Accuracy, thresholds and false alarms are measured on pictures that were not learnt from. Use the same
    `fit` and `crop_fraction` in the configuration.

    Example: edge-classifierd train pictures -o birds.tflite --report birds.html
    """
    # Read when numpy is imported. The matrices are small: with several threads the fit took five times as long.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from edge_classifierd.cli.tables import print_evaluations, print_false_alarms, print_thresholds, progress_bar
    from edge_classifierd.learning.dataset import write_table
    from edge_classifierd.learning.report.html_report import Page, write_report
    from edge_classifierd.learning.report.json_report import training_document
    from edge_classifierd.learning.train import TrainingPlan, train
    from edge_classifierd.learning.training_set import summarised

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
        add_unknown=not no_unknown,
        augment=augment,
        fit=fit,
        crop_fraction=crop_fraction,
        threads=threads,
        options=model_options(mean, std, channels),
    )
    with progress_bar() as progress:
        training = train(plan, progress, lambda sentence: show(sentence, err=True))
    for sentence in (*(f"left out: {one}" for one in summarised(training.unreadable)), *training.warnings):
        show(sentence, err=True)
    codes = {ExitCode.OK}
    if held_out is not None:
        codes.add(write_output("held out", held_out, lambda: write_table(held_out, training.held_out)))
    facts = _facts(training, plan.extractor)
    if report is not None and training.evaluation is None:
        show(f"{report}: not written, because no pictures were held out; give more pictures", err=True)
    elif report is not None and training.evaluation is not None:
        page = Page(f"Training of {output.stem}", str(source), facts, training.warnings)
        measured = [training.evaluation]
        codes.add(write_output("report", report, lambda: write_report(report, page, measured)))
    if json:
        print_json(training_document(training))
        return max(codes)
    for fact in facts:
        show(fact, err=True)
    if training.evaluation is None:
        show(f"{output}: {counted(len(training.labels), 'label')}; no pictures were held out")
        print_thresholds(training.sweeps)
    else:
        print_evaluations([training.evaluation])
    for alarms in training.false_alarms:
        print_false_alarms(alarms)
    show(f"\nNext, classify a picture:\n  {_next_command(plan, training)}", err=True)
    return max(codes)


def _next_command(plan: TrainingPlan, training: Training) -> str:
    """Return the command that classifies a picture, one that was not learnt from if possible."""
    picture = (training.held_out or training.learnt)[0].path
    options = [] if plan.fit == "crop" else ["--fit", plan.fit]
    options += [] if plan.crop_fraction == 1 else ["--crop-fraction", f"{plan.crop_fraction:g}"]
    words = ["classify", "--model", str(training.twin or training.output), *options, str(picture)]
    return f"{program()} {shlex.join(words)}"


def _facts(training: Training, extractor: Path) -> list[str]:
    from edge_classifierd.model.bundle import model_title

    fitted = training.fitted
    recognised = "; other objects that it recognises lower the scores" if fitted.head.other_kinds is not None else ""
    tuned = "" if fitted.validation_accuracy is None else f"; {fitted.validation_accuracy:.1%} in cross-validation"
    uses = {"own": "its embedding", "mean": "its embedding", "detail": "its embedding and a finer map"}
    how = uses[fitted.head.pooling] + recognised
    measured = (
        f"measured on {counted(len(training.held_out), 'other')}" if training.held_out else "no pictures held out"
    )
    copies = {"none": "", "unmirrored": " and varied copies", "all": " and varied copies, mirrored ones too"}
    added = f" and {training.built_in_unknown} built-in ones (`unknown`)" if training.built_in_unknown else ""
    classes, learnt = counted(len(fitted.head.weights), "class"), counted(len(training.learnt), "picture") + added
    twin = "" if training.twin is None else f"; {training.twin.name}: the same model for the CPU, for `model.cpu_model`"
    return [
        f"{classes} from {learnt}{copies[fitted.copies]} in {training.seconds:.0f} s; {measured}",
        f"on {model_title(extractor)}, {how}{tuned}; temperature {fitted.temperature:.2f}",
        f"{training.output}: {training.size / 1e6:.1f} MB, {counted(len(training.labels), 'label')}{twin}",
    ]
