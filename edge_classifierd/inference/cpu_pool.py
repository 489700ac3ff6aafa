"""Several instances of one model on the CPU: as many frames are classified side by side, each by one of them."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.inference.base import Classifier, Inference


_USUAL: Final = 2
_LARGEST_BYTES: Final = 16_000_000
"""Of a model that usually gets them; a packed copy of the weights in each instance weighs about as much."""


def share_out(threads: int, instances: int | None, model_bytes: int) -> tuple[int, ...]:
    """The number of threads of each instance: all together `threads`, each at least one.

    As many as asked for; None: two where there are threads for them and the model is not large.
    """
    if instances is None:
        instances = min(_USUAL, threads) if model_bytes <= _LARGEST_BYTES else 1
    each, over = divmod(threads, instances)
    return tuple(max(1, each + (place < over)) for place in range(instances))


class CpuPool:
    """Implements Classifier and Concurrent.

    One core for each of two frames does more than two cores for one frame after the other: none waits for the slower
    one at the end of every operator, and what Python does between two inferences keeps one core waiting, not both.
    The price is that a frame takes as long as its part of the cores needs for it, and the memory of each interpreter.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        """Takes the members over: it alone uses and closes them."""
        self._members = tuple(members)
        self._idle: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        for member in self._members:
            self._idle.put(member)
        self.lanes = len(self._members)
        self.runtime = self._members[0].runtime
        self.accelerator = self._members[0].accelerator

    def classify(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Inference:
        """Classify one tensor of the model's shape and dtype on an idle instance, waiting for one if need be."""
        member = self._idle.get()
        try:
            return member.classify(tensor)
        finally:
            self._idle.put(member)

    def close(self) -> None:
        """Close all members; safe to call twice."""
        for member in self._members:
            member.close()
