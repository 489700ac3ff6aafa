"""A classifier that several threads use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edge_classifierd.inference.base import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.preprocess import Tensor


class SharedClassifier(Classifier):
    """Lets the threads use a classifier one after the other, or together where it has several lanes.

    Also closes it, after the calls that run.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.lanes = classifier.lanes
        self._classifier = classifier
        self._lock = threading.Lock()  # held by each call where there is one lane

    @property
    def runtime(self) -> str:
        """Name and version of the runtime in use now."""
        return self._classifier.runtime

    @property
    def accelerator(self) -> str:
        """What computes now, such as `cpu` or `usb:0`."""
        return self._classifier.accelerator

    @property
    def degradations(self) -> dict[str, str | None]:
        """By flag of the health report, why the accelerator does not compute as configured; None while it does."""
        return {"edgetpu": self._classifier.degradation, "edgetpu_heat": self._classifier.heat_warning}

    @property
    def temperatures(self) -> tuple[tuple[str, AcceleratorTemperature], ...]:
        """The accelerators that have a readable sensor, by name."""
        return self._classifier.temperatures

    def classify(self, tensor: Tensor) -> Inference:
        """Wait until the classifier is free, then classify. Raises InferenceError."""
        return self.run(tensor)()

    def run(self, tensor: Tensor) -> Callable[[], Inference]:
        """Like `classify`; the returned function reads the output while the next tensor may be classified."""
        if self.lanes > 1:
            return self._classifier.run(tensor)
        with self._lock:
            return self._classifier.run(tensor)

    def close(self) -> None:
        """Release the model and the device."""
        with self._lock:
            self._classifier.close()
