"""The CPU version of a model compiled for the Edge TPU, which classifies while the Edge TPU cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import ModelError, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.bundle import ModelBundle

_TOLERANCE: Final = 0.1


def agrees(confidences: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Return whether the Edge TPU's top label is the CPU's, or its confidence there at most 0.1 below the best."""
    return bool(expected[int(np.argmax(confidences))] >= expected.max() - _TOLERANCE)


def check_cpu_model(compiled: ModelBundle, cpu_model: ModelBundle) -> None:
    """Raise ModelError when `cpu_model` cannot replace `compiled`: another input, preparation or other labels."""
    if cpu_model.edgetpu_compiled:
        raise ModelError(
            f"{cpu_model.path}: is compiled for the Edge TPU too; `cpu_model` is the file without `_edgetpu` in its "
            "name"
        )
    for what, one, other in (
        ("takes", _shape(compiled), _shape(cpu_model)),
        ("has", counted(len(compiled.labels), "label"), counted(len(cpu_model.labels), "label")),
        ("prepares pictures with", _preparation(compiled), _preparation(cpu_model)),
    ):
        if one != other:
            raise ModelError(
                f"{cpu_model.path}: {what} {other}, but {compiled.path} {one}; give the same model's CPU version"
            )
    pairs = zip(compiled.labels.names, cpu_model.labels.names, strict=True)
    different = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if different:
        raise ModelError(
            f"{cpu_model.path}: has the label `{different[1]}` where {compiled.path} has `{different[0]}`; "
            "give the same model's CPU version"
        )


def _shape(bundle: ModelBundle) -> str:
    layout = bundle.input.layout
    return f"{layout.width}x{layout.height} pixels as {bundle.input.dtype}"


def _preparation(bundle: ModelBundle) -> str:
    tensor, normalisation = bundle.input, bundle.normalisation
    mean, std = (",".join(f"{value:.3g}" for value in values) for values in (normalisation.mean, normalisation.std))
    return f"scale {tensor.scale:.3g}, zero point {tensor.zero_point}, mean {mean}, deviation {std}"
