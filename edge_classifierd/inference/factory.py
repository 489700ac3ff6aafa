"""Which classifier runs a model: the choice of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.errors import UsageError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.runtime import find_runtime

if TYPE_CHECKING:
    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.model.bundle import ModelBundle


def make_classifier(bundle: ModelBundle, device: str = "auto", threads: int = 1) -> Classifier:
    """A loaded, warmed-up classifier on `device`: `auto` or `cpu`. Raises ModelError, MissingError, InferenceError."""
    if device not in {"auto", "cpu"}:
        raise UsageError(f"device `{device}`: not supported; allowed are auto and cpu")
    return CpuClassifier(bundle, find_runtime(), threads)
