"""Measures a trained head: accuracy, recommended thresholds, and false alarms on unrelated pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.learning.evaluate import Scored, evaluate
from edge_classifierd.learning.head_fitting import apply
from edge_classifierd.learning.thresholds import WatchedClasses, strict_sweeps
from edge_classifierd.learning.training_set import UNKNOWN, embed_built_in
from edge_classifierd.learning.unrelated import BUILT_IN, count_false_alarms, pictures_to_learn, pictures_to_measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.embeddings.embed import Embedder
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.head_fitting import Fitted
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.training_set import TrainingSet
    from edge_classifierd.learning.unrelated import FalseAlarms


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """What was measured of a trained head."""

    evaluation: Evaluation | None
    sweeps: tuple[Sweep, ...]
    false_alarms: tuple[FalseAlarms, ...]


def measure(
    *,
    model: str,
    training_set: TrainingSet,
    learning: NDArray[np.intp],
    held: NDArray[np.intp],
    confidences: NDArray[np.float32],
    fitted: Fitted,
    labels: tuple[str, ...],
    embedder: Embedder,
) -> HeadMeasurement:
    """Measure on pictures that were not learnt from.

    Thresholds are chosen from the pictures held out and, because these are often few, from the scores of the learnt
    ones in cross-validation. Held-out pictures of `unknown` are not used for that, so that they can count false alarms.

    Args:
        model: The name of the model.
        training_set: All pictures, in the order of `confidences`.
        learning: Positions of the pictures learnt from, in the order of `fitted.validation`.
        held: Positions of the pictures held out.
        confidences: Shape (pictures, labels).
        fitted: The head.
        labels: Of the whole model; the classes of the training set are the last ones.
        embedder: Computes the embeddings of the built-in pictures.
    """
    names, classes = training_set.names, training_set.classes
    first = len(labels) - len(names)
    unknown = np.array([name.casefold() == UNKNOWN for name in names])
    watches = [WatchedClasses(name, (first + at,)) for at, name in enumerate(names) if not unknown[at]]

    unseen = held[~unknown[classes[held]]]
    scores = [confidences[unseen]]
    truth = [first + classes[unseen]]
    if fitted.validation is not None:
        scores.append(fitted.validation)
        truth.append(first + classes[learning])
    if not unknown.any():
        scores.append(apply(fitted.head, embed_built_in(pictures_to_learn(), embedder)))
        truth.append(np.full(len(scores[-1]), -1, np.intp))
    targets = [(at,) if at >= 0 else () for at in np.concatenate(truth).tolist()]
    sweeps = strict_sweeps(watches, np.concatenate(scores), targets, lenient=fitted.head.other_kinds is not None)

    false_alarms = []
    held_unknown = held[unknown[classes[held]]]
    if len(held_unknown):
        source = f"held-out pictures of `{UNKNOWN}`"
        false_alarms.append(count_false_alarms(source, confidences[held_unknown], watches, sweeps))
    unrelated = apply(fitted.head, embed_built_in(pictures_to_measure(), embedder))
    false_alarms.append(count_false_alarms(BUILT_IN, unrelated, watches, sweeps))

    evaluation = None
    if len(held):
        paths = [training_set.pictures[at].path for at in held.tolist()]
        right = [(first + at,) for at in range(len(names))]
        scored = Scored(paths, classes[held], confidences[held], names, right, labels)
        evaluation = dataclasses.replace(
            evaluate(model, scored, sweeps=sweeps), unreadable=training_set.unreadable, false_alarms=tuple(false_alarms)
        )
    return HeadMeasurement(evaluation, sweeps, tuple(false_alarms))
