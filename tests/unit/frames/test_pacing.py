from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.frames.pacing import FixedRate, OwnPace, RateLimit


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


@pytest.mark.parametrize(
    ("camera_fps", "max_fps", "expected"),
    [(30, 10, 100), (30, 20, 200), (30, 30, 300), (30, 60, 300), (30, 7, 70), (10, 10, 100), (10, 1, 10), (7, 10, 70)],
)
def test_a_rate_limit_leaves_so_many_frames_in_ten_seconds(camera_fps: int, max_fps: int, expected: int) -> None:
    limit = RateLimit(max_fps)
    jitter = (0.0, 0.004, -0.003)
    times_s = [50.0 + number / camera_fps + jitter[number % 3] for number in range(10 * camera_fps)]
    assert sum(limit.allows(time_s) for time_s in times_s) == pytest.approx(expected, rel=0.03, abs=1)


def test_a_rate_limit_gives_no_burst_after_a_pause() -> None:
    limit = RateLimit(2.0)
    assert [limit.allows(time_s) for time_s in (0.0, 0.1, 60.0, 60.1, 60.2, 60.5)] == [
        True,
        False,
        True,
        False,
        False,
        True,
    ]
