"""Makes a head give low scores to pictures in which the extractor, a classifier itself, recognises other objects.

With few pictures per class the head alone takes many unrelated objects for one of the classes. The extractor has learnt
many kinds of objects from many pictures. The probabilities that it gives to its own classes are a vector, their mean
direction: the weights of the extractor's last layer are the directions of its classes, and those of related classes are
alike (compare ConSE: Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014). A class
with pictures of eight breeds of dogs so resembles all breeds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.learning.head_fitting import choose_folds, class_weights
from edge_classifierd.learning.regression import cross_entropy, softmax, temperature
from edge_classifierd.model.tflite.head import OtherKinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.head_fitting import Examples, Fitted

    Floats = NDArray[np.float64]

_STRENGTH: Final = 6.0
"""By how much the logit of a class is lowered for a picture that does not resemble it; half of ImageNet's classes, five
pictures a class: 4 gave more false alarms, 8 found fewer members."""
_FREE: Final = 0.6
"""Resemblance at which the logit is neither raised nor lowered; a typical picture of the class has 1."""
_FEWEST_KINDS: Final = 100
"""A classifier with fewer classes recognises too little of what is unrelated."""
_LEAST: Final = 1e-3


def kind_directions(weights: NDArray[np.float32]) -> Floats | None:
    """Return the unit-length directions of a classifier's classes, shape (classes, features), from its last layer.

    None for a classifier with fewer than 100 classes.
    """
    if len(weights) < _FEWEST_KINDS:
        return None
    centred = weights.astype(np.float64) - weights.mean(0)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-12))


def with_other_kinds(
    fitted: Fitted, examples: Examples, logits: NDArray[np.float32], directions: Floats, *, unknown: int, seed: int
) -> Fitted:
    """Return `fitted` with `Head.other_kinds`, or unchanged where that does not lower the loss in cross-validation.

    Args:
        fitted: The result of `fit_head` for the same examples and seed.
        examples: The examples.
        logits: The extractor's own logits, shape (pictures, kinds).
        directions: As `kind_directions` returns them.
        unknown: The class of unrelated pictures.
        seed: Of the cross-validation.
    """
    folds = choose_folds(examples, seed)
    if folds is None or fitted.validation is None:
        return fitted
    classes, count = examples.classes, examples.count
    weight = class_weights(classes, count)
    vectors = softmax(logits.astype(np.float64)) @ directions
    resemblance = np.empty((len(classes), count))
    for fold in range(int(folds.max()) + 1):
        rest = folds != fold
        resemblance[~rest] = vectors[~rest] @ _prototypes(vectors[rest], classes[rest], count, unknown).T
    watched = np.arange(count) != unknown
    before = np.log(np.maximum(fitted.validation.astype(np.float64), 1e-12))
    after = before + _STRENGTH * watched * (np.minimum(resemblance, 1) - _FREE)
    divisor = temperature(after, classes, weight)
    again = temperature(before, classes, weight)
    if cross_entropy(after / divisor, classes, weight) >= cross_entropy(before / again, classes, weight):
        return fitted
    head, strength = fitted.head, (_STRENGTH / divisor * watched).astype(np.float32)
    prototypes = _prototypes(vectors, classes, count, unknown)
    changed = dataclasses.replace(
        head,
        weights=(head.weights / divisor).astype(np.float32),
        bias=(head.bias / divisor + (1 - _FREE) * strength).astype(np.float32),
        other_kinds=OtherKinds((prototypes @ directions.T).astype(np.float32), strength),
    )
    return dataclasses.replace(
        fitted,
        head=changed,
        temperature=fitted.temperature * divisor,
        validation_accuracy=float((after.argmax(1) == classes).mean()),
        validation=softmax(after / divisor).astype(np.float32),
    )


def _prototypes(vectors: Floats, classes: NDArray[np.intp], count: int, unknown: int) -> Floats:
    """Return a vector for each class whose product with a picture's vector is its resemblance to the class.

    It is the mean of the class without the mean of unrelated pictures, scaled so that the median of the class's own
    pictures, each compared with the others, is 1. That of `unknown` is 0.
    """
    made = np.zeros((count, vectors.shape[1]))
    background = vectors[classes == unknown].mean(0)
    for one in range(count):
        if one == unknown:
            continue
        members = vectors[classes == one]
        total, others = members.sum(0), max(len(members) - 1, 1)
        without = (total - members) / others if len(members) > 1 else members
        typical = float(np.median((members * (without - background)).sum(1)))
        made[one] = (total / len(members) - background) / max(typical, _LEAST)
    return made
