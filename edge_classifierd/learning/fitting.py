"""From embeddings to a head: pooling, strength of regularisation and temperature, chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.learning.regression import cross_entropy, fit, softmax, temperature
from edge_classifierd.model.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.regression import Fit
    from edge_classifierd.model.head import Pooling

    Floats = NDArray[np.float64]

_FOLDS: Final = 4
_STRENGTHS: Final = (1.0, 0.1, 0.01, 0.001)
"""From stiff to free, each from where the one before ended; the row stops early when pictures left out get worse."""
_TOLERANCE: Final = 1.03
"""The freest strength is taken whose loss is this near to the best. The losses are nearly flat, and over ten splits of
ten hand signs the freer fits were up to half a point more accurate on pictures held out."""
_MOST_DIRECTIONS: Final = 300
_MOST_PICTURES: Final = 2000  # to find the directions with; the time grows with their number's cube
_FEWEST_FOR_FOLDS: Final = 2


@dataclass(frozen=True, slots=True)
class Examples:
    """Embeddings to learn from, as `learning.embed` makes them."""

    originals: NDArray[np.float32]
    """Shape (pictures, columns)."""
    copies: NDArray[np.float32]
    """Shape (pictures, copies, columns): flipped and cropped ones; no copies are all right."""
    classes: NDArray[np.intp]
    """Shape (pictures,): 0 to `count` - 1, each at least once."""
    groups: NDArray[np.intp]
    """Shape (pictures,): near-duplicates share a number and never help to judge one another."""
    count: int
    channels: int
    """How many of the columns are the plain embedding."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head, and what was chosen on the way to it."""

    head: Head
    strength: float
    temperature: float
    augmented: bool
    validation_accuracy: float | None
    """Of pictures left out in turn; None when there were too few to leave any out."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    pooling: Pooling
    augmented: bool


@dataclass(frozen=True, slots=True)
class _Judged:
    loss: float
    candidate: _Candidate
    strength: float
    temperature: float
    accuracy: float


def columns(embeddings: NDArray[np.float32], channels: int, pooling: Pooling) -> NDArray[np.float32]:
    """The part of the embeddings' last axis that `pooling` means."""
    return embeddings if pooling == "detail" else embeddings[..., :channels]


def fit_head(examples: Examples, seed: int) -> Fitted:
    """Softmax regression with classes weighted alike; the same for the same input and seed."""
    rooted = bool(examples.originals.min() >= 0 and (examples.copies.size == 0 or examples.copies.min() >= 0))
    folds = _folds(examples, seed)
    mapped = examples.originals.shape[1] > examples.channels
    poolings: tuple[Pooling, ...] = ("mean", "detail") if mapped else ("own",)
    candidates = [
        _Candidate(pooling, augmented)
        for pooling in poolings
        for augmented in ((False, True) if examples.copies.size else (False,))
    ]
    if folds is None:
        best = _Judged(0.0, candidates[0], 0.01, 1.0, -1.0)
    else:
        best = min((_judge(examples, one, folds, rooted=rooted) for one in candidates), key=lambda judged: judged.loss)
    space = _Space(examples, best.candidate, rooted=rooted)
    everything = np.arange(len(examples.classes))
    layer: Fit | None = None
    for strength in _STRENGTHS[: _STRENGTHS.index(best.strength) + 1]:
        layer = space.fit(everything, strength, layer)
    assert layer is not None
    weights, bias = space.unfold(layer, best.temperature)
    head = Head(weights, bias, best.candidate.pooling, rooted)
    accuracy = best.accuracy if folds is not None else None
    return Fitted(head, best.strength, best.temperature, best.candidate.augmented, accuracy)


