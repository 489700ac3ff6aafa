"""Heads for a few pictures per class: prototypes instead of regression, and new classes beside a classifier's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.learning.fitting import Fitted, class_weights, columns
from edge_classifierd.learning.regression import minimise, softmax, temperature
from edge_classifierd.model.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.fitting import Examples
    from edge_classifierd.model.head import Pooling

    Floats = NDArray[np.float64]

_DEFAULT_WARMTH: Final = 0.02
_ADDED_STRENGTH: Final = 1e-3


def imprint(examples: Examples) -> Fitted:
    """Each class is the mean of its embeddings of length 1, and a picture belongs to the nearest.

    After Qi et al., "Low-Shot Learning with Imprinted Weights", 2018. One picture a class is enough; from two on the
    temperature is set by comparing every picture with the mean of the others.
    """
    mapped = examples.originals.shape[1] > examples.channels
    pooling: Pooling = "mean" if mapped else "own"
    plain = columns(examples.originals, examples.channels, pooling)
    rooted = bool(plain.min() >= 0)
    x = plain.astype(np.float64)
    x = np.sqrt(x) if rooted else x
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-12
    sizes = np.bincount(examples.classes, minlength=examples.count)
    sums = np.zeros((examples.count, x.shape[1]))
    np.add.at(sums, examples.classes, x)
    prototypes = sums / sizes[:, None]
    several = np.flatnonzero(sizes[examples.classes] > 1)
    warmth, accuracy = _DEFAULT_WARMTH, None
    if len(several):
        logits = _nearness(x, prototypes)
        mine = examples.classes[several]
        without = (sums[mine] - x[several]) / (sizes[mine] - 1)[:, None]
        logits[several, mine] = (x[several] * without).sum(1) - (without * without).sum(1) / 2
        weight = class_weights(mine, examples.count)
        warmth = _DEFAULT_WARMTH * temperature(logits[several] / _DEFAULT_WARMTH, mine, weight)
        accuracy = float((logits[several].argmax(1) == mine).mean())
    bias = -(prototypes * prototypes).sum(1) / 2 / warmth
    head = Head((prototypes / warmth).astype(np.float32), bias.astype(np.float32), pooling, rooted, unit_length=True)
    return Fitted(head, 0.0, warmth, augmented=False, validation_accuracy=accuracy)


def extend(examples: Examples, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Fitted:
    """The classes of a classifier (its last layer: weights and bias) as they are, and the examples' classes after them.

    Only the new rows are fitted: to win for the new pictures and to lose for the old classes. Of those there are no
    pictures, but a trained classifier's classes lie where its weights point (neural collapse: Papyan et al., 2020), so
    the new rows must lose at those places.
    """
    mapped = examples.originals.shape[1] > examples.channels
    pooling: Pooling = "mean" if mapped else "own"
    plain = columns(examples.originals, examples.channels, pooling).astype(np.float64)
    kept, classes = weights.astype(np.float64), examples.classes
    places = _places(kept, plain)
    x = np.concatenate([plain, places])
    old = x @ kept.T + bias
    truth = np.concatenate([classes + len(kept), np.arange(len(kept))])
    weight = np.concatenate([class_weights(classes, examples.count), np.full(len(kept), 1 / len(kept))]) / 2
    scale = float(np.sqrt((x * x).sum(1).mean()))
    x = x / scale
    rows = np.arange(len(x))

    def objective(flat: Floats) -> tuple[float, Floats]:
        layer = flat.reshape(examples.count, -1)
        probabilities = softmax(np.concatenate([old, x @ layer[:, :-1].T + layer[:, -1]], 1))
        loss = -float(weight @ np.log(np.maximum(probabilities[rows, truth], 1e-300)))
        loss += _ADDED_STRENGTH / 2 * float((layer[:, :-1] ** 2).sum())
        wrong = probabilities[:, len(kept) :]
        wrong[np.arange(len(classes)), classes] -= 1
        wrong *= weight[:, None]
        gradient = np.concatenate([wrong.T @ x + _ADDED_STRENGTH * layer[:, :-1], wrong.sum(0)[:, None]], 1)
        return loss, gradient.reshape(-1)

    added = minimise(objective, np.zeros(examples.count * (x.shape[1] + 1))).reshape(examples.count, -1)
    both = np.concatenate([kept, added[:, :-1] / scale]).astype(np.float32)
    head = Head(both, np.concatenate([bias, added[:, -1]]).astype(np.float32), pooling)
    return Fitted(head, _ADDED_STRENGTH, 1.0, augmented=False, validation_accuracy=None)


def _places(weights: Floats, pictures: Floats) -> Floats:
    """Where each kept class lies, shape (classes, features): along its weights, as far out as pictures are."""
    centred = weights - weights.mean(0)
    direction = np.maximum(centred, 0) if pictures.min() >= 0 else centred
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-12
    return np.asarray(direction * np.median(np.linalg.norm(pictures, axis=1)))


def _nearness(x: Floats, prototypes: Floats) -> Floats:
    """Minus half the squared distance, less what is the same for all prototypes."""
    return np.asarray(x @ prototypes.T - (prototypes * prototypes).sum(1) / 2)
