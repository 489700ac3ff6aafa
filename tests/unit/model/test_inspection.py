"""What `models info` says of a file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.inspection import _is_identity, inspect
from edge_classifierd.model.tflite.metadata import Normalisation
from edge_classifierd.model.tflite.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bundled_model_is_described_as_it_is() -> None:
    found = inspect(bundled_model_path())
    assert found.operators is not None
    assert found.operators["CONV_2D"] == 33
    # EfficientNet-Lite0 has 407 million multiply-adds by its authors' count, which includes the element-wise ones.
    assert found.multiply_adds is not None
    assert 380e6 < found.multiply_adds < 410e6
    assert found.labels is not None
    assert len(found.labels) == 1000
    assert "less 128 as it is, as int8" in found.preparation
    assert not found.edgetpu_compiled


def test_corals_models_get_the_pixel_as_it_is_despite_their_metadata(shared: Path) -> None:
    found = inspect(shared / "data/coral/mobilenet_v2_1.0_224_quant.tflite")
    assert "each pixel as it is, as uint8" in found.preparation
    assert "whatever mean and deviation" in found.reason
    assert found.multiply_adds is not None
    assert abs(found.multiply_adds - 300e6) < 10e6  # 300 million, by the paper


def test_compiled_models_hide_their_work_and_extractors_have_no_labels(shared: Path) -> None:
    folder = shared / "data/coral"
    compiled = inspect(folder / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert (compiled.edgetpu_compiled, compiled.multiply_adds) == (True, None)
    assert compiled.operators == {"edgetpu-custom-op": 1}
    extractor = inspect(folder / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite")
    assert extractor.labels is None
    assert "carries no labels" in str(extractor.labels_trouble)


@pytest.mark.parametrize(
    ("quantised", "normalisation", "identity"),
    [
        (("uint8", 1 / 128, 128), (128.0, 128.0), True),
        (("int8", 1 / 128, -1), (127.0, 128.0), True),
        (("uint8", 1 / 255, 0), (0.0, 255.0), True),
        (("uint8", 1 / 128, 128), (0.0, 255.0), False),
        (("int8", 0.0186, -14), (127.5, 127.5), False),
    ],
)
def test_the_pixel_itself_is_claimed_exactly_when_quantising_gives_it_back(
    quantised: tuple[str, float, int], normalisation: tuple[float, float], identity: bool
) -> None:
    (dtype, scale, zero_point), (mean, std) = quantised, normalisation
    tensor = TensorSpec("x", (1, 8, 8, 3), dtype, scale, zero_point)  # type: ignore[arg-type]
    assert _is_identity(tensor, Normalisation((mean,), (std,))) is identity
    pixels = np.arange(256)
    limits = (0, 255) if dtype == "uint8" else (-128, 127)
    stored = np.clip(np.round((pixels - mean) / std / scale) + zero_point, *limits)
    assert bool((stored == pixels - (128 if dtype == "int8" else 0)).all()) is identity


def test_info_agrees_with_what_the_daemon_uses() -> None:
    path = bundled_model_path()
    assert inspect(path).normalisation == load_bundle(path).normalisation
    assert dataclasses.asdict(inspect(path).metadata) == dataclasses.asdict(load_bundle(path).metadata)


def test_a_file_that_is_no_model_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=r"x\.tflite: is not a TensorFlow Lite model"):
        inspect(tmp_path / "x.tflite")
