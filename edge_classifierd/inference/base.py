"""What a classifier is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Inference:
    """The outcome of one classification."""

    confidences: NDArray[np.float32]
    """Shape (labels,): probabilities that sum to 1 for a softmax model, independent ones for a multi-label model."""
    inference_ms: float
    """Wall time of the runtime's invoke alone, in milliseconds."""
    accelerator: str
    """What computed it: `cpu`, `usb:0`, `pci:0` …"""


class Classifier(Protocol):
    """A loaded model. Used by one thread at a time; sharing goes through a lock of the owner's."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime: `ai-edge-litert 2.3.0`."""

    @property
    def accelerator(self) -> str:
        """What computes now, such as `cpu`, `usb:0` or `pci:0`."""

    def classify(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Inference:
        """Classify one input tensor of exactly the model's shape and dtype. Raises InferenceError."""

    def close(self) -> None:
        """Release the runtime and the device; safe to call twice."""


@runtime_checkable
class TwoStep(Protocol):
    """A classifier that can leave the reading of its output to another thread, and go on with the next frame."""

    def run(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Callable[[], Inference]:
        """The first step of `classify`; what is returned does the second, in any thread. Both raise InferenceError."""
