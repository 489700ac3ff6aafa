"""Runs a model on a labelled data set and evaluates its scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.class_matching import match_classes
from edge_classifierd.learning.evaluate import Scored, evaluate
from edge_classifierd.learning.learnt_pictures import learnt_by, picture_hash
from edge_classifierd.learning.thresholds import LEAST_POSITIVES, WatchedClasses, sweep
from edge_classifierd.learning.training_set import summarised
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.learning.dataset import Dataset
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Fit, View


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, and how pictures are prepared for it."""

    bundle: ModelBundle
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    view: View | None = None
    threads: int = 2
    device: str = "auto"
    margin: float = 0.1
    watches: Sequence[WatchedClasses] = ()
    """The watches to recommend thresholds for; empty: one for each class that has enough pictures."""


@dataclass(frozen=True, slots=True)
class Classified:
    """The scores of a data set's pictures."""

    scored: Scored
    unreadable: tuple[str, ...]
    """A sentence for each picture that could not be decoded."""
    inference_ms: float
    """Median time of one inference."""


def try_out(trial: Trial, dataset: Dataset, progress: Callable[[int, int], None]) -> Evaluation:
    """Classify every picture once and evaluate the scores; classes without a matching label are left out.

    Raises UsageError when no class matches; else as `classify_all`.
    """
    matching = match_classes(dataset, trial.bundle.labels)
    classified = classify_all(trial, dataset, matching.targets, progress)
    scored = classified.scored
    return dataclasses.replace(
        evaluate(trial.bundle.name, scored, margin=trial.margin, sweeps=sweeps_of(scored, trial.watches)),
        unreadable=classified.unreadable,
        left_out=matching.unmatched,
        learnt=_learnt(trial.bundle, scored.paths),
        inference_ms=classified.inference_ms,
    )


def classify_all(
    trial: Trial, dataset: Dataset, targets: Mapping[str, tuple[int, ...]], progress: Callable[[int, int], None]
) -> Classified:
    """Classify every picture once, as the daemon does.

    Args:
        trial: The model.
        dataset: The pictures; those of a class that `targets` lacks are left out.
        targets: For each class the indices of the labels that are right.
        progress: Called after each picture with the number of pictures that are done, and their total number.

    Raises:
        UsageError: No picture can be read.
        EdgeClassifierError: The model cannot be used.
    """
    bundle = trial.bundle
    wanted = [picture for picture in dataset.pictures if picture.class_name in targets]
    names = tuple(targets)
    classifier = make_classifier(bundle, trial.device, trial.threads)
    prepare = Preprocessor(
        bundle.input, bundle.normalisation, fit=trial.fit, crop_fraction=trial.crop_fraction, view=trial.view
    )
    confidences, truth, paths, times, unreadable = [], [], [], [], []
    try:
        for number, picture in enumerate(wanted, 1):
            try:
                frame = read_image(picture.path)
            except SourceError as error:
                unreadable.append(str(error))
            else:
                inference = classifier.classify(prepare(frame))
                confidences.append(inference.confidences)
                times.append(inference.inference_ms)
                truth.append(names.index(picture.class_name))
                paths.append(picture.path)
            progress(number, len(wanted))
    finally:
        classifier.close()
    if not paths:
        reason = summarised(unreadable)[0]
        raise UsageError(f"{dataset.source}: none of its {len(wanted):,} pictures can be read: {reason}")
    scored = Scored(
        paths, np.array(truth, np.intp), np.stack(confidences), names, tuple(targets.values()), bundle.labels.display
    )
    return Classified(scored, tuple(unreadable), float(np.median(times)))


def _learnt(bundle: ModelBundle, paths: Sequence[Path]) -> int:
    """Return how many of the pictures the model was trained on."""
    learnt = learnt_by(bundle.path)
    return sum(picture_hash(path) in learnt for path in paths) if learnt else 0


def sweeps_of(scored: Scored, watches: Sequence[WatchedClasses] = ()) -> tuple[Sweep, ...]:
    """Return the sweep of each watch; without watches, of each class that has enough pictures."""
    if not watches:
        sizes = np.bincount(scored.truth, minlength=len(scored.names)).tolist()
        watches = [
            WatchedClasses(name, indices)
            for name, indices, size in zip(scored.names, scored.targets, sizes, strict=True)
            if size >= LEAST_POSITIVES
        ]
    targets = [scored.targets[at] for at in scored.truth.tolist()]
    return tuple(sweep(watch, scored.confidences, targets) for watch in watches)
