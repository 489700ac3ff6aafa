"""The CPU twin: the CPU version of a model compiled for the Edge TPU, that answers while the TPU cannot."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.inference.base import Classifier, Inference
    from edge_classifierd.model.bundle import ModelBundle

_NEARLY_TOP: Final = 0.1


class CpuFallback:
    """A classifier on the CPU for any number of threads, one at a time. Raises what it raises."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._lock = threading.Lock()
        self.runtime = classifier.runtime

    def classify(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Inference:
        """Classify one tensor of the model's shape and dtype."""
        with self._lock:
            return self._classifier.classify(tensor)

    def close(self) -> None:
        """Release the model; safe to call twice."""
        with self._lock:
            self._classifier.close()


def agrees(confidences: NDArray[np.float32], twins: NDArray[np.float32]) -> bool:
    """Whether an accelerator's top label is the twin's, or within 0.1 of the twin's best: near ties may fall apart."""
    return bool(twins[int(np.argmax(confidences))] >= twins.max() - _NEARLY_TOP)


def check_twin(compiled: ModelBundle, twin: ModelBundle) -> None:
    """Raises ModelError when `twin` (`cpu_model`) cannot stand in for `compiled`: other input, other labels."""
    if twin.edgetpu_compiled:
        raise ModelError(
            f"{twin.path}: is compiled for the Edge TPU too; `cpu_model` is the file without `_edgetpu` in its name"
        )
    for what, one, other in (
        ("takes", _shape(compiled), _shape(twin)),
        ("has", f"{len(compiled.labels):,} labels", f"{len(twin.labels):,} labels"),
        ("prepares pictures with", _preparation(compiled), _preparation(twin)),
    ):
        if one != other:
            raise ModelError(
                f"{twin.path}: {what} {other}, but {compiled.path} {one}; give the same model's CPU version"
            )
    differing = next(
        (pair for pair in zip(compiled.labels.names, twin.labels.names, strict=True) if pair[0] != pair[1]), None
    )
    if differing:
        raise ModelError(
            f"{twin.path}: has the label `{differing[1]}` where {compiled.path} has `{differing[0]}`; "
            "give the same model's CPU version"
        )


def _shape(bundle: ModelBundle) -> str:
    height, width = bundle.input.shape[1:3]
    return f"{width}x{height} pixels as {bundle.input.dtype}"


def _preparation(bundle: ModelBundle) -> str:
    tensor, normalisation = bundle.input, bundle.normalisation
    mean, std = (",".join(f"{value:.3g}" for value in values) for values in (normalisation.mean, normalisation.std))
    return f"scale {tensor.scale:.3g}, zero point {tensor.zero_point}, mean {mean}, deviation {std}"
