"""Computes accuracy, confusions and calibration from the scores of labelled pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.unrelated import FalseAlarms

BINS: Final = 10
MOST_MISTAKES: Final = 24


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of the data set; fractions 0 to 1."""

    name: str
    images: int
    recall: float
    """Share of its pictures that were recognised."""
    precision: float | None
    """Share of right ones among the pictures predicted as it; None when there are none."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often pictures of `truth` were predicted as `predicted`."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True, slots=True)
class Bin:
    """The pictures whose best confidence is in one tenth of the scale: their mean confidence and accuracy."""

    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture with a wrong prediction."""

    path: Path
    truth: str
    predicted: str
    confidence: float
    truth_confidence: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measured quality of a model; all shares and accuracies are fractions 0 to 1."""

    model: str
    images: int
    top1: float
    balanced_accuracy: float
    """The mean of the classes' recalls, which a large class does not dominate."""
    top5: float
    per_class: tuple[ClassScore, ...]
    confusions: tuple[Confusion, ...]
    """The most frequent first."""
    bins: tuple[Bin, ...]
    calibration_error: float
    """Expected calibration error: the mean distance of confidence from accuracy over the bins, by pictures."""
    mean_confidence: float
    ambiguity_margin: float
    ambiguous: float
    """The share of pictures whose two best classes are closer than the margin."""
    sweeps: tuple[Sweep, ...]
    mistakes: tuple[Mistake, ...]
    """The most confident ones first, at most 24."""
    unreadable: tuple[str, ...] = ()
    """A sentence for each picture that could not be decoded; they count nowhere else."""
    left_out: tuple[str, ...] = ()
    """Classes of the data set without a matching label; their pictures count nowhere else."""
    learnt: int = 0
    """Number of pictures that the model was trained on, which make it look better than it is."""
    inference_ms: float | None = None
    """Median time of one inference."""
    false_alarms: tuple[FalseAlarms, ...] = ()
    """On unrelated pictures, after a training."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Labelled pictures with the scores of a model."""

    paths: Sequence[Path]
    truth: NDArray[np.intp]
    """Shape (pictures,): positions in `names`."""
    confidences: NDArray[np.float32]
    """Shape (pictures, labels)."""
    names: Sequence[str]
    """The data set's classes."""
    targets: Sequence[tuple[int, ...]]
    """For each class the indices of the labels that are right."""
    labels: Sequence[str]
    """The names of the model's outputs."""


def evaluate(model: str, scored: Scored, *, margin: float = 0.1, sweeps: tuple[Sweep, ...] = ()) -> Evaluation:
    """Evaluate the scores of one picture or more. Of equal scores the lower index ranks first, as in `classify`."""
    count, labels = scored.confidences.shape
    order = np.argsort(-scored.confidences, axis=1, kind="stable")
    right = np.zeros((len(scored.names), labels), np.bool_)
    for position, indices in enumerate(scored.targets):
        right[position, list(indices)] = True
    hits = np.take_along_axis(right[scored.truth], order[:, :5], 1)
    best = order[:, 0]
    correct = hits[:, 0]
    ranked = np.take_along_axis(scored.confidences, order[:, :2], 1)
    confidence = ranked[:, 0].astype(np.float64)
    bins = _bins(confidence, correct)
    gaps = [one.images * abs(one.confidence - one.accuracy) for one in bins if one.images]
    ambiguous = float(np.mean(ranked[:, 0] - ranked[:, 1] < margin)) if labels > 1 else 0.0
    predictions = _predictions(scored, best, correct)
    per_class = _per_class(scored, best, correct, right)
    return Evaluation(
        model=model,
        images=count,
        top1=float(correct.mean()),
        balanced_accuracy=sum(one.recall for one in per_class) / len(per_class),
        top5=float(hits.any(1).mean()),
        per_class=per_class,
        confusions=_confusions(scored, predictions, correct),
        bins=bins,
        calibration_error=sum(gaps) / count,
        mean_confidence=float(confidence.mean()),
        ambiguity_margin=margin,
        ambiguous=ambiguous,
        sweeps=sweeps,
        mistakes=_mistakes(scored, predictions, correct, confidence, right),
    )


def _per_class(
    scored: Scored, best: NDArray[np.intp], correct: NDArray[np.bool_], right: NDArray[np.bool_]
) -> tuple[ClassScore, ...]:
    scores = []
    for position, name in enumerate(scored.names):
        members = scored.truth == position
        images = int(members.sum())
        if not images:
            continue
        taken = int(right[position][best].sum())
        found = int(correct[members].sum())
        scores.append(ClassScore(name, images, found / images, found / taken if taken else None))
    return tuple(scores)


def _predictions(scored: Scored, best: NDArray[np.intp], correct: NDArray[np.bool_]) -> list[str]:
    """Return the prediction for each picture, with the data set's name of the class where it has one."""
    words: dict[int, str] = {}
    for name, indices in zip(scored.names, scored.targets, strict=True):
        for index in indices:
            words.setdefault(index, name)
    return [
        scored.names[truth] if hit else words.get(index, scored.labels[index])
        for truth, index, hit in zip(scored.truth.tolist(), best.tolist(), correct.tolist(), strict=True)
    ]


def _confusions(scored: Scored, predictions: list[str], correct: NDArray[np.bool_]) -> tuple[Confusion, ...]:
    pairs = Counter(
        (scored.names[truth], taken)
        for truth, taken, hit in zip(scored.truth.tolist(), predictions, correct.tolist(), strict=True)
        if not hit
    )
    return tuple(Confusion(*pair, count) for pair, count in sorted(pairs.items(), key=lambda one: (-one[1], one[0])))


def _mistakes(
    scored: Scored,
    predictions: list[str],
    correct: NDArray[np.bool_],
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~correct)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    return tuple(
        Mistake(
            path=scored.paths[at],
            truth=scored.names[scored.truth[at]],
            predicted=predictions[at],
            confidence=float(confidence[at]),
            truth_confidence=float(scored.confidences[at][right[scored.truth[at]]].sum()),
        )
        for at in worst.tolist()
    )


def _bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[Bin, ...]:
    place = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    bins = []
    for number in range(BINS):
        members = place == number
        images = int(members.sum())
        if images:
            bins.append(Bin(images, float(confidence[members].mean()), float(correct[members].mean())))
        else:
            bins.append(Bin(0, (number + 0.5) / BINS, 0.0))
    return tuple(bins)
