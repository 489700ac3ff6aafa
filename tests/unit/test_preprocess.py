from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_classifierd.model.tflite.metadata import Normalisation
from edge_classifierd.model.tflite.tensor_spec import TensorSpec
from edge_classifierd.preprocess import Preprocessor, Quantiser, Region, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

UINT8 = TensorSpec("input", (1, 16, 16, 3), "uint8", 1 / 128, 128)
CORAL = Normalisation((128.0,), (128.0,))


def spec(height: int, width: int, dtype: str = "uint8", scale: float = 1 / 128, zero_point: int = 128) -> TensorSpec:
    return TensorSpec("input", (1, height, width, 3), dtype, scale, zero_point)


def picture(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def smooth(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with a different course of every channel, so that a swapped axis or channel shows."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3)).astype(np.float64)
    return np.rint(slow_resize(coarse, height, width)).astype(np.uint8)


def slow_resize(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """The obvious mean over the area that a target pixel covers, where source pixels count as far as they lie in it.

    That is a bilinear resize where the picture is enlarged. Beyond the border the outermost pixel goes on.
    """

    def weights(source: int, target: int) -> NDArray[np.float64]:
        scale = source / target
        centres = (np.arange(target) + 0.5) * scale - 0.5
        positions = np.arange(-source, 2 * source)
        distances = np.abs(positions[None, :] - centres[:, None])
        overlap = np.clip((max(scale, 1.0) + 1) / 2 - distances, 0.0, 1.0)
        inside = np.zeros((target, source))
        for column, position in enumerate(positions):
            inside[:, min(max(position, 0), source - 1)] += overlap[:, column]
        return inside / inside.sum(axis=1, keepdims=True)

    rows, columns = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    return np.einsum("ai,ijc,bj->abc", rows, pixels.astype(np.float64), columns, optimize=True)


def slow_reference(
    pixels: NDArray[np.uint8], size: tuple[int, int], view: View, fit: str, crop_fraction: float
) -> NDArray[np.float64]:
    """Turn, mirror, cut, fit, resize: every step on the whole picture, in the order a person would name them."""
    height, width = size
    pixels = np.rot90(pixels, -(view.rotation // 90))
    if view.mirror in {"horizontal", "both"}:
        pixels = np.fliplr(pixels)
    if view.mirror in {"vertical", "both"}:
        pixels = np.flipud(pixels)
    full_height, full_width, _ = pixels.shape
    region = view.region
    left, right = round(region.x * full_width), round((region.x + region.width) * full_width)
    top, bottom = round(region.y * full_height), round((region.y + region.height) * full_height)
    pixels = pixels[top:bottom, left:right]
    if fit == "stretch":
        return slow_resize(pixels, height, width)
    if fit == "letterbox":
        scale = min(height / pixels.shape[0], width / pixels.shape[1])
        inner = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
        canvas = np.full((height, width, 3), 128.0)
        y, x = (height - inner[0]) // 2, (width - inner[1]) // 2
        canvas[y : y + inner[0], x : x + inner[1]] = slow_resize(pixels, *inner)
        return canvas
    scale = min(pixels.shape[0] / height, pixels.shape[1] / width) * crop_fraction
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    y, x = (pixels.shape[0] - inner[0]) // 2, (pixels.shape[1] - inner[1]) // 2
    return slow_resize(pixels[y : y + inner[0], x : x + inner[1]], height, width)


regions = st.sampled_from(
    [Region(), Region(0.1, 0.2, 0.8, 0.7), Region(0.5, 0.0, 0.5, 0.5), Region(0.25, 0.3, 0.4, 0.6)]
)
views = st.builds(
    View, st.sampled_from([0, 90, 180, 270]), st.sampled_from(["none", "horizontal", "vertical", "both"]), regions
)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(100, 200), st.integers(100, 200)),
    st.tuples(st.integers(16, 60), st.integers(16, 60)),
    views,
    st.sampled_from(["crop", "letterbox", "stretch"]),
    st.sampled_from([1.0, 0.875, 0.5]),
)
def test_equals_the_slow_obvious_reference(
    source_size: tuple[int, int], size: tuple[int, int], view: View, fit: Any, crop_fraction: float
) -> None:
    pixels = smooth(*source_size)
    height, width = size
    prepare = Preprocessor(spec(height, width), CORAL, fit=fit, crop_fraction=crop_fraction, view=view)
    tensor = prepare(picture(pixels))
    assert tensor.shape == (1, height, width, 3)
    assert tensor.dtype == np.uint8
    assert tensor.flags["C_CONTIGUOUS"]
    difference = np.abs(tensor[0].astype(np.float64) - slow_reference(pixels, size, view, fit, crop_fraction))
    # swscale works with 14-bit coefficients through YUV: a level or two of 255, more only at hard letterbox edges.
    assert difference.mean() < 0.5
    assert difference.max() < 4


@pytest.mark.parametrize(
    ("source_size", "size"),
    [((480, 480), (224, 224)), ((97, 131), (40, 40)), ((300, 300), (224, 224)), ((50, 50), (96, 96))],
)
def test_every_pixel_of_noise_counts_as_far_as_it_is_covered(
    source_size: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*source_size, 3)).astype(np.uint8)
    tensor = Preprocessor(spec(*size), CORAL)(picture(pixels))
    assert np.abs(tensor[0] - slow_reference(pixels, size, View(), "crop", 1.0)).max() < 1.5


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "nv12", "yuyv422", "yuv444p", "bgr24", "rgba", "gbrp"])
@pytest.mark.parametrize(
    "view", [View(), View(90, "horizontal", Region(0.1, 0.2, 0.8, 0.7)), View(180, "none", Region(0.25, 0.0, 0.5, 1.0))]
)
def test_every_pixel_format_gives_the_picture_that_rgb_gives(pixel_format: str, view: View) -> None:
    pixels = smooth(96, 128)
    converted = picture(pixels).reformat(format=pixel_format)
    back = converted.to_ndarray(format="rgb24")
    prepare = Preprocessor(spec(48, 48), CORAL, view=view)
    difference = np.abs(prepare(converted)[0].astype(float) - slow_reference(back, (48, 48), view, "crop", 1.0))
    assert difference.mean() < 2.0
    assert difference.max() < 12


