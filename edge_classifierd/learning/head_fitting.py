"""From embeddings to a head: pooling, strength of regularisation and temperature, chosen by cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.learning.regression import Sums, cross_entropy, softmax, temperature
from edge_classifierd.model.tflite.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.learning.regression import Layer
    from edge_classifierd.model.tflite.head import Pooling

    Floats = NDArray[np.float64]

Copies = Literal["none", "unmirrored", "all"]
_FOLDS: Final = 5
_STRENGTHS: Final = (1.0, 0.1, 0.01, 0.001)
_UNJUDGED: Final = 0.01
"""The strength where there are too few pictures to judge by."""
_MOST_DIRECTIONS: Final = 1000
_MOST_PICTURES: Final = 2000  # to find the directions with; the time grows with their number's cube
_FEWEST_FOR_FOLDS: Final = 2


@dataclass(frozen=True, slots=True)
class Examples:
    """Embeddings to learn from, as `learning.embed` makes them."""

    originals: NDArray[np.float32]
    """Shape (pictures, columns)."""
    copies: NDArray[np.float32]
    """Shape (pictures, copies, columns): views of each picture, the mirrored ones first; no copies are all right."""
    mirrored: int
    """How many of the copies are mirrored: hand signs lose by it, animals and vehicles do not."""
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
    copies: Copies
    """The views that were learnt from besides the pictures themselves."""
    validation_accuracy: float | None
    """Of pictures left out in turn; None when there were too few to leave any out."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    pooling: Pooling
    copies: Copies


@dataclass(frozen=True, slots=True)
class _Judged:
    candidate: _Candidate
    strength: float = _UNJUDGED
    loss: float = math.inf
    temperature: float = 1.0
    accuracy: float | None = None


def columns(embeddings: NDArray[np.float32], channels: int, pooling: Pooling) -> NDArray[np.float32]:
    """The part of the embeddings' last axis that `pooling` means."""
    return embeddings if pooling == "detail" else embeddings[..., :channels]


def fit_head(examples: Examples, seed: int) -> Fitted:
    """A linear layer under a softmax, with classes weighted alike; the same for the same input and seed.

    Chosen by the calibrated loss on pictures left out in turn: the pooling, then the copies, and for each the strength.
    """
    rooted = bool(examples.originals.min() >= 0 and (examples.copies.size == 0 or examples.copies.min() >= 0))
    folds = _folds(examples, seed)
    mapped = examples.originals.shape[1] > examples.channels
    poolings: tuple[Pooling, ...] = ("detail", "mean") if mapped else ("own",)
    views = _views(examples)
    best = _Judged(_Candidate(poolings[0], views[0]))
    if folds is not None:
        judged = [_judge(examples, _Candidate(one, views[0]), folds, rooted=rooted) for one in poolings]
        best = min(judged, key=_loss)
        others = [_Candidate(best.candidate.pooling, one) for one in views[1:]]
        best = min([best, *(_judge(examples, one, folds, rooted=rooted) for one in others)], key=_loss)
    chosen = best.candidate
    space = _Space(examples, chosen, rooted=rooted)
    layer = space.sums(np.ones(len(examples.classes), np.bool_)).solve(best.strength)
    head = Head(*space.unfold(layer, best.temperature), chosen.pooling, rooted)
    return Fitted(head, best.strength, best.temperature, chosen.copies, best.accuracy)


def _views(examples: Examples) -> tuple[Copies, ...]:
    """The choices of copies that there are, the likeliest first."""
    count = examples.copies.shape[1]
    if not count:
        return ("none",)
    return ("unmirrored", "all", "none") if examples.mirrored else ("unmirrored", "none")


def _loss(judged: _Judged) -> float:
    return judged.loss


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
    everything = space.sums(np.ones(len(folds), np.bool_))
    logits = np.empty((len(_STRENGTHS), len(folds), examples.count))
    for fold in range(int(folds.max()) + 1):
        left_out = folds == fold
        rest = everything.without(space.sums(left_out))
        for at, strength in enumerate(_STRENGTHS):
            logits[at, left_out] = rest.solve(strength).logits(space.originals[left_out])
    tried = []
    for strength, said in zip(_STRENGTHS, logits, strict=True):
        warmth = temperature(said, examples.classes, weight)
        loss = cross_entropy(said / warmth, examples.classes, weight)
        accuracy = float((said.argmax(1) == examples.classes).mean())
        tried.append(_Judged(candidate, strength, loss, warmth, accuracy))
    return min(tried, key=_loss)


class _Space:
    """Standardised embeddings, turned into the few directions in which the pictures differ.

    The weights of a regularised linear layer are combinations of the examples, so nothing is lost by leaving out the
    directions in which no example extends, and solving takes a fraction of a second instead of many.
    """

    def __init__(self, examples: Examples, candidate: _Candidate, *, rooted: bool) -> None:
        self._rooted = rooted
        self._channels = examples.channels
        self._pooling: Pooling = candidate.pooling
        first = examples.mirrored if candidate.copies == "unmirrored" else 0
        copies = examples.copies[:, first:] if candidate.copies != "none" else examples.copies[:, :0]
        self._views = 1 + copies.shape[1]
        seen = self._selected(examples.originals)[:, None]
        if self._views > 1:
            seen = np.concatenate([seen, self._selected(copies)], 1)
        rows = seen.reshape(-1, seen.shape[2])
        self._mean = rows.mean(0)
        spread = rows.std(0)
        self._scale = 1.0 / (spread + 0.1 * spread.mean() + 1e-9)
        rows = (rows - self._mean) * self._scale
        some = rows[:: -(-len(rows) // _MOST_PICTURES)]
        values, vectors = np.linalg.eigh(some @ some.T)
        kept = values[::-1][:_MOST_DIRECTIONS] > 1e-9 * max(float(values[-1]), 1e-12)
        values, vectors = values[::-1][:_MOST_DIRECTIONS][kept], vectors[:, ::-1][:, :_MOST_DIRECTIONS][:, kept]
        # eigh leaves each vector's sign open; the largest entry decides, so that every machine agrees.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        self._directions = some.T @ (vectors / np.sqrt(values))
        self._rows: Floats = rows @ self._directions
        self.originals: Floats = self._rows[:: self._views]
        self._classes, self._count = np.repeat(examples.classes, self._views), examples.count
        self._weight = np.repeat(class_weights(examples.classes, examples.count), self._views) / self._views

    def sums(self, pictures: NDArray[np.bool_]) -> Sums:
        """Of the pictures chosen, shape (pictures,), with their copies."""
        rows = np.repeat(pictures, self._views)
        return Sums.of(self._rows[rows], self._classes[rows], self._weight[rows], self._count)

    def unfold(self, layer: Layer, warmth: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The layer's weights and bias on embeddings as they are; the temperature is divided in."""
        weights = (layer.weights @ self._directions.T) * self._scale / warmth
        bias = layer.bias / warmth - weights @ self._mean
        return weights.astype(np.float32), bias.astype(np.float32)

    def _selected(self, embeddings: NDArray[np.float32]) -> Floats:
        chosen = columns(embeddings, self._channels, self._pooling).astype(np.float64)
        return np.sqrt(chosen) if self._rooted else chosen
