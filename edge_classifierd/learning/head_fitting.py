"""Fits a head to embeddings; cross-validation chooses features, copies, regularisation and temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.learning.regression import Sums, cross_entropy, softmax, temperature
from edge_classifierd.model.tflite.head import PARTS, Head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edge_classifierd.learning.regression import Layer
    from edge_classifierd.model.tflite.head import Pooling

    Floats = NDArray[np.float64]

Copies = Literal["none", "unmirrored", "all"]
Scaling = Literal["each", "blocks"]
"""`each`: every feature gets the same variance. `blocks`: features keep their relative variances; the detail map's nine
parts are averaged, and the plain embedding gets four times the variance of the detail map. With eight pictures a class
of dogs, birds and vehicles, `blocks` had a third of the false alarms of `each`; hand signs need `each`."""
_FOLDS: Final = 5
_STRENGTHS: Final = (1.0, 0.1, 0.01, 0.001)
_DEFAULT_STRENGTH: Final = 0.01
"""Used where there are too few pictures for cross-validation."""
_MOST_DIRECTIONS: Final = 1000
_MOST_PICTURES: Final = 1000  # for finding the directions; the time grows with the cube of their number
_BLOCK_COLUMNS: Final = 160
_BLOCK_ROWS: Final = 256
_FEWEST_FOR_FOLDS: Final = 2
_PLAIN_SCALE: Final = 2.0  # of the plain embedding, where the detail map has 1


@dataclass(frozen=True, slots=True)
class Examples:
    """Embeddings to learn from, as `learning.embed` computes them."""

    originals: NDArray[np.float32]
    """Shape (pictures, columns)."""
    copies: NDArray[np.float32]
    """Shape (first pictures, copies, columns): varied copies, mirrored ones first. Later pictures have no copies."""
    mirrored: int
    """Number of mirrored copies of a picture. They make hand signs worse, but not animals or vehicles."""
    classes: NDArray[np.intp]
    """Shape (pictures,): 0 to `count` - 1, each at least once."""
    groups: NDArray[np.intp]
    """Shape (pictures,): near-duplicates have the same number and stay in one fold of the cross-validation."""
    count: int
    channels: int
    """Number of leading columns that are the plain embedding."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head, and how it was chosen."""

    head: Head
    strength: float
    temperature: float
    copies: Copies
    """Which varied copies were learnt from besides the pictures."""
    validation_accuracy: float | None
    """Accuracy in cross-validation; None when there were too few pictures for it."""
    validation: NDArray[np.float32] | None = None
    """Shape (pictures, classes): probabilities in cross-validation, when the picture was left out."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    pooling: Pooling
    copies: Copies
    scaling: Scaling = "each"


@dataclass(frozen=True, slots=True)
class _Validated:
    candidate: _Candidate
    strength: float = _DEFAULT_STRENGTH
    loss: float = math.inf
    temperature: float = 1.0
    accuracy: float | None = None
    scores: NDArray[np.float32] | None = None


def fit_head(examples: Examples, seed: int) -> Fitted:
    """Fit a linear layer with a softmax; all classes have the same weight. Deterministic for the same input and seed.

    The candidate with the lowest calibrated loss in cross-validation is used: first pooling and scaling are chosen,
    then the copies, and for each candidate the strength of the regularisation.
    """
    rooted = bool(examples.originals.min() >= 0 and (examples.copies.size == 0 or examples.copies.min() >= 0))
    folds = choose_folds(examples, seed)
    mapped = examples.originals.shape[1] > examples.channels
    poolings: tuple[Pooling, ...] = ("detail", "mean") if mapped else ("own",)
    copies = _choices_of_copies(examples)
    best = _Validated(_Candidate(poolings[0], copies[0], "blocks"))
    if folds is not None:
        scalings: tuple[Scaling, ...] = ("blocks", "each")
        candidates = [_Candidate(one, copies[0], scaling) for scaling in scalings for one in poolings]
        best = min((_validate(examples, one, folds, rooted=rooted) for one in candidates), key=attrgetter("loss"))
        chosen = best.candidate
        others = [_Candidate(chosen.pooling, one, chosen.scaling) for one in copies[1:]]
        best = min([best, *(_validate(examples, one, folds, rooted=rooted) for one in others)], key=attrgetter("loss"))
    chosen = best.candidate
    space = _Space(examples, chosen, rooted=rooted)
    (layer,) = space.sums(np.ones(len(examples.classes), np.bool_)).solve(best.strength)
    head = Head(*space.unfold(layer, best.temperature), chosen.pooling, rooted)
    return Fitted(head, best.strength, best.temperature, chosen.copies, best.accuracy, best.scores)


def _choices_of_copies(examples: Examples) -> tuple[Copies, ...]:
    """Return the possible choices, the most likely one first."""
    count = examples.copies.shape[1]
    if not count:
        return ("none",)
    return ("unmirrored", "all", "none") if examples.mirrored else ("unmirrored", "none")


def apply(head: Head, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities that the written model computes; shape (pictures, classes).

    `embeddings` are rows of `learning.embed`: the head's features first, the original classifier's logits last.
    """
    starts = range(0, len(embeddings), _BLOCK_ROWS)
    return np.concatenate([_apply(head, embeddings[start : start + _BLOCK_ROWS]) for start in starts])


