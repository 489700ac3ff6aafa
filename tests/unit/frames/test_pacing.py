from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.frames.pacing import FixedRate, OwnPace


def test_a_fixed_rate_spaces_pictures_evenly_for_a_reader_that_keeps_up() -> None:
    rate, now_s, shown_s = FixedRate(4.0), 50.0, []
    for _ in range(5):
        now_s += rate.delay_s(now_s)
        shown_s.append(now_s)
        now_s += 0.1  # the reader's own work
    assert shown_s == pytest.approx([50.0, 50.25, 50.5, 50.75, 51.0])


def test_a_late_reader_gets_no_burst() -> None:
    rate = FixedRate(10.0)
    assert rate.delay_s(0.0) == 0.0
    assert rate.delay_s(5.0) == 0.0
    assert rate.delay_s(5.0) == pytest.approx(0.1)


def test_no_rate_means_no_delay() -> None:
    rate = FixedRate(None)
    assert [rate.delay_s(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_own_pace_follows_uneven_timestamps_and_catches_up_with_a_small_delay() -> None:
    pace = OwnPace()
    assert pace.delay_s(10.0, 3.0, 0.04) == 0.0
    assert pace.delay_s(10.0, 3.5, 0.04) == pytest.approx(0.5)
    assert pace.delay_s(10.9, 3.6, 0.04) == 0.0  # 0.3 s late
    assert pace.delay_s(10.9, 4.0, 0.04) == pytest.approx(0.1)


def test_own_pace_forgets_a_long_delay() -> None:
    pace = OwnPace()
    pace.delay_s(10.0, 0.0, 0.04)
    assert pace.delay_s(60.0, 1.0, 0.04) == 0.0
    assert pace.delay_s(60.0, 1.5, 0.04) == pytest.approx(0.5)


@pytest.mark.parametrize("damaged_s", [None, 1.0, 100000.0])
def test_own_pace_takes_the_usual_distance_where_timestamps_are_damaged(damaged_s: float | None) -> None:
    pace = OwnPace()
    pace.delay_s(10.0, 5.0, 0.2)
    assert pace.delay_s(10.0, damaged_s, 0.2) == pytest.approx(0.2)


def test_a_video_that_begins_again_keeps_its_distance() -> None:
    pace = OwnPace()
    pace.delay_s(10.0, 0.0, 0.5)
    pace.restart()
    assert pace.delay_s(10.0, 0.0, 0.5) == pytest.approx(0.5)


@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), max_size=50), st.sampled_from([None, 0.04]))
def test_own_pace_never_waits_long_whatever_the_timestamps(times_s: list[float | None], period_s: float | None) -> None:
    pace, now_s = OwnPace(), 0.0
    for time_s in times_s:
        delay_s = pace.delay_s(now_s, time_s, period_s)
        assert 0.0 <= delay_s <= 10.1
        now_s += delay_s
