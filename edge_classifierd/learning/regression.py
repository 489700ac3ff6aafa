"""Softmax regression in plain numpy: the classifier that is put on top of embeddings."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MEMORY: Final = 10
_MAX_STEPS: Final = 300
# OpenBLAS shares out a product of more multiplications than this among threads, which then wait for one another in
# loops: on two busy cores the fit took 5 to 10 times as long. In blocks below it, the number of cores does not matter.
_SINGLE_THREADED: Final = 262_144


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear layer: logits = weights · x + bias."""

    weights: Floats
    """Shape (classes, features)."""
    bias: Floats
    """Shape (classes,)."""

    def logits(self, x: Floats) -> Floats:
        """Shape (pictures, classes)."""
        return x @ self.weights.T + self.bias


def fit(
    x: Floats, y: NDArray[np.intp], weight: Floats, strength: float, *, classes: int, start: Fit | None = None
) -> Fit:
    """Minimise the weighted mean cross-entropy plus strength / 2 · |weights|²; the bias is free.

    `x` (pictures, features), `y` (pictures,) class indices, `weight` (pictures,) summing to 1. `start` is a fit for
    another strength, from which few steps lead here.
    """
    count, features = x.shape
    rows = np.arange(count)
    block = min(count, max(16, _SINGLE_THREADED // (features * classes)))
    blocks = np.zeros((-(-count // block), block, features))
    blocks.reshape(-1, features)[:count] = x
    wrong = np.zeros((len(blocks) * block, classes))

    def objective(flat: Floats) -> tuple[float, Floats]:
        layer = flat.reshape(classes, features + 1)
        weights = layer[:, :features]
        logits = (blocks @ weights.T).reshape(-1, classes)[:count]
        probabilities = softmax(logits + layer[:, features])
        loss = -float(weight @ np.log(np.maximum(probabilities[rows, y], 1e-300)))
        loss += strength / 2 * float(np.sum(weights * weights))
        probabilities[rows, y] -= 1
        np.multiply(probabilities, weight[:, None], out=wrong[:count])
        gradient = np.empty_like(layer)
        gradient[:, :features] = (wrong.reshape(*blocks.shape[:2], classes).transpose(0, 2, 1) @ blocks).sum(0)
        gradient[:, :features] += strength * weights
        gradient[:, features] = wrong.sum(0)
        return loss, gradient.reshape(-1)

    begin = np.zeros((classes, features + 1))
    if start is not None:
        begin[:, :features], begin[:, features] = start.weights, start.bias
    layer = minimise(objective, begin.reshape(-1)).reshape(classes, features + 1)
    return Fit(layer[:, :features].copy(), layer[:, features].copy())


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def cross_entropy(logits: Floats, y: NDArray[np.intp], weight: Floats, doubt: float = 0.0) -> float:
    """The weighted mean of -log(probability of the true class); `doubt` is the share spread over all classes."""
    top = logits.max(-1)
    log_sum = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
    wanted = (1 - doubt) * logits[np.arange(len(y)), y] + doubt * logits.mean(-1)
    return float(weight @ (log_sum - wanted))


def temperature(logits: Floats, y: NDArray[np.intp], weight: Floats) -> float:
    """The divisor of the logits under which their probabilities are honest (least cross-entropy), 0.05 to 20.

    Guo et al., "On Calibration of Modern Neural Networks", 2017. The logits must come from pictures that were not
    trained on. As in Platt's scaling, one more mistake than was seen is allowed for: a few pictures without any do not
    show that there are none. Golden-section search: the loss is unimodal in the divisor.
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


def minimise(objective: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """L-BFGS for a smooth convex function; `objective` gives its value and gradient.

    Two-loop recursion with backtracking (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1). Stops
    when the gradient is small, when a step gains nothing or after 300 steps. The same input gives the same output.
    """
    at = start
    value, gradient = objective(at)
    history: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    for _ in range(_MAX_STEPS):
        if float(np.abs(gradient).max()) < 1e-5:
            break
        direction = -_inverse_hessian_times(gradient, history)
        slope = float(direction @ gradient)
        if slope >= 0:
            history.clear()
            direction, slope = -gradient, -float(gradient @ gradient)
        step = 1.0 if history else 1.0 / max(1.0, float(np.abs(gradient).sum()))
        for _ in range(30):
            ahead = at + step * direction
            reached, steeper = objective(ahead)
            if reached <= value + 1e-4 * step * slope:
                break
            step /= 2
        else:
            break
        moved, turned = ahead - at, steeper - gradient
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            history.append((moved, turned, 1.0 / curvature))
        gained = value - reached
        at, value, gradient = ahead, reached, steeper
        if gained < 1e-7 * max(1.0, abs(value)):
            break
    return at


def _inverse_hessian_times(gradient: Floats, history: deque[tuple[Floats, Floats, float]]) -> Floats:
    result = gradient.copy()
    factors: list[float] = []
    for moved, turned, inverse in reversed(history):
        factor = inverse * float(moved @ result)
        result -= factor * turned
        factors.append(factor)
    if history:
        moved, turned, _ = history[-1]
        result *= float(moved @ turned) / float(turned @ turned)
    for (moved, turned, inverse), factor in zip(history, reversed(factors), strict=True):
        result += (factor - inverse * float(turned @ result)) * moved
    return result
