"""The CPU version of a compiled model: which file it may be, and when its answers agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_classifierd.errors import ModelError
from edge_classifierd.inference.edgetpu.cpu_fallback import agrees, check_cpu_model
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.bundle import ModelBundle


def test_a_cpu_model_that_is_another_model_is_refused(pair: tuple[ModelBundle, ModelBundle], tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("red\ngreen\nviolet\n")
    with pytest.raises(ModelError, match=r"has the label `violet` where .* has `blue`"):
        make_classifier(pair[0], cpu_bundle=load_bundle(pair[1].path, other))
    with pytest.raises(ModelError, match="compiled for the Edge TPU too"):
        make_classifier(pair[0], cpu_bundle=pair[0])


@pytest.mark.parametrize("name", ["mobilenet_v1_0.75_192_quant", "mobilenet_v1_0.25_128_quant"])
def test_corals_pairs_of_models_are_accepted(shared: Path, name: str) -> None:
    folder = shared / "data/coral"
    labels = folder / "imagenet_labels.txt"
    compiled, plain = (load_bundle(folder / f"{name}{end}.tflite", labels) for end in ("_edgetpu", ""))
    check_cpu_model(compiled, plain)


def test_nearly_equal_labels_agree_and_others_do_not() -> None:
    assert agrees(np.array([0.52, 0.48], np.float32), np.array([0.46, 0.54], np.float32))
    assert not agrees(np.array([0.52, 0.48], np.float32), np.array([0.40, 0.60], np.float32))