def _apply(head: Head, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    plain = x = embeddings[:, : head.weights.shape[1]].astype(np.float64)
    if head.square_root:
        x = np.sqrt(x)
    if head.unit_length:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = x @ head.weights.T.astype(np.float64) + head.bias
    if head.other_kinds is not None:
        kinds = softmax(embeddings[:, -head.other_kinds.weights.shape[1] :].astype(np.float64))
        logits -= head.other_kinds.strength * np.maximum(1 - kinds @ head.other_kinds.weights.T, 0)
    if head.kept_weights is not None and head.kept_bias is not None:
        kept = plain @ head.kept_weights.T.astype(np.float64) + head.kept_bias
        logits = np.concatenate([kept, logits], 1)
    return softmax(logits).astype(np.float32)


def class_weights(classes: NDArray[np.intp], count: int) -> Floats:
    """Return a weight for each picture so that all classes have the same total weight; the sum is 1."""
    sizes = np.bincount(classes, minlength=count)
    return 1.0 / (np.count_nonzero(sizes) * sizes[classes].astype(np.float64))


def choose_folds(examples: Examples, seed: int) -> NDArray[np.intp] | None:
    """Return a fold for each picture, every class in at least two folds; None when a class has a single group."""
    random = np.random.default_rng((seed, 1))
    fewest = min(len(np.unique(examples.groups[examples.classes == one])) for one in range(examples.count))
    if fewest < _FEWEST_FOR_FOLDS:
        return None
    count = min(_FOLDS, fewest)
    folds = np.zeros(len(examples.classes), np.intp)
    for one in range(examples.count):
        members = examples.classes == one
        groups = random.permutation(np.unique(examples.groups[members]))
        for at, group in enumerate(groups.tolist()):
            folds[members & (examples.groups == group)] = at % count
    return folds


def _validate(examples: Examples, candidate: _Candidate, folds: NDArray[np.intp], *, rooted: bool) -> _Validated:
    """Cross-validate a candidate at every strength and return the one with the lowest calibrated loss."""
    space = _Space(examples, candidate, rooted=rooted)
    weight = class_weights(examples.classes, examples.count)
    everything = space.sums(np.ones(len(folds), np.bool_))
    logits = np.empty((len(_STRENGTHS), len(folds), examples.count))
    for fold in range(int(folds.max()) + 1):
        left_out = folds == fold
        layers = everything.without(space.sums(left_out)).solve(*_STRENGTHS)
        logits[:, left_out] = [layer.logits(space.originals[left_out]) for layer in layers]
        del layers  # they hold sums, of which there would be twice as many in the next round
    tried = []
    for strength, given in zip(_STRENGTHS, logits, strict=True):
        divisor = temperature(given, examples.classes, weight)
        loss = cross_entropy(given / divisor, examples.classes, weight)
        accuracy = float((given.argmax(1) == examples.classes).mean())
        tried.append(
            _Validated(candidate, strength, loss, divisor, accuracy, softmax(given / divisor).astype(np.float32))
        )
    return min(tried, key=attrgetter("loss"))


class _Space:
    """Scaled embeddings, projected onto the directions in which the examples differ.

    The weights of a regularised linear layer are combinations of the examples. So the projection loses nothing, and
    solving takes a fraction of a second. The scaled features are computed in blocks of columns and never exist as a
    whole, nor do the directions: with 1,000 pictures each would take 100 to 200 MB.
    """

    def __init__(self, examples: Examples, candidate: _Candidate, *, rooted: bool) -> None:
        self._rooted = rooted
        self._channels = examples.channels
        self._pooling: Pooling = candidate.pooling
        self._blocks = candidate.scaling == "blocks"
        self._originals = examples.originals
        count = len(examples.originals)
        first = examples.mirrored if candidate.copies == "unmirrored" else 0
        self._copies = examples.copies[:, first:] if candidate.copies != "none" else examples.copies[:, :0]
        copied = self._copies.shape[1]
        self._owner = np.concatenate([np.arange(count), np.repeat(np.arange(len(self._copies)), copied)])
        moments = [(block.mean(0), block.std(0)) for block in self._features()]
        self._mean = np.concatenate([mean for mean, _ in moments])
        self._scale = self._scales(np.concatenate([deviation for _, deviation in moments]))
        every = np.arange(len(self._owner))
        self._chosen = np.linspace(0, every[-1], min(len(every), _MOST_PICTURES)).round().astype(np.intp)
        products = self._products(self._chosen)
        self._combinations = _combinations(products)
        self._rows: Floats = np.empty((len(every), self._combinations.shape[1]))
        self._rows[self._chosen] = products @ self._combinations
        del products
        others = np.setdiff1d(every, self._chosen)
        if len(others):
            self._rows[others] = self._products(others) @ self._combinations
        self.originals: Floats = self._rows[:count]
        self._classes, self._count = examples.classes[self._owner], examples.count
        shares = class_weights(examples.classes, examples.count) / np.bincount(self._owner)
        self._weight = shares[self._owner]

    def sums(self, pictures: NDArray[np.bool_]) -> Sums:
        """Return the sums of the chosen pictures, shape (pictures,), and of their copies."""
        rows = np.flatnonzero(pictures[self._owner])
        parts = [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]
        return Sums.total(
            Sums.of(self._rows[part], self._classes[part], self._weight[part], self._count) for part in parts
        )

    def unfold(self, layer: Layer, divisor: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the layer's weights and bias for unscaled embeddings, divided by the temperature."""
        combined = layer.weights @ self._combinations.T
        products = [combined @ block[self._chosen] for block in self._scaled()]
        weights = np.concatenate(products, 1) * self._scale / divisor
        bias = layer.bias / divisor - weights @ self._mean
        if self._blocks and self._pooling == "detail":
            plain, averaged = weights[:, : self._channels], weights[:, self._channels :]
            weights = np.concatenate([plain, np.tile(averaged / PARTS**2, PARTS**2)], 1)
        return weights.astype(np.float32), bias.astype(np.float32)

    def _products(self, rows: NDArray[np.intp]) -> Floats:
        """Return the products of rows with the chosen ones, shape (rows, chosen)."""
        products = np.zeros((len(rows), len(self._chosen)))
        for block in self._scaled():
            products += block[rows] @ block[self._chosen].T
        return products

    def _scaled(self) -> Iterator[Floats]:
        """Yield blocks of the columns of all rows, without their mean and scaled."""
        start = 0
        for block in self._features():
            here = slice(start, start + block.shape[1])
            yield (block - self._mean[here]) * self._scale[here]
            start = here.stop

    def _features(self) -> Iterator[Floats]:
        """Yield blocks of the columns of all rows: the examples, then their copies."""
        used = self._originals.shape[1] if self._pooling == "detail" else self._channels
        whole = self._channels if self._blocks else used  # columns that are not averaged
        for start in range(0, whole, _BLOCK_COLUMNS):
            yield self._columns(slice(start, min(start + _BLOCK_COLUMNS, whole)))
        width = (used - whole) // PARTS**2
        for start in range(0, width, _BLOCK_COLUMNS):
            stop = min(start + _BLOCK_COLUMNS, width)
            total = np.zeros((len(self._owner), stop - start))
            for part in range(whole, used, width):
                total += self._columns(slice(part + start, part + stop))
            yield total / PARTS**2

    def _columns(self, here: slice) -> Floats:
        """Return columns of the examples and of their copies, shape (rows, columns)."""
        copies = self._copies[..., here]
        block = np.empty((len(self._owner), here.stop - here.start))
        block[: len(self._originals)] = self._originals[:, here]
        block[len(self._originals) :] = copies.reshape(-1, copies.shape[-1]) if copies.size else 0
        return np.sqrt(block, block) if self._rooted else block

    def _scales(self, deviations: Floats) -> Floats:
        """Return the factor of each feature, from its standard deviation."""
        if not self._blocks:
            return np.asarray(1.0 / (deviations + 0.1 * deviations.mean() + 1e-9))
        blocks = ((deviations[: self._channels], _PLAIN_SCALE), (deviations[self._channels :], 1.0))
        return np.concatenate([np.full(len(block), scale / (np.linalg.norm(block) + 1e-9)) for block, scale in blocks])


def _combinations(products: Floats) -> Floats:
    """Return the combinations of rows that are orthonormal directions, shape (rows, directions), the longest first.

    `products` are the rows' products with one another.
    """
    values, vectors = np.linalg.eigh(products)  # ascending
    usable = int(np.count_nonzero(values > 1e-9 * max(float(values[-1]), 1e-12)))
    first = len(values) - min(usable, _MOST_DIRECTIONS)
    values, vectors = values[first:][::-1], vectors[:, first:][:, ::-1]
    # eigh leaves the sign of a vector open; the largest entry decides, so that every machine gives the same.
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    vectors /= np.sqrt(values)
    return np.ascontiguousarray(vectors)