@pytest.mark.parametrize(
    "pixel_format",
    ["yuv420p", "yuyv422", "nv12", "nv21", "nv16", "p010le", "yuv420p10le", "yuv422p10le", "y210le"],
)
@pytest.mark.parametrize("width", [128, 130, 132, 134])
def test_a_cut_keeps_its_colours_wherever_it_begins(pixel_format: str, width: int) -> None:
    pixels = smooth(96, width)
    converted = picture(pixels).reformat(format=pixel_format)
    prepare = Preprocessor(spec(48, 48), CORAL)
    reference = slow_reference(converted.to_ndarray(format="rgb24"), (48, 48), View(), "crop", 1.0)
    difference = np.abs(prepare(converted)[0].astype(float) - reference)
    assert difference.mean() < 4.0  # some are cut one column beside
    assert difference.max() < 20


def test_grey_pictures_become_grey_rgb() -> None:
    grey = av.VideoFrame.from_ndarray(np.full((40, 40), 77, np.uint8), format="gray")
    tensor = Preprocessor(spec(16, 16), CORAL)(grey)
    assert np.abs(tensor.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "rgb24"])
@pytest.mark.parametrize("width", [36, 97, 100, 103, 104])
def test_a_picture_that_needs_no_scaling_is_whole(pixel_format: str, width: int) -> None:
    even = picture(np.full((50, width, 3), 200, np.uint8)).reformat(format=pixel_format)
    prepare = Preprocessor(spec(50, width), CORAL, fit="stretch")
    for _ in range(3):
        litter = [np.full(50 * width * 3, 7, np.uint8) for _ in range(20)]  # what memory may hold
        del litter
        assert np.abs(prepare(even).astype(int) - 200).max() <= 3


def test_channels_stay_red_green_blue() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[...] = (250, 120, 10)
    for pixel_format in ("rgb24", "bgr24", "yuv420p"):
        converted = picture(pixels).reformat(format=pixel_format)
        tensor = Preprocessor(UINT8, CORAL)(converted)
        assert np.abs(tensor[0, 8, 8].astype(int) - (250, 120, 10)).max() <= 3


def test_a_tiny_picture_is_enlarged() -> None:
    tensor = Preprocessor(spec(32, 32), CORAL)(picture(np.full((1, 1, 3), 9, np.uint8)))
    assert (tensor == 9).all()