def apply(head: Head, embeddings: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Shape (pictures, classes): the probabilities that the head gives embeddings, as the written model does."""
    plain = x = columns(embeddings, channels, head.pooling).astype(np.float64)
    if head.square_root:
        x = np.sqrt(x)
    if head.unit_length:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = x @ head.weights.T.astype(np.float64) + head.bias
    if head.kept_weights is not None and head.kept_bias is not None:
        kept = plain @ head.kept_weights.T.astype(np.float64) + head.kept_bias
        logits = np.concatenate([kept, logits], 1)
    return softmax(logits).astype(np.float32)


def class_weights(classes: NDArray[np.intp], count: int) -> Floats:
    """A weight for each picture under which all classes weigh the same; they sum to 1."""
    sizes = np.bincount(classes, minlength=count)
    return 1.0 / (np.count_nonzero(sizes) * sizes[classes].astype(np.float64))


def _folds(examples: Examples, seed: int) -> NDArray[np.intp] | None:
    """A fold for each picture; every class is in every fold's rest. None when a class has a single group."""
    random = np.random.default_rng((seed, 1))
    fewest = min(len(np.unique(examples.groups[examples.classes == one])) for one in range(examples.count))
    if fewest < _FEWEST_FOR_FOLDS:
        return None
    count = min(_FOLDS, fewest)
    folds = np.zeros(len(examples.classes), np.intp)
    for one in range(examples.count):
        mine = examples.classes == one
        groups = random.permutation(np.unique(examples.groups[mine]))
        for at, group in enumerate(groups.tolist()):
            folds[mine & (examples.groups == group)] = at % count
    return folds


def _judge(examples: Examples, candidate: _Candidate, folds: NDArray[np.intp], *, rooted: bool) -> _Judged:
    """The best strength of a candidate, by the calibrated loss on the pictures that were left out."""
    space = _Space(examples, candidate, rooted=rooted)
    weight = class_weights(examples.classes, examples.count)
    layers: list[Fit | None] = [None] * (int(folds.max()) + 1)
    tried: list[_Judged] = []
    for strength in _STRENGTHS:
        logits = np.empty((len(folds), examples.count))
        for fold, before in enumerate(layers):
            layers[fold] = layer = space.fit(np.flatnonzero(folds != fold), strength, before)
            left_out = folds == fold
            logits[left_out] = layer.logits(space.originals[left_out])
        warmth = temperature(logits, examples.classes, weight)
        loss = cross_entropy(logits / warmth, examples.classes, weight)
        accuracy = float((logits.argmax(1) == examples.classes).mean())
        tried.append(_Judged(loss, candidate, strength, warmth, accuracy))
        least = min(one.loss for one in tried)
        if loss > _TOLERANCE * least:
            break
    return [one for one in tried if one.loss <= _TOLERANCE * least][-1]


class _Space:
    """Standardised embeddings, turned into the few directions in which the pictures differ.

    The weights of a regularised linear layer are combinations of the examples, so nothing is lost by leaving out the
    directions in which no example extends, and the fit takes milliseconds instead of seconds.
    """

    def __init__(self, examples: Examples, candidate: _Candidate, *, rooted: bool) -> None:
        self._examples = examples
        self._rooted = rooted
        self._pooling: Pooling = candidate.pooling
        plain = self._selected(examples.originals)
        self._mean = plain.mean(0)
        spread = plain.std(0)
        self._scale = 1.0 / (spread + 0.1 * spread.mean() + 1e-9)
        standard = (plain - self._mean) * self._scale
        some = standard[:: -(-len(standard) // _MOST_PICTURES)]
        values, vectors = np.linalg.eigh(some @ some.T)
        kept = values[::-1][:_MOST_DIRECTIONS] > 1e-9 * max(float(values[-1]), 1e-12)
        values, vectors = values[::-1][:_MOST_DIRECTIONS][kept], vectors[:, ::-1][:, :_MOST_DIRECTIONS][:, kept]
        # eigh leaves each vector's sign open; the largest entry decides, so that every machine agrees.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        self._directions = some.T @ (vectors / np.sqrt(values))
        self.originals: Floats = standard @ self._directions
        self._copies = None
        if candidate.augmented:
            copies = (self._selected(examples.copies) - self._mean) * self._scale
            self._copies = copies @ self._directions

    def fit(self, positions: NDArray[np.intp], strength: float, start: Fit | None) -> Fit:
        x, y = self.originals[positions], self._examples.classes[positions]
        if self._copies is not None:
            count = self._copies.shape[1]
            x = np.concatenate([x, self._copies[positions].reshape(-1, x.shape[1])])
            y = np.concatenate([y, np.repeat(y, count)])
        weight = class_weights(y, self._examples.count)
        return fit(x, y, weight, strength, classes=self._examples.count, start=start)

    def unfold(self, layer: Fit, warmth: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The layer's weights and bias on embeddings as they are; the temperature is divided in."""
        weights = (layer.weights @ self._directions.T) * self._scale / warmth
        bias = layer.bias / warmth - weights @ self._mean
        return weights.astype(np.float32), bias.astype(np.float32)

    def _selected(self, embeddings: NDArray[np.float32]) -> Floats:
        chosen = columns(embeddings, self._examples.channels, self._pooling).astype(np.float64)
        return np.sqrt(chosen) if self._rooted else chosen
