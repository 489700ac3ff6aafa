"""From raw output to confidences, against the obvious formula in wide types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_classifierd.errors import InferenceError
from edge_classifierd.inference.scores import Scores, top_k
from edge_classifierd.model.tflite.tensor_spec import TensorSpec


def spec(dtype: str, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec("scores", (1, 5), dtype, scale, zero_point)  # type: ignore[arg-type]


def softmax(real: np.ndarray) -> np.ndarray:
    powers = np.exp(real - real.max())
    return powers / powers.sum()


@given(
    dtype=st.sampled_from(["uint8", "int8"]),
    scale=st.floats(1e-4, 2.0),
    zero_point=st.integers(-128, 255),
    raw=arrays.arrays(np.uint8, (1, 5)),
    kind=st.sampled_from(["softmax", "multi_label", "logits"]),
)
def test_quantised_scores_equal_the_formula(
    dtype: str, scale: float, zero_point: int, raw: np.ndarray, kind: str
) -> None:
    tensor = raw.view(dtype)
    expected = (tensor.astype(np.int64).reshape(-1) - zero_point) * scale
    if kind == "logits":
        expected = softmax(expected)
    before = tensor.copy()
    got = Scores(spec(dtype, scale, zero_point), kind).confidences(tensor)  # type: ignore[arg-type]
    assert got.dtype == np.float32
    assert got.shape == (5,)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-6)
    assert (tensor == before).all()


def test_int8_scores_rank_by_value_and_not_by_bit_pattern() -> None:
    raw = np.array([[-128, 127, -1, 0, 1]], np.int8)
    confidences = Scores(spec("int8", 1 / 256, -128), "softmax").confidences(raw)
    assert list(top_k(confidences, 5)) == [1, 4, 3, 2, 0]
    assert confidences[0] == 0.0
    assert confidences[1] == pytest.approx(255 / 256)


@pytest.mark.filterwarnings("error")
def test_huge_logits_neither_overflow_nor_warn() -> None:
    raw = np.array([[3e38, -3e38, 0.0, 3e38, -1e30]], np.float32)
    confidences = Scores(spec("float32"), "logits").confidences(raw)
    np.testing.assert_allclose(confidences, [0.5, 0, 0, 0.5, 0])
    assert raw[0, 0] == np.float32(3e38)


def test_float_probabilities_pass_unchanged_into_a_new_array() -> None:
    raw = np.array([[0.1, 0.2, 0.3, 0.4, 0.0]], np.float32)
    confidences = Scores(spec("float32"), "softmax").confidences(raw)
    assert (confidences == raw[0]).all()
    assert not np.shares_memory(confidences, raw)


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("softmax", [np.nan] * 5),  # a softmax over one of them makes all of them so
        ("logits", [0.1, np.nan, 0.3, 0.4, 0.0]),
        ("logits", [0.1, np.inf, 0.3, 0.4, 0.0]),
        ("multi_label", [0.1, np.nan, 0.3, 0.4, 0.0]),
    ],
)
def test_scores_that_are_no_numbers_are_an_error(kind: str, scores: list[float]) -> None:
    raw = np.array([scores], np.float32)
    with pytest.raises(InferenceError, match="not numbers"):
        Scores(spec("float32"), kind).confidences(raw)  # type: ignore[arg-type]


_TIED = arrays.arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@given(_TIED, st.integers(0, 70))
def test_top_k_is_best_first_and_the_lower_index_among_equals(confidences: np.ndarray, count: int) -> None:
    expected = sorted(range(confidences.size), key=lambda index: (-confidences[index], index))[:count]
    assert top_k(confidences, count).tolist() == expected
