"""Trains one version of a taught model, measures it and writes its folder. Runs in the child process."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import EdgeClassifierError, counted
from edge_classifierd.learning.dataset import Picture
from edge_classifierd.learning.report.html_report import Page, write_report
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.learning.training_set import UNKNOWN, GivenPictures
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.taught import MODEL_FILE
from edge_classifierd.teaching.training.comparison import MeasuredVersion, is_worse, measure_version, sentences_of
from edge_classifierd.teaching.training.result import (
    TrainingResult,
    VersionClass,
    VersionComparison,
    WrongPicture,
    encode_result,
)
from edge_classifierd.teaching.training.versions import REPORT_FILE, RESULT_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.learning.train import Training
    from edge_classifierd.teaching.training.child_plan import ChildPlan

    Progress = Callable[[str, int, int], None]

_EMBEDDINGS_FILE: Final = "embeddings.sqlite"
"""In the model's folder: what the next training need not compute again."""
_SURELY_ANOTHER: Final = 0.8
"""Confidence in another class from which a picture that was learnt from is suspicious."""
_MOST_SUSPICIOUS: Final = 24


def make_version(plan: ChildPlan, progress: Progress) -> TrainingResult:
    """Train, measure, and write model, result and report into the plan's folder.

    Raises EdgeClassifierError with the reason.
    """
    training = _train(plan, progress)
    classes = _classes(plan, training.labels)
    slug_of = {one.name: one.slug for one in classes}
    thresholds = {slug_of[one.watch]: one.threshold for one in training.sweeps if one.threshold is not None}
    measured = measure_version(
        load_bundle(training.output),
        {one.slug: thresholds.get(one.slug) for one in classes},
        plan.classes,
        training.output.parent,
        lambda done, of: progress("measuring", done, of),
    )
    result = TrainingResult(
        version=plan.version,
        made=plan.made,
        sha256=training.sha256,
        bytes=training.size,
        seconds=round(training.seconds, 1),
        extractor=plan.extractor,
        learnt_from=len(training.learnt),
        estimate=plan.estimate,
        classes=classes,
        held_out=None
        if measured is None
        else dataclasses.replace(measured.held_out, suspicious=_suspicious(plan, training, slug_of)),
        unknown=None if measured is None else measured.unknown,
        against=_against(plan, progress),
        thresholds=thresholds,
    )
    result = dataclasses.replace(result, sentences=sentences_of(result), worse=is_worse(result))
    (plan.folder / RESULT_FILE).write_bytes(encode_result(result))
    _write_report(plan, training, result, measured)
    return result


def _train(plan: ChildPlan, progress: Progress) -> Training:
    learn = tuple(Picture(each.path, one.name) for one in plan.classes for each in one.learn)
    held_out = tuple(Picture(each.path, one.name) for one in plan.classes for each in one.held_out)
    recordings = {each.path: each.recording for one in plan.classes for each in one.learn}
    return train(
        TrainingPlan(
            source=plan.folder.parent.parent,
            extractor=bundled_model_path(plan.extractor),
            output=plan.folder / MODEL_FILE,
            given=GivenPictures(learn, held_out, recordings),
            embeddings=plan.folder.parent.parent / _EMBEDDINGS_FILE,
            threads=1,
        ),
        progress,
    )


def _classes(plan: ChildPlan, labels: tuple[str, ...]) -> tuple[VersionClass, ...]:
    """Return the classes in the order of the labels; `unknown` may be learnt from built-in pictures."""
    known = {one.name: VersionClass(one.id, one.slug, one.name, one.unknown) for one in plan.classes}
    return tuple(known.get(label) or VersionClass("", UNKNOWN, label, unknown=True) for label in labels)


def _suspicious(plan: ChildPlan, training: Training, slug_of: dict[str, str]) -> tuple[WrongPicture, ...]:
    """Return pictures learnt from that were, when left out in turn, confidently taken for another class."""
    scores = training.fitted.validation
    if scores is None:
        return ()
    ids = {each.path: each.id for one in plan.classes for each in one.learn}
    found = []
    for picture, row in zip(training.learnt, scores, strict=False):  # the rows of built-in pictures are the last ones
        predicted = training.labels[int(row.argmax())]
        if predicted != picture.class_name and float(row.max()) >= _SURELY_ANOTHER:
            truth = slug_of[picture.class_name]
            found.append(WrongPicture(ids[picture.path], truth, slug_of[predicted], round(float(row.max()), 4)))
    return tuple(sorted(found, key=lambda one: -one.confidence)[:_MOST_SUSPICIOUS])


def _against(plan: ChildPlan, progress: Progress) -> VersionComparison | None:
    """Measure the version in use on the same pictures; None without one, or when its file cannot be used any more."""
    in_use = plan.in_use
    if in_use is None:
        return None
    try:
        measured = measure_version(
            load_bundle(in_use.file),
            {one.slug: one.threshold for one in in_use.labels},
            plan.classes,
            in_use.file.parent,
            lambda done, of: progress("measuring", done, of),
        )
    except EdgeClassifierError:
        return None
    return None if measured is None else VersionComparison(in_use.version, measured.held_out, measured.unknown)


def _write_report(
    plan: ChildPlan, training: Training, result: TrainingResult, measured: MeasuredVersion | None
) -> None:
    if measured is None:
        return
    evaluation = dataclasses.replace(
        measured.evaluation, sweeps=training.sweeps, false_alarms=training.false_alarms, unreadable=training.unreadable
    )
    title = f"{plan.model}, version {plan.version}"
    learnt = f"learnt from {counted(result.learnt_from, 'picture')} in {result.seconds:.0f} s"
    page = Page(title, plan.model, [*result.sentences, learnt], training.warnings)
    write_report(plan.folder / REPORT_FILE, page, [evaluation])