def test_a_region_thinner_than_a_pixel_still_gives_a_pixel() -> None:
    prepare = Preprocessor(UINT8, CORAL, view=View(region=Region(0.999, 0.999, 0.001, 0.001)))
    assert prepare(picture(np.full((20, 20, 3), 33, np.uint8))).shape == (1, 16, 16, 3)


def test_pictures_of_changing_size_and_format_follow_one_another() -> None:
    prepare = Preprocessor(UINT8, CORAL, fit="crop")
    for (height, width), pixel_format in itertools.product([(120, 270), (270, 120), (133, 135)], ["rgb24", "yuv420p"]):
        converted = picture(smooth(height, width)).reformat(format=pixel_format)
        back = converted.to_ndarray(format="rgb24")
        difference = prepare(converted)[0].astype(float) - slow_reference(back, (16, 16), View(), "crop", 1.0)
        assert np.abs(difference).mean() < 3


def test_pictures_of_many_sizes_in_turn_give_what_each_gives_alone() -> None:
    """More sizes than swscale's tables are kept for."""
    prepare = Preprocessor(spec(24, 24), Normalisation((0.0,), (1.0,)))
    pictures = [picture(smooth(40 + 6 * n, 61 + 9 * n, n)).reformat(format="yuv420p", threads=1) for n in range(6)]
    alone = [Preprocessor(spec(24, 24), Normalisation((0.0,), (1.0,)))(one) for one in pictures]
    for _ in range(3):
        for one, expected in zip(pictures, alone, strict=True):
            assert (prepare(one) == expected).all()


def test_tensors_own_their_memory() -> None:
    prepare = Preprocessor(UINT8, CORAL)
    first = prepare(picture(np.full((30, 30, 3), 10, np.uint8)))
    prepare(picture(np.full((30, 30, 3), 200, np.uint8)))
    assert (first == 10).all()


def test_the_bundled_models_input_flips_one_bit() -> None:
    quantise = Quantiser(spec(1, 256, "int8", 1 / 128, -1), Normalisation((127.0,), (128.0,)))
    pixels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    tensor = quantise(pixels)
    assert tensor.dtype == np.int8
    assert (tensor.view(np.uint8)[0] == pixels ^ 0x80).all()


@given(
    st.sampled_from(["uint8", "int8", "float32"]),
    st.floats(0.001, 2.0),
    st.integers(-128, 127),
    st.one_of(
        st.tuples(st.floats(0, 255)),
        st.tuples(st.floats(0, 255), st.floats(0, 255), st.floats(0, 255)),
    ),
    st.floats(0.5, 255),
)
def test_values_are_normalised_and_quantised_as_written(
    dtype: str, scale: float, zero_point: int, mean: tuple[float, ...], std: float
) -> None:
    zero_point += 128 if dtype == "uint8" else 0
    quantise = Quantiser(spec(16, 16, dtype, scale, zero_point), Normalisation(mean, (std,)))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    real = (pixels - np.broadcast_to(mean, 3)) / std
    tensor = quantise(np.asfortranarray(pixels))
    assert tensor.dtype == dtype
    if dtype == "float32":
        assert tensor[0] == pytest.approx(real, abs=1e-3)
    else:
        limits = np.iinfo(dtype)
        expected = np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max)
        assert (tensor[0].astype(np.float64) == expected).all()


def test_letterbox_bars_have_the_colour_that_the_model_sees_as_zero() -> None:
    prepare = Preprocessor(
        spec(16, 16, "float32", 0.0, 0), Normalisation((100.0, 50.0, 25.0), (10.0,)), fit="letterbox"
    )
    tensor = prepare(picture(np.full((8, 32, 3), 255, np.uint8)))
    assert tensor[0, 0, 0] == pytest.approx(0.0)
    assert tensor[0, 8, 8] == pytest.approx([15.5, 20.5, 23.0], abs=0.2)


