"""Which pixels a model is fed when its author said nothing, or nothing that can be meant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.model.normalisation import IMAGENET, PIXELS, SYMMETRIC, UNIT, Written, decide_preparation
from edge_classifierd.model.options import ModelOptions
from edge_classifierd.model.tflite.leading_arithmetic import GraphHead
from edge_classifierd.model.tflite.metadata import Normalisation
from edge_classifierd.model.tflite.tensor_spec import TensorSpec


def tensor(dtype: str, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec("image", (1, 8, 8, 3), dtype, scale, zero_point)  # type: ignore[arg-type]


def choose_normalisation(spec: TensorSpec, written: Normalisation | None) -> Normalisation:
    return decide_preparation(spec, written=None if written is None else Written(written, "its metadata")).normalisation


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


def test_a_float_model_uses_the_metadata() -> None:
    assert choose_normalisation(tensor("float32"), Normalisation((0.0,), (1.0,))) == Normalisation((0.0,), (1.0,))


@given(st.sampled_from(["uint8", "int8"]), st.floats(1e-4, 10), st.integers(0, 255))
def test_no_quantised_model_wastes_most_of_its_range(dtype: str, scale: float, zero: int) -> None:
    spec = tensor(dtype, scale, zero - (128 if dtype == "int8" else 0))
    values = quantised(spec, choose_normalisation(spec, None))
    assert values[-1] - values[0] > 200
    assert len(np.unique(values)) > 200


@pytest.mark.parametrize(
    ("scale", "offset", "expected"),
    [
        ((1 / 255,), (0.0,), PIXELS),  # Keras: Rescaling(1/255)
        ((1 / 127.5,), (-1.0,), PIXELS),  # Keras: MobileNet's preprocess_input
        ((0.017125, 0.017507, 0.017429), (-2.117904, -2.035714, -1.804444), PIXELS),  # ImageNet's mean and deviation
        ((1.0,), (-123.68, -116.78, -103.94), PIXELS),  # Caffe
        ((0.5,), (0.5,), SYMMETRIC),
        ((2.0,), (-1.0,), UNIT),
        ((4.367, 4.464, 4.444), (-2.118, -2.036, -1.804), UNIT),
        ((0.02,), (-0.3,), PIXELS),  # a learned batch normalisation of pixels
    ],
)
def test_arithmetic_in_the_graph_shows_the_pixels_it_is_made_for(
    scale: tuple[float, ...], offset: tuple[float, ...], expected: Normalisation
) -> None:
    decided = decide_preparation(tensor("float32"), head=GraphHead(scale, offset, arithmetic=True, filter_norm=0.6))
    assert (decided.normalisation, decided.decided_by) == (expected, "graph")
    assert "its graph begins with" in decided.reason


def test_arithmetic_that_suits_no_usual_pixels_decides_nothing() -> None:
    head = GraphHead((4.0,), (-2.0,), arithmetic=True, filter_norm=0.6)
    assert decide_preparation(tensor("float32"), head=head).decided_by == "guess"


@pytest.mark.parametrize(
    ("shape", "name", "norm", "expected"),
    [
        ((1, 8, 8, 3), "image", 0.6, SYMMETRIC),
        ((1, 8, 8, 3), "image", None, SYMMETRIC),
        ((1, 8, 8, 3), "image", 0.002, PIXELS),
        ((1, 8, 8, 1), "image", 0.6, UNIT),
        ((1, 28, 28), "image", 0.6, UNIT),
        ((1, 3, 8, 8), "image", 0.6, UNIT),
        ((1, 8, 8, 3), "serving_default_x:0", 0.6, UNIT),
    ],
)
def test_without_any_hint_the_likeliest_pixels_are_a_guess(
    shape: tuple[int, ...], name: str, norm: float | None, expected: Normalisation
) -> None:
    spec = TensorSpec(name, shape, "float32", 0.0, 0)
    decided = decide_preparation(spec, head=GraphHead((1.0,), (0.0,), arithmetic=False, filter_norm=norm))
    assert (decided.normalisation, decided.decided_by) == (expected, "guess")


def test_options_come_before_everything_else() -> None:
    written = Written(UNIT, "its metadata")
    options = ModelOptions(mean=(1.0, 2.0, 3.0), std=(4.0,), channels="bgr")
    decided = decide_preparation(tensor("float32"), options=options, written=written)
    assert decided.normalisation == Normalisation((1.0, 2.0, 3.0), (4.0,), "bgr")
    assert decided.decided_by == "options"


def test_the_order_of_channels_alone_leaves_the_rest_to_the_file() -> None:
    decided = decide_preparation(
        tensor("float32"), options=ModelOptions(channels="bgr"), written=Written(UNIT, "its metadata")
    )
    assert decided.normalisation == Normalisation((0.0,), (255.0,), "bgr")
    assert decided.decided_by == "metadata"


def test_a_symmetric_int16_input_leaves_the_pixels_open() -> None:
    spec = TensorSpec("x", (1, 8, 8, 3), "int16", 1 / 32767, 0)
    assert decide_preparation(spec).decided_by == "guess"
    wide = TensorSpec("x", (1, 8, 8, 3), "int16", 2.64 / 32767, 0)
    assert decide_preparation(wide).normalisation.mean[0] >= 0


def test_the_range_to_which_the_graph_quantises_decides() -> None:
    head = GraphHead((1.0,), (0.0,), arithmetic=False, filter_norm=None, quantised_range=(0.0, 0.998))
    decided = decide_preparation(tensor("float32"), head=head)
    assert (decided.normalisation, decided.decided_by) == (UNIT, "quantisation")
