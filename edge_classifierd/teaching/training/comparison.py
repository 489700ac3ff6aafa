"""Measures a version on held-out pictures, compares it with the one in use, and writes the result in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import counted
from edge_classifierd.learning.dataset import Dataset, Picture
from edge_classifierd.learning.evaluate import evaluate
from edge_classifierd.learning.predict import Trial, classify_all
from edge_classifierd.learning.unrelated import DEFAULT_THRESHOLD
from edge_classifierd.teaching.training.result import (
    ClassResult,
    HeldOutResult,
    TrainingResult,
    UnknownResult,
    VersionComparison,
    WrongPicture,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.teaching.records import TrainingClass

_WORSE_BY: Final = 1
"""A version is worse when it has more than this many pictures less right."""
_NEXT_STEP: Final = "record it once more, in other light or from another side"


@dataclass(frozen=True, slots=True)
class MeasuredVersion:
    """What was measured of one version."""

    held_out: HeldOutResult
    unknown: UnknownResult | None
    evaluation: Evaluation


def measure_version(
    bundle: ModelBundle,
    thresholds: Mapping[str, float | None],
    classes: Sequence[TrainingClass],
    folder: Path,
    progress: Callable[[int, int], None],
) -> MeasuredVersion | None:
    """Measure a version on the held-out pictures of the classes, as `eval` does; None without such pictures.

    Pictures of a class that the version does not have count as wrong.

    Args:
        bundle: The version's file.
        thresholds: The slug of each of its labels, in their order, with the recommended threshold.
        classes: The classes as they are now.
        folder: Of the model, for messages.
        progress: Called after each picture.
    """
    slugs = tuple(thresholds)
    measured = [one for one in classes if one.held_out]
    if not measured:
        return None
    pictures = tuple(Picture(each.path, one.name) for one in measured for each in one.held_out)
    targets = {one.name: tuple(at for at, slug in enumerate(slugs) if slug == one.slug) for one in measured}
    trial = Trial(bundle, threads=1, device="cpu")
    scored = classify_all(trial, Dataset(folder, pictures), targets, progress).scored
    evaluation = evaluate(bundle.name, scored)
    slug_of = {one.name: one.slug for one in measured}
    slug_of |= {label: slug for label, slug in zip(bundle.labels.display, slugs, strict=True) if label not in slug_of}
    ids = {each.path: each.id for one in measured for each in one.held_out}
    by_name = {one.name: one for one in measured}
    held_out = HeldOutResult(
        pictures=evaluation.images,
        right=round(evaluation.top1 * evaluation.images),
        balanced=evaluation.balanced_accuracy,
        per_class=tuple(
            ClassResult(
                by_name[one.name].id, by_name[one.name].slug, one.name, one.images, round(one.recall * one.images)
            )
            for one in evaluation.per_class
        ),
        mistakes=tuple(
            WrongPicture(ids[one.path], slug_of[one.truth], slug_of[one.predicted], round(one.confidence, 4))
            for one in evaluation.mistakes
        ),
    )
    unknown = np.array([by_name[scored.names[at]].unknown for at in scored.truth.tolist()], np.bool_)
    alarms = _false_alarms(scored.confidences[unknown], thresholds, classes)
    return MeasuredVersion(held_out, UnknownResult(int(unknown.sum()), alarms) if unknown.any() else None, evaluation)


def _false_alarms(
    confidences: NDArray[np.float32],
    thresholds: Mapping[str, float | None],
    classes: Sequence[TrainingClass],
) -> int:
    """Return the number of pictures, `confidences` (pictures, labels), that reach the threshold of a watched class."""
    unknown = {one.slug for one in classes if one.unknown} | {"unknown"}
    raised = np.zeros(len(confidences), np.bool_)
    for at, (slug, threshold) in enumerate(thresholds.items()):
        if slug not in unknown:
            raised |= confidences[:, at] >= (threshold or DEFAULT_THRESHOLD) - 1e-9
    return int(raised.sum())


def is_worse(result: TrainingResult) -> bool:
    """Return whether a version has fewer pictures right, or more false alarms, than the one in use on the same ones."""
    before, now = result.against, result.held_out
    if before is None or now is None:
        return False
    if now.right < before.held_out.right - _WORSE_BY:
        return True
    if result.unknown is None or before.unknown is None:
        return False
    return result.unknown.false_alarms > before.unknown.false_alarms + _WORSE_BY


def sentences_of(result: TrainingResult) -> tuple[str, ...]:
    """Return the result in words, the most important first."""
    now = result.held_out
    if now is None:
        return ("How good it is was not measured: no picture is held out; record each class a second time.",)
    said = [f"Of {counted(now.pictures, 'picture')} that it had never seen, {_were(now.right)} right."]
    if result.unknown is None:
        said.append("False alarms were not measured: record more of `unknown`, what else the camera sees.")
    else:
        alarms = result.unknown
        said.append(
            f"Of {counted(alarms.pictures, 'picture')} of nothing in particular, {alarms.false_alarms or 'none'} would "
            "have raised an alarm."
        )
    said.append(f"With every class counted alike: {now.balanced:.0%}.")
    if result.against is not None:
        said.append(_compared(now, result.against))
    weakest = min(now.per_class, key=lambda one: one.right / one.pictures)
    if weakest.right < weakest.pictures:
        weak = f"{weakest.name} is the weakest: {weakest.right} of {weakest.pictures} right"
        said.append(f"{weak}; {_NEXT_STEP}.")
    if result.estimate:
        said.append("This is an estimate, because few pictures are held out: record more to be sure.")
    return tuple(said)


def _were(count: int) -> str:
    return f"{count or 'none'} {'was' if count == 1 else 'were'}"


def _compared(now: HeldOutResult, before: VersionComparison) -> str:
    """Return what became better and worse against the version in use, on the same pictures."""
    earlier = {one.slug: one for one in before.held_out.per_class}
    better: list[str] = []
    worse: list[str] = []
    for one in now.per_class:
        known = earlier.get(one.slug)
        if known is None or known.pictures != one.pictures or known.right == one.right:
            continue
        text = f"{one.name} {one.right} of {one.pictures} instead of {known.right}"
        (better if one.right > known.right else worse).append(text)
    parts = [f"version {before.version} had {before.held_out.right} right"]
    parts.append(f"better: {', '.join(better) or 'none'}")
    parts.append(f"worse: {', '.join(worse) or 'none'}")
    return f"On the same pictures {'; '.join(parts)}."
