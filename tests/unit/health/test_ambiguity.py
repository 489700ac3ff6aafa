from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from health_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.health.ambiguity import HINT, AmbiguityHour

if TYPE_CHECKING:
    from collections.abc import Sequence


def record(hour: AmbiguityHour, clock: HandClock, *, minutes: int, ambiguous_of_ten: int) -> None:
    for _ in range(minutes):
        for number in range(10):
            hour.record(ambiguous=number < ambiguous_of_ten)
        clock.pass_s(60)


def test_no_frame_has_no_share(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    assert hour.share() is None
    assert hour.hint() is None


def test_advice_needs_a_whole_hour(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    record(hour, clock, minutes=58, ambiguous_of_ten=6)
    assert hour.share() == pytest.approx(0.6)
    assert hour.hint() is None
    record(hour, clock, minutes=2, ambiguous_of_ten=6)
    assert hour.hint() == HINT


def test_half_is_not_most(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    record(hour, clock, minutes=80, ambiguous_of_ten=5)
    assert hour.share() == 0.5
    assert hour.hint() is None


def test_a_few_frames_are_no_ground_for_advice(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    for _ in range(70):
        hour.record(ambiguous=True)
        clock.pass_s(60)
    assert hour.share() == 1.0
    assert hour.hint() is None


def test_the_bad_hour_is_forgotten(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    record(hour, clock, minutes=70, ambiguous_of_ten=10)
    record(hour, clock, minutes=60, ambiguous_of_ten=1)
    clock.pass_s(-1)  # still inside the sixtieth minute
    assert hour.share() == pytest.approx(0.1)
    assert hour.hint() is None
    clock.pass_s(3 * 3600)
    assert hour.share() is None


def test_a_frame_leaves_in_the_sixtieth_minute_after_its_own(clock: HandClock) -> None:
    hour = AmbiguityHour(clock)
    hour.record(ambiguous=True)
    clock.pass_s(59 * 60)
    assert hour.share() == 1.0
    clock.pass_s(60)
    assert hour.share() is None


@given(st.lists(st.tuples(st.floats(0, 1500), st.booleans()), min_size=1, max_size=60), st.floats(0, 1e6))
def test_share_equals_that_of_a_list_of_all_frames(frames: Sequence[tuple[float, bool]], start_s: float) -> None:
    clock = HandClock(start_s)
    hour = AmbiguityHour(clock)
    kept: list[tuple[float, bool]] = []
    for pause_s, ambiguous in frames:
        clock.pass_s(pause_s)
        hour.record(ambiguous=ambiguous)
        kept.append((clock.now_s, ambiguous))
        recent = [was for moment_s, was in kept if moment_s // 60 > clock.now_s // 60 - 60]
        assert hour.share() == sum(recent) / len(recent)
