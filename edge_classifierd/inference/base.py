"""The interface of a classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.preprocess import Tensor


@dataclass(frozen=True, slots=True)
class Inference:
    """The result of one classification."""

    confidences: NDArray[np.float32]
    """Shape (labels,): probabilities that sum to 1 for a softmax model, independent ones for a multi-label model."""
    inference_ms: float
    """Wall time of the runtime's invoke alone, in milliseconds."""
    accelerator: str
    """What computed it: `cpu`, `usb:0`, `pci:0` …"""


@dataclass(frozen=True, slots=True)
class AcceleratorTemperature:
    """The temperature of a PCIe Edge TPU and the clock that its driver sets at that temperature."""

    temperature_c: float
    clock_mhz: float


class Classifier(ABC):
    """A loaded model; used by one thread at a time (see `shared.SharedClassifier`), its properties by any thread.

    A subclass implements `classify`, or `run` and calls it in `classify`.
    """

    lanes: int = 1
    """Maximum number of concurrent calls; above 1 the classifier does its own locking."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """Name and version of the runtime: `ai-edge-litert 2.3.0`."""

    @property
    @abstractmethod
    def accelerator(self) -> str:
        """What computes now, such as `cpu`, `usb:0` or `pci:0`."""

    @property
    def degradation(self) -> str | None:
        """Why the configured accelerator does not compute, one sentence; None when it does."""
        return None

    @property
    def heat_warning(self) -> str | None:
        """One sentence while the temperature of the accelerator lowers its clock, else None."""
        return None

    @property
    def temperatures(self) -> tuple[tuple[str, AcceleratorTemperature], ...]:
        """The accelerators that have a readable sensor, by name."""
        return ()

    @abstractmethod
    def classify(self, tensor: Tensor) -> Inference:
        """Classify one input tensor of exactly the model's shape and dtype. Raises InferenceError."""

    def run(self, tensor: Tensor) -> Callable[[], Inference]:
        """Run the graph on a tensor; the returned function reads the output and may be called in another thread.

        Both raise InferenceError. By default the whole work is done at once.
        """
        inference = self.classify(tensor)
        return lambda: inference

    @abstractmethod
    def close(self) -> None:
        """Release the runtime and the device; may be called twice."""
