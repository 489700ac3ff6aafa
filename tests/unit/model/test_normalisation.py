"""Which pixels a model is fed when its author said nothing, or nothing that can be meant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.model.normalisation import IMAGENET, choose_normalisation
from edge_classifierd.model.tflite.metadata import Normalisation
from edge_classifierd.model.tflite.signature import TensorSpec


def tensor(dtype: str, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec("image", (1, 8, 8, 3), dtype, scale, zero_point)  # type: ignore[arg-type]


def quantised(spec: TensorSpec, normalisation: Normalisation) -> np.ndarray:
    """What preprocessing puts into the tensor for the pixels 0 to 255."""
    pixels = np.arange(256)
    real = (pixels - normalisation.mean[0]) / normalisation.std[0]
    low = -128 if spec.dtype == "int8" else 0
    return np.clip(np.rint(real / spec.scale) + spec.zero_point, low, low + 255) - low


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        (tensor("uint8", 1 / 128, 128), None),
        (tensor("uint8", 1 / 128, 128), Normalisation((127.5,), (127.5,))),  # Coral's own metadata
        (tensor("uint8", 1 / 127.5, 127), None),
        (tensor("uint8", 1 / 127.5, 128), None),
        (tensor("int8", 1 / 127.5, -1), None),
        (tensor("int8", 1 / 128, -1), Normalisation((127.0,), (128.0,))),
        (tensor("int8", 1 / 128, 0), None),
        (tensor("uint8", 1 / 255, 0), None),
        (tensor("int8", 1 / 255, -128), None),
        (tensor("uint8", 1.0, 0), None),
        (tensor("int8", 1.0, -128), None),
        (tensor("int8", 1.0, 0), None),
        (tensor("uint8", 1 / 128, 128), Normalisation((0.0,), (1.0,))),  # the placeholder
        (tensor("uint8", 1.0, 0), Normalisation((0.0,), (255.0,))),  # would use two of the 256 values
        (tensor("uint8", 0.3, 40), None),  # a range nobody knows
    ],
)
def test_pixel_goes_in_as_it_is(spec: TensorSpec, written: Normalisation | None) -> None:
    assert (quantised(spec, choose_normalisation(spec, written)) == np.arange(256)).all()


def test_range_calibrated_with_few_pictures_means_the_nominal_one() -> None:
    spec = tensor("int8", 1.93 / 255, -2)  # about [-0.954, 0.977]
    assert choose_normalisation(spec, None) == Normalisation((127.5,), (127.5,))


def test_range_of_imagenets_statistics_means_them() -> None:
    assert choose_normalisation(tensor("uint8", 0.01866, 114), None) == IMAGENET
    assert choose_normalisation(tensor("int8", 0.0185, -13), None) == IMAGENET


def test_written_statistics_of_each_channel_are_kept() -> None:
    written = Normalisation((123.0, 117.0, 104.0), (58.0, 57.0, 57.5))
    assert choose_normalisation(tensor("uint8", 0.01866, 114), written) == written
    assert choose_normalisation(tensor("float32"), written) == written


def test_float_model_without_metadata_wants_minus_one_to_one() -> None:
    assert choose_normalisation(tensor("float32"), None) == Normalisation((127.5,), (127.5,))


def test_float_model_keeps_whatever_is_written() -> None:
    assert choose_normalisation(tensor("float32"), Normalisation((0.0,), (1.0,))) == Normalisation((0.0,), (1.0,))


@given(st.sampled_from(["uint8", "int8"]), st.floats(1e-4, 10), st.integers(0, 255))
def test_no_quantised_model_wastes_most_of_its_range(dtype: str, scale: float, zero: int) -> None:
    spec = tensor(dtype, scale, zero - (128 if dtype == "int8" else 0))
    values = quantised(spec, choose_normalisation(spec, None))
    assert values[-1] - values[0] > 200
    assert len(np.unique(values)) > 200
