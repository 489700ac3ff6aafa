import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edge_classifierd.config.sections.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("14d", 14 * 86400), ("5 m", 300), (0, 0), (2.5, 2.5)],
)
def test_a_duration_is_read_as_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", "30", "5 minutes", "-5s", "1h30m", "s", "٣s", "1e3s", -1, True, None, [], float("nan"), 1e300, "9" * 12 + "d"],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_duration(written)


@given(st.integers(1, 800_000), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_formatted_duration_means_the_same(count: int, unit: str) -> None:
    seconds = parse_duration(f"{count}{unit}")
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-6)


def test_a_duration_is_formatted_in_its_largest_whole_unit() -> None:
    assert [format_duration(s) for s in (0.0, 0.25, 30.0, 90.0, 300.0, 86400.0)] == [
        "0s",
        "250ms",
        "30s",
        "90s",
        "5m",
        "1d",
    ]
