"""Heads for a few pictures per class (prototypes), and heads that add classes to a classifier's own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.learning.head_fitting import Fitted, class_weights
from edge_classifierd.learning.regression import softmax, temperature
from edge_classifierd.model.tflite.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.head_fitting import Examples
    from edge_classifierd.model.tflite.head import Pooling

    Floats = NDArray[np.float64]

_DEFAULT_TEMPERATURE: Final = 0.02
_HIGHEST_TEMPERATURE_BESIDE_OTHERS: Final = 0.03


def imprint(examples: Examples, *, rooted: bool = True) -> Fitted:
    """Use the mean of the unit-length embeddings of a class as its prototype; the nearest prototype wins.

    After Qi et al., "Low-Shot Learning with Imprinted Weights", 2018. One picture a class is enough; with two or more
    the temperature is fitted by comparing each picture with the mean of the others. `rooted` allows the square root,
    which separates embeddings without negative values a little better.
    """
    mapped = examples.originals.shape[1] > examples.channels
    pooling: Pooling = "mean" if mapped else "own"
    plain = _used_columns(examples.originals, examples.channels, pooling)
    rooted = rooted and bool(plain.min() >= 0)
    x = _unit(plain.astype(np.float64), rooted=rooted)
    sums = np.zeros((examples.count, x.shape[1]))
    np.add.at(sums, examples.classes, x)
    prototypes = sums / np.bincount(examples.classes, minlength=examples.count)[:, None]
    own, several = _to_own(x, examples.classes, prototypes)
    divisor, accuracy, scores = _DEFAULT_TEMPERATURE, None, None
    if len(several) and examples.count > 1:
        logits, members = _similarities(x, prototypes)[several], examples.classes[several]
        logits[np.arange(len(members)), members] = own[several]
        weight = class_weights(members, examples.count)
        divisor = _DEFAULT_TEMPERATURE * temperature(logits / _DEFAULT_TEMPERATURE, members, weight)
        accuracy = float((logits.argmax(1) == members).mean())
        if len(several) == len(x):
            scores = softmax(logits / divisor).astype(np.float32)
    bias = -(prototypes * prototypes).sum(1) / 2 / divisor
    head = Head((prototypes / divisor).astype(np.float32), bias.astype(np.float32), pooling, rooted, unit_length=True)
    return Fitted(head, 0.0, divisor, copies="none", validation_accuracy=accuracy, validation=scores)


def extend(examples: Examples, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Fitted:
    """Append the examples' classes to the unchanged classes of a classifier (its last layer: weights and bias).

    The logits of the new classes must be low for pictures of the old classes. Such pictures are not available, but the
    embeddings of a trained classifier's classes point in the direction of its weights (neural collapse: Papyan et al.,
    2020). The bias of a new class is set so that, halfway between the similarity of those directions and the similarity
    of the examples to the prototype, its logit equals the typical best logit of the old classes for the examples.
    """
    fitted = imprint(examples, rooted=False)  # the root enlarges small values, in which unrelated pictures are alike
    head = fitted.head
    plain = _used_columns(examples.originals, examples.channels, head.pooling).astype(np.float64)
    kept = weights.astype(np.float64)
    centred = kept - kept.mean(0)
    divisor = min(fitted.temperature, _HIGHEST_TEMPERATURE_BESIDE_OTHERS)
    prototypes = head.weights.astype(np.float64) * fitted.temperature
    others = _unit(np.maximum(centred, 0) if plain.min() >= 0 else centred, rooted=False)
    x = _unit(plain, rooted=False)
    far = float(np.percentile(_similarities(others, prototypes).max(1), 95))
    near = float(np.percentile(_to_own(x, examples.classes, prototypes)[0], 10))
    level = float(np.median((plain @ kept.T + bias).max(1)))
    added = (level - ((far + near) / 2 + (prototypes * prototypes).sum(1) / 2) / divisor).astype(np.float32)
    both = dataclasses.replace(
        head, weights=(prototypes / divisor).astype(np.float32), bias=added, kept_weights=weights, kept_bias=bias
    )
    return dataclasses.replace(fitted, head=both, temperature=divisor, validation=None)


def _unit(x: Floats, *, rooted: bool) -> Floats:
    x = np.sqrt(x) if rooted else x
    return np.asarray(x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12))


def _to_own(x: Floats, classes: NDArray[np.intp], prototypes: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return each picture's similarity to the mean of the others of its class, and the pictures whose class has others.

    A picture that is alone in its class is compared with itself.
    """
    sizes = np.bincount(classes, minlength=len(prototypes))[classes]
    several = sizes > 1
    own = prototypes[classes]
    without = np.where(several[:, None], (own * sizes[:, None] - x) / np.maximum(sizes - 1, 1)[:, None], own)
    return (x * without).sum(1) - (without * without).sum(1) / 2, np.flatnonzero(several)


def _similarities(x: Floats, prototypes: Floats) -> Floats:
    """Return minus half the squared distance, without the term that is equal for all prototypes."""
    return np.asarray(x @ prototypes.T - (prototypes * prototypes).sum(1) / 2)


def _used_columns(embeddings: NDArray[np.float32], channels: int, pooling: Pooling) -> NDArray[np.float32]:
    """Return the part of the embeddings' last axis that `pooling` uses."""
    return embeddings if pooling == "detail" else embeddings[..., :channels]
