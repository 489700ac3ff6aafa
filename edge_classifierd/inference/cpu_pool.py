"""Several interpreters of one model on the CPU, which classify several frames at the same time."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Final

from edge_classifierd.inference.base import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.inference.base import Inference
    from edge_classifierd.preprocess import Tensor


_DEFAULT_INSTANCES: Final = 2
_MAX_BYTES: Final = 16_000_000
"""Size of the largest model that gets several instances by default: each holds a copy of the weights."""


def share_threads(threads: int, instances: int | None, model_bytes: int) -> tuple[int, ...]:
    """Divide `threads` among the instances of a model on the CPU.

    Args:
        threads: For all instances together.
        instances: None: two where there are two threads and the model has at most 16 MB, else one.
        model_bytes: Size of the model file.

    Returns:
        The number of threads of each instance, at least one each.
    """
    if instances is None:
        instances = min(_DEFAULT_INSTANCES, threads) if model_bytes <= _MAX_BYTES else 1
    each, rest = divmod(threads, instances)
    return tuple(max(1, each + (place < rest)) for place in range(instances))


class CpuPool(Classifier):
    """Gives each call to an idle member.

    Two frames on one core each are done sooner than one after the other on two cores: no core waits for the other at
    the end of an operator, and Python code between two inferences occupies one core only. The price: one frame takes
    longer, and each interpreter needs its own memory.
    """

    runtime = ""
    accelerator = ""

    def __init__(self, members: Sequence[Classifier]) -> None:
        """Own `members`: nobody else uses or closes them."""
        self._members = tuple(members)
        self._idle: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        for member in self._members:
            self._idle.put(member)
        self.lanes = len(self._members)
        self.runtime = self._members[0].runtime
        self.accelerator = self._members[0].accelerator

    def classify(self, tensor: Tensor) -> Inference:
        """Classify one tensor on an idle member; wait for one if all are busy. Raises InferenceError."""
        return self.run(tensor)()

    def run(self, tensor: Tensor) -> Callable[[], Inference]:
        """Like `classify`; the returned function reads the output while the member may classify the next tensor."""
        member = self._idle.get()
        try:
            return member.run(tensor)
        finally:
            self._idle.put(member)

    def close(self) -> None:
        """Close all members; may be called twice."""
        for member in self._members:
            member.close()
