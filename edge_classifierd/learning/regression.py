"""Solves a linear layer in closed form, and calibrates its logits as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_HEIGHT: Final = 20.0
"""The target for the true class; it is 0 for the others. With 20, hand signs get temperatures of 1.3 to 2.1."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: logits = weights · x + bias."""

    weights: Floats
    """Shape (classes, features)."""
    bias: Floats
    """Shape (classes,)."""

    def logits(self, x: Floats) -> Floats:
        """Return the logits, shape (pictures, classes)."""
        return x @ self.weights.T + self.bias


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums over examples that least squares needs; sums of other examples can be subtracted."""

    weight: float
    x: Floats
    """Shape (features,)."""
    y: Floats
    """Shape (classes,)."""
    xx: Floats
    """Shape (features, features)."""
    xy: Floats
    """Shape (features, classes)."""

    @classmethod
    def of(cls, x: Floats, y: NDArray[np.intp], weight: Floats, classes: int) -> Sums:
        """Sum over `x` (pictures, features) with the classes `y` and the weights `weight`, both (pictures,)."""
        targets = np.where(y[:, None] == np.arange(classes), _HEIGHT, 0.0) * weight[:, None]
        weighted = x * weight[:, None]
        return cls(float(weight.sum()), weighted.sum(0), targets.sum(0), x.T @ weighted, x.T @ targets)

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        """Return the sums over the examples of all parts; at least one."""
        each = iter(parts)
        first = next(each)
        weight, sums = first.weight, (first.x, first.y, first.xx, first.xy)
        for one in each:
            weight += one.weight
            for mine, theirs in zip(sums, (one.x, one.y, one.xx, one.xy), strict=True):
                np.add(mine, theirs, out=mine)
            del one, theirs  # before the next part is computed: `xx` is large
        return cls(weight, *sums)

    def without(self, others: Sums) -> Sums:
        """Return the sums without the examples of `others`."""
        pairs = ((self.x, others.x), (self.y, others.y), (self.xx, others.xx), (self.xy, others.xy))
        return Sums(self.weight - others.weight, *(mine - theirs for mine, theirs in pairs))

    def solve(self, *strengths: float) -> Iterator[Layer]:
        """Solve the weighted least squares with the target 20 for the true class and 0 for the others.

        Each strength is the ridge as a multiple of the features' mean variance; the bias is not regularised. Weights
        become small in the directions in which pictures of one class, or copies of a picture, differ. This is equal to
        Fisher's linear discriminant (Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 4.2).

        To save memory the sums become the covariance, so they cannot be used again.
        """
        middle, height = self.x / self.weight, self.y / self.weight
        covariance = self.xx
        covariance /= self.weight
        covariance -= np.outer(middle, middle)
        variances = covariance.diagonal().copy()
        ridge = max(float(variances.mean()), 1e-12)
        together = self.xy / self.weight - np.outer(middle, height)
        for strength in strengths:
            np.fill_diagonal(covariance, variances + strength * ridge)
            weights = np.asarray(np.linalg.solve(covariance, together).T, np.float64)
            yield Layer(weights, height - weights @ middle)


def softmax(logits: Floats) -> Floats:
    """Return probabilities along the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def cross_entropy(logits: Floats, y: NDArray[np.intp], weight: Floats, doubt: float = 0.0) -> float:
    """Return the weighted mean of -log(probability of the true class); `doubt` is the share given to all classes."""
    top = logits.max(-1)
    log_sum = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
    wanted = (1 - doubt) * logits[np.arange(len(y)), y] + doubt * logits.mean(-1)
    return float(weight @ (log_sum - wanted))


def temperature(logits: Floats, y: NDArray[np.intp], weight: Floats) -> float:
    """Return the divisor of the logits with the least cross-entropy, 0.05 to 20.

    Guo et al., "On Calibration of Modern Neural Networks", 2017. The logits must come from pictures that were not
    trained on. As in Platt's scaling, one more mistake than was seen is assumed, because few pictures without a mistake
    do not prove that there are none. The loss has one minimum, which golden-section search finds.
    """
    doubt = 1.0 / (len(y) + 2)
    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5.0) - 1) / 2
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        warmer = cross_entropy(logits / np.exp(right), y, weight, doubt)
        if cross_entropy(logits / np.exp(left), y, weight, doubt) < warmer:
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))
