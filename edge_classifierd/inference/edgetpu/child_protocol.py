"""The first message to the child process, and the layout of the memory that it shares with its parent."""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.inspection import Inspection
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Delegate:
    """The delegate that the child loads."""

    library: str
    options: Mapping[str, str] = field(default_factory=dict)
    device_path: str = ""
    """The device's path in libedgetpu's list, from which the child finds its number."""
    coral: bool = False
    """Create it with Coral's `pycoral`, where that is installed; `library` is then what `pycoral` loads."""


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """A model's tensors in shared memory: the input at its beginning, the output behind it."""

    bundle: ModelBundle | Inspection
    output_offset: int
    size: int
    """Total size in bytes."""

    @classmethod
    def of(cls, bundle: ModelBundle | Inspection) -> TensorLayout:
        """Return the layout for a model."""
        output_offset = -(-_size(bundle.input) // 64) * 64
        return cls(bundle, output_offset, output_offset + _size(bundle.output))

    def views(self, memory: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the input and the flat output in the memory of this descriptor; they keep the mapping open."""
        shared = mmap.mmap(memory, self.size)
        shape, output = self.bundle.input.shape, self.bundle.output
        return (
            np.frombuffer(shared, self.bundle.input.dtype, math.prod(shape)).reshape(shape),
            np.frombuffer(shared, output.dtype, math.prod(output.shape), self.output_offset),
        )

    def order(self, threads: int, delegate: Delegate | None) -> bytes:
        """Return the first message to the child, in JSON."""
        bundle = self.bundle
        return json.dumps(
            {
                "path": str(bundle.path.absolute()),
                "threads": threads,
                "library": None if delegate is None else delegate.library,
                "options": {} if delegate is None else dict(delegate.options),
                "coral": delegate is not None and delegate.coral,
                "device_path": "" if delegate is None else delegate.device_path,
                "memory": self.size,
                "input": {"shape": bundle.input.shape, "dtype": bundle.input.dtype},
                "output": {"shape": bundle.output.shape, "dtype": bundle.output.dtype},
                "output_offset": self.output_offset,
                "output_position": bundle.output_position,
            }
        ).encode()


def _size(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
