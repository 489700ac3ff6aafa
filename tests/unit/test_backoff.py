"""Waits between attempts: growing, jittered, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.backoff import Backoff


@given(st.integers(-1, 10_000))
def test_every_wait_is_between_the_first_and_the_longest(failures: int) -> None:
    assert 1.0 <= Backoff().delay_s(failures) <= 120.0


def test_waits_double_and_end_at_the_longest() -> None:
    backoff = Backoff()
    for failures in range(1, 7):
        assert 2 ** (failures - 1) <= backoff.delay_s(failures) <= 2**failures
    assert backoff.delay_s(20) == 120.0


def test_a_fleet_does_not_return_all_at_once() -> None:
    assert len({round(Backoff().delay_s(1), 3) for _ in range(50)}) > 25


def test_a_refused_login_waits_longest() -> None:
    assert all(108.0 <= Backoff().refused_s() <= 120.0 for _ in range(50))