@pytest.mark.parametrize("marked", [90, -90, 180])
def test_a_pictures_own_orientation_mark_is_honoured(marked: int) -> None:
    class Marked:
        """The one attribute that `quarter_turns` reads; PyAV lets nobody set it."""

        rotation = marked

    turns = View().quarter_turns(Marked())  # type: ignore[arg-type]
    assert turns == (-marked // 90) % 4


@pytest.mark.parametrize(
    ("options", "size", "needed"),
    [
        ({}, (1280, 720), (399, 224)),
        ({"crop_fraction": 0.875}, (1280, 720), (456, 256)),
        ({"fit": "stretch"}, (1280, 720), (399, 224)),
        ({"fit": "letterbox"}, (1280, 720), (224, 126)),
        ({"view": View(rotation=90)}, (1280, 720), (399, 224)),
        ({"view": View(region=Region(0.5, 0.0, 0.5, 1.0))}, (1280, 720), (448, 252)),
        ({"view": View(rotation=90, region=Region(0.0, 0.5, 1.0, 0.25))}, (1280, 720), (896, 504)),
        ({}, (100, 80), (100, 80)),
    ],
)
def test_what_a_camera_may_scale_down_beforehand_leaves_the_model_all_its_pixels(
    options: dict[str, Any], size: tuple[int, int], needed: tuple[int, int]
) -> None:
    preprocess = Preprocessor(spec(224, 224), CORAL, **options)
    assert preprocess.needs(*size) == needed


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch"])
def test_a_picture_scaled_down_beforehand_looks_the_same_to_the_model(fit: Any) -> None:
    preprocess = Preprocessor(spec(48, 64), CORAL, fit=fit)
    large = smooth(360, 640)
    width, height = preprocess.needs(640, 360)
    assert width < 320
    small = np.rint(slow_resize(large, height, width)).astype(np.uint8)
    difference = np.abs(preprocess(picture(small)).astype(int) - preprocess(picture(large)).astype(int))
    assert difference.mean() < 1.5


def test_a_greyscale_tensor_holds_the_luma_as_pillow_computes_it() -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    quantise = Quantiser(TensorSpec("x", (1, 5, 7, 1), "uint8", 1.0, 0), Normalisation((0.0,), (1.0,)))
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(quantise(pixels)[0, ..., 0], expected)
    plane = Quantiser(TensorSpec("x", (1, 5, 7), "float32", 0.0, 0), Normalisation((0.0,), (255.0,)))(pixels)
    np.testing.assert_allclose(plane[0], expected / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("float32", 0.0, 0), ("uint8", 1 / 128, 128), ("int8", 0.02, -10), ("int16", 3 / 32767, 0)],
)
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("channels_first", [True, False])
def test_layout_and_order_of_channels_only_move_the_values(
    dtype: str, scale: float, zero_point: int, channels: str, channels_first: bool
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    shape = (1, 3, 4, 6) if channels_first else (1, 4, 6, 3)
    normalisation = Normalisation((120.0, 110.0, 100.0), (60.0, 50.0, 40.0), channels)
    made = Quantiser(TensorSpec("x", shape, dtype, scale, zero_point), normalisation)(pixels)
    assert (made.shape, made.dtype, made.flags.c_contiguous) == (shape, np.dtype(dtype), True)
    ordered = pixels[..., ::-1] if channels == "bgr" else pixels
    real = (ordered - np.array(normalisation.mean)) / np.array(normalisation.std)
    if dtype != "float32":
        limits = np.iinfo(dtype)
        real = np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max)
    seen = made[0].transpose(1, 2, 0) if channels_first else made[0]
    np.testing.assert_allclose(seen, real, atol=1e-4)


def test_letterbox_bars_have_the_mean_in_the_order_of_the_model() -> None:
    spec_ = TensorSpec("x", (1, 4, 4, 3), "uint8", 1.0, 0)
    quantise = Quantiser(spec_, Normalisation((10.0, 20.0, 30.0), (1.0,), "bgr"))
    assert quantise.canvas(1, 1)[0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("pixel_format", ["rgb24", "yuv420p"])
def test_a_part_of_a_frame_gives_the_tensor_that_a_view_of_it_gives(pixel_format: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (120, 200, 3), np.uint8)
    frame = picture(pixels) if pixel_format == "rgb24" else picture(pixels).reformat(format=pixel_format)
    part = Region(0.25, 0.5, 0.25, 0.5)
    whole = Preprocessor(spec(32, 32), CORAL, view=View(rotation=90, region=Region(0.1, 0.1, 0.9, 0.9)))
    expected = Preprocessor(spec(32, 32), CORAL, view=View(rotation=90, region=part))
    assert (whole(frame, part) == expected(frame)).all()
    assert whole.needs(200, 120, part) == expected.needs(200, 120)
    assert not (whole(frame) == expected(frame)).all()
