"""`eval`: measures models on labelled pictures and recommends thresholds."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_classifierd.cli.classify import FitOption
from edge_classifierd.cli.options import (
    BundledList,
    Channels,
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
    model_paths,
    reporting,
)
from edge_classifierd.cli.outputs import refuse_unwritable, write_output
from edge_classifierd.cli.streams import print_json, show
from edge_classifierd.errors import ExitCode, UsageError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.predict import Trial
    from edge_classifierd.learning.thresholds import WatchedClasses
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.options import ModelOptions


@reporting
def command(
    source: Annotated[Path, file_argument(metavar="DIR|CSV", help="One folder a class, or a table file,label.")],
    *,
    model: Annotated[
        list[Path] | None, file_option(metavar="<path>", help="A .tflite file; again for several side by side.")
    ] = None,
    bundled: BundledList = None,
    labels: Labels = None,
    fit: FitOption = "crop",
    crop_fraction: Annotated[float, typer.Option(min=0.01, max=1, help="The crop's side, of the shorter side.")] = 1.0,
    config: Annotated[
        Path | None, file_option("--config", "-c", help="Take model, region, fit and watches from a configuration.")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="Which of its pipelines; default: the first.")] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LABEL[,LABEL]", help="A watch to find a threshold for; again for several."),
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright", help="The pictures are already turned and cropped, as kept pictures are.")
    ] = False,
    margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lead under which a result is ambiguous; default: 0.1.")
    ] = None,
    report: Annotated[Path | None, file_option(help="Write a page with plots and the worst mistakes.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference.")] = 2,
    mean: Mean = None,
    std: Std = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
    json: Json = False,
    log_level: LogLevel = "warning",  # noqa: ARG001 - its callback sets the level
) -> ExitCode:
    """Measure how good models are on labelled pictures.

    Prints accuracy, confusion, calibration and thresholds. With --json one document: images, top1, top5 (fractions, 0
    to 1), per_class, confusions, calibration, watches; for several models a list of them under `models`.
    With --config a pipeline that follows what moves is measured on whole pictures: they show what it would follow.

    Example: edge-classifierd eval pictures --report report.html
    """
    from edge_classifierd.cli.tables import print_evaluations, progress_bar
    from edge_classifierd.learning.dataset import read_dataset
    from edge_classifierd.learning.predict import try_out
    from edge_classifierd.learning.report.html_report import Page, write_report
    from edge_classifierd.learning.report.json_report import evaluation_document

    options = model_options(mean, std, channels, size, output)
    if config is not None and (model or bundled or labels or watch or options != model_options(None, None, None)):
        raise UsageError("--config names model, labels, preprocessing and watches; leave out the options for them")
    if config is None and (pipeline is not None or upright):
        option = "--upright" if pipeline is None else f"--pipeline {pipeline}"
        raise UsageError(f"{option}: belongs to a configuration; give --config too")
    refuse_unwritable("--report", report)
    dataset = read_dataset(source)
    if config is not None:
        trials = [_configured(config, pipeline, margin, threads, upright=upright)]
    else:
        lead = 0.1 if margin is None else margin
        trials = [
            dataclasses.replace(one, fit=fit, crop_fraction=crop_fraction, threads=threads, margin=lead)
            for one in _trials(model_paths(model, bundled), labels, watch or [], options)
        ]
    with progress_bar() as progress:
        evaluations = [try_out(one, dataset, functools.partial(progress, one.bundle.name)) for one in trials]
    _report_left_out(evaluations)
    inflated = [_inflated(one) for one in evaluations if one.learnt]
    for sentence in inflated:
        show(f"warning: {sentence}", err=True)
    code = ExitCode.OK
    if report is not None:
        title = "Comparison of models" if len(evaluations) > 1 else f"Evaluation of {evaluations[0].model}"
        page = Page(title, str(source), warnings=inflated)
        code = write_output("report", report, lambda: write_report(report, page, evaluations))
    if json:
        documents = [evaluation_document(one) for one in evaluations]
        result = documents[0] if len(documents) == 1 else {"models": documents}
        print_json(result)
    else:
        print_evaluations(evaluations)
    return code


def _report_left_out(evaluations: Sequence[Evaluation]) -> None:
    from edge_classifierd.learning.training_set import summarised

    for one in evaluations:
        for sentence in summarised(one.unreadable):
            show(f"left out: {sentence}", err=True)
        if one.left_out:
            shown = ", ".join(f"`{name}`" for name in one.left_out[:5])
            classes = counted(len(one.left_out), "class")
            show(f"{one.model}: left out {classes} that are not among its labels: {shown}", err=True)


def _inflated(one: Evaluation) -> str:
    which = f"all {one.images:,}" if one.learnt == one.images else f"{one.learnt:,} of the {one.images:,}"
    others = "measure with others, such as those that `train --held-out` lists"
    return f"{one.model} was trained on {which} pictures and is less accurate on new ones; {others}"


def _trials(models: Sequence[Path], labels: Path | None, watch: Sequence[str], options: ModelOptions) -> list[Trial]:
    from edge_classifierd.learning.predict import Trial
    from edge_classifierd.model.bundle import load_bundle

    trials = []
    for path in models:
        bundle = load_bundle(path, labels, options=options)
        watches = tuple(_watched(text, bundle) for text in watch)
        trials.append(Trial(bundle, watches=watches))
    return trials


def _watched(text: str, bundle: ModelBundle) -> WatchedClasses:
    from edge_classifierd.learning.thresholds import WatchedClasses
    from edge_classifierd.model.bundle import model_title
    from edge_classifierd.model.labels import match, nearest

    name, equals, patterns = text.partition("=")
    if not (name and equals and patterns):
        raise UsageError(f"--watch {text}: give NAME=LABEL or NAME=LABEL,LABEL; globs as in the configuration")
    indices: set[int] = set()
    for pattern in patterns.split(","):
        found = match(bundle.labels, pattern.strip())
        if not found:
            near = nearest(bundle.labels, pattern)
            hint = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
            raise UsageError(f"--watch {text}: `{pattern}` matches no label of {model_title(bundle.path)}{hint}")
        indices.update(found)
    return WatchedClasses(name, tuple(sorted(indices)), "max" if bundle.output_kind == "multi_label" else "sum")


def _configured(config: Path, pipeline: str | None, margin: float | None, threads: int, *, upright: bool) -> Trial:
    from edge_classifierd.learning.predict import Trial
    from edge_classifierd.learning.thresholds import WatchedClasses
    from edge_classifierd.pipeline.planning.validation import prepare

    _, plans = prepare(config)
    plan = next((one for one in plans if pipeline in {None, one.section.name}), None)
    if plan is None:
        known = ", ".join(one.section.name for one in plans)
        raise UsageError(f"{config}: has no pipeline `{pipeline}`; it has {known}")
    motion = plan.section.motion
    squares = upright or (motion.enabled and motion.follow)
    watches = tuple(WatchedClasses(one.name, one.indices, one.combine) for one in plan.rules if one.indices is not None)
    return Trial(
        plan.bundle,
        fit=plan.section.fit,
        crop_fraction=plan.section.crop_fraction,
        view=None if squares else plan.view,
        threads=threads,
        margin=margin if margin is not None else plan.section.ambiguity_margin or 0.1,
        watches=watches,
    )
