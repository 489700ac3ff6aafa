"""Several Edge TPUs with one model: whichever is free answers, and one that dies leaves the rest working."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.edgetpu.devices import Warmth
    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier

_LOOK_AGAIN_S: Final = 0.05


class EdgeTpuPool:
    """Implements Classifier, Accelerated and Concurrent; takes one FailoverClassifier per TPU."""

    def __init__(self, members: Sequence[FailoverClassifier]) -> None:
        self._members = tuple(members)
        self.lanes = len(self._members)
        self._idle = list(members)
        self._changed = threading.Condition()

    @property
    def runtime(self) -> str:
        """What runs the model now, on a TPU if any is in use."""
        return next((member for member in self._members if member.on_tpu), self._members[0]).runtime

    @property
    def accelerator(self) -> str:
        """What computes now: `usb:0, usb:1`, or `cpu`."""
        names = sorted({member.accelerator for member in self._members if member.on_tpu})
        return ", ".join(names) or "cpu"

    @property
    def degradation(self) -> str | None:
        """Which of the TPUs are not in use, and why."""
        reasons = [reason for member in self._members if (reason := member.degradation)]
        if not reasons:
            return None
        return f"{len(reasons)} of {len(self._members)} Edge TPUs: {' / '.join(reasons)}"

    @property
    def heat_warning(self) -> str | None:
        """Which of the TPUs are slowed down by their temperature."""
        return "; ".join(warning for member in self._members if (warning := member.heat_warning)) or None

    @property
    def warmth(self) -> tuple[tuple[str, Warmth], ...]:
        """Temperature and clock of those that tell them."""
        return tuple(pair for member in self._members for pair in member.warmth)

    def classify(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Inference:
        """Classify on a free TPU, waiting for one if need be; on the twin when none works. Raises InferenceError."""
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
        """Close all members; safe to call twice."""
        for member in self._members:
            member.close()

    def _take(self) -> FailoverClassifier:
        """The one idle for longest that is on its TPU; one that is not only while none is."""
        with self._changed:
            while True:
                working = any(member.on_tpu for member in self._members)
                chosen = next((member for member in self._idle if member.on_tpu or not working), None)
                if chosen is not None:
                    self._idle.remove(chosen)
                    return chosen
                self._changed.wait(_LOOK_AGAIN_S)
