"""Heads for a few pictures per class: prototypes instead of regression, and new classes beside a classifier's own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.learning.head_fitting import Fitted, class_weights, columns
from edge_classifierd.learning.regression import temperature
from edge_classifierd.model.tflite.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.head_fitting import Examples
    from edge_classifierd.model.tflite.head import Pooling

    Floats = NDArray[np.float64]

_DEFAULT_WARMTH: Final = 0.02
_WARMEST_BESIDE_OTHERS: Final = 0.03


def imprint(examples: Examples, *, rooted: bool = True) -> Fitted:
    """Each class is the mean of its embeddings of length 1, and a picture belongs to the nearest.

    After Qi et al., "Low-Shot Learning with Imprinted Weights", 2018. One picture a class is enough; from two on the
    temperature is set by comparing every picture with the mean of the others. `rooted` allows the square root, which
    tells a little better apart what is never negative.
    """
    mapped = examples.originals.shape[1] > examples.channels
    pooling: Pooling = "mean" if mapped else "own"
    plain = columns(examples.originals, examples.channels, pooling)
    rooted = rooted and bool(plain.min() >= 0)
    x = _unit(plain.astype(np.float64), rooted=rooted)
    sums = np.zeros((examples.count, x.shape[1]))
    np.add.at(sums, examples.classes, x)
    prototypes = sums / np.bincount(examples.classes, minlength=examples.count)[:, None]
    own, several = _to_own(x, examples.classes, prototypes)
    warmth, accuracy = _DEFAULT_WARMTH, None
    if len(several) and examples.count > 1:
        logits, mine = _nearness(x, prototypes)[several], examples.classes[several]
        logits[np.arange(len(mine)), mine] = own[several]
        warmth = _DEFAULT_WARMTH * temperature(logits / _DEFAULT_WARMTH, mine, class_weights(mine, examples.count))
        accuracy = float((logits.argmax(1) == mine).mean())
    bias = -(prototypes * prototypes).sum(1) / 2 / warmth
    head = Head((prototypes / warmth).astype(np.float32), bias.astype(np.float32), pooling, rooted, unit_length=True)
    return Fitted(head, 0.0, warmth, copies="none", validation_accuracy=accuracy)


def extend(examples: Examples, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Fitted:
    """The classes of a classifier (its last layer: weights and bias) as they are, and the examples' classes after them.

    Nothing is forgotten as long as the new classes' logits are low for pictures of the old ones. Those are not at hand,
    but a trained classifier's classes lie where its weights point (neural collapse: Papyan et al., 2020). Halfway
    between how near those places and how near the examples come to a prototype, a new class is given as much as the old
    ones give the examples.
    """
    fitted = imprint(examples, rooted=False)  # the root lifts what is near zero, where strangers look alike
    head = fitted.head
    plain = columns(examples.originals, examples.channels, head.pooling).astype(np.float64)
    kept = weights.astype(np.float64)
    centred = kept - kept.mean(0)
    warmth = min(fitted.temperature, _WARMEST_BESIDE_OTHERS)
    prototypes = head.weights.astype(np.float64) * fitted.temperature
    strangers = _unit(np.maximum(centred, 0) if plain.min() >= 0 else centred, rooted=False)
    x = _unit(plain, rooted=False)
    far = float(np.percentile(_nearness(strangers, prototypes).max(1), 95))
    near = float(np.percentile(_to_own(x, examples.classes, prototypes)[0], 10))
    level = float(np.median((plain @ kept.T + bias).max(1)))
    added = (level - ((far + near) / 2 + (prototypes * prototypes).sum(1) / 2) / warmth).astype(np.float32)
    both = dataclasses.replace(
        head, weights=(prototypes / warmth).astype(np.float32), bias=added, kept_weights=weights, kept_bias=bias
    )
    return dataclasses.replace(fitted, head=both, temperature=warmth)


def _unit(x: Floats, *, rooted: bool) -> Floats:
    x = np.sqrt(x) if rooted else x
    return np.asarray(x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12))


def _to_own(x: Floats, classes: NDArray[np.intp], prototypes: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """How near each picture is to the mean of the others of its class (to itself where alone), and who has others."""
    sizes = np.bincount(classes, minlength=len(prototypes))[classes]
    several = sizes > 1
    mine = prototypes[classes]
    without = np.where(several[:, None], (mine * sizes[:, None] - x) / np.maximum(sizes - 1, 1)[:, None], mine)
    return (x * without).sum(1) - (without * without).sum(1) / 2, np.flatnonzero(several)


def _nearness(x: Floats, prototypes: Floats) -> Floats:
    """Minus half the squared distance, less what is the same for all prototypes."""
    return np.asarray(x @ prototypes.T - (prototypes * prototypes).sum(1) / 2)
