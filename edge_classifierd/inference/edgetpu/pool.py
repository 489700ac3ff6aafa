"""Several Edge TPUs with one model: an idle one takes the next frame, and the others go on when one fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import InferenceError
from edge_classifierd.inference.base import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier
    from edge_classifierd.preprocess import Tensor

_CHECK_EVERY_S: Final = 0.05


class EdgeTpuPool(Classifier):
    """Gives each call to an idle member; each member is one Edge TPU."""

    def __init__(self, members: Sequence[FailoverClassifier]) -> None:
        self._members = tuple(members)
        self.lanes = len(self._members)
        self._idle = list(members)
        self._changed = threading.Condition()

    @property
    def runtime(self) -> str:
        """The runtime of an Edge TPU in use, if any is, else that of the CPU."""
        return next((member for member in self._members if member.on_tpu), self._members[0]).runtime

    @property
    def accelerator(self) -> str:
        """What computes now: `usb:0, usb:1`, or `cpu`."""
        names = sorted({member.accelerator for member in self._members if member.on_tpu})
        return ", ".join(names) or "cpu"

    @property
    def degradation(self) -> str | None:
        """Which Edge TPUs are not in use, and why."""
        reasons = [reason for member in self._members if (reason := member.degradation)]
        if not reasons:
            return None
        return f"{len(reasons)} of {len(self._members)} Edge TPUs: {' / '.join(reasons)}"

    @property
    def heat_warning(self) -> str | None:
        """Which Edge TPUs run at a lower clock because of their temperature."""
        return "; ".join(warning for member in self._members if (warning := member.heat_warning)) or None

    @property
    def temperatures(self) -> tuple[tuple[str, AcceleratorTemperature], ...]:
        """Of the members that have a sensor."""
        return tuple(pair for member in self._members for pair in member.temperatures)

    def classify(self, tensor: Tensor) -> Inference:
        """Classify on an idle Edge TPU, waiting for one if all are busy; on the CPU when none works.

        Raises InferenceError.
        """
        for _ in self._members:
            member = self._take()
            try:
                return member.classify(tensor)
            except InferenceError:
                if not any(other.on_tpu for other in self._members):
                    raise
            finally:
                with self._changed:
                    self._idle.append(member)
                    self._changed.notify()
        raise InferenceError(self.degradation or "no Edge TPU is free")

    def close(self) -> None:
        """Close all members; may be called twice."""
        for member in self._members:
            member.close()

    def _take(self) -> FailoverClassifier:
        """Return the member that has been idle longest, of those whose Edge TPU works while there are any."""
        with self._changed:
            while True:
                working = any(member.on_tpu for member in self._members)
                chosen = next((member for member in self._idle if member.on_tpu or not working), None)
                if chosen is not None:
                    self._idle.remove(chosen)
                    return chosen
                self._changed.wait(_CHECK_EVERY_S)
