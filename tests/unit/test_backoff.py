"""Waits between attempts: growing, jittered, bounded."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.backoff import QUICK_RETRIES, Backoff, RecentFailures, RetryBudget
from edge_classifierd.clock import SystemClock


class ManualClock(SystemClock):
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@given(st.integers(-1, 10_000))
def test_every_wait_is_between_half_the_first_and_the_longest(failures: int) -> None:
    assert 1.0 <= Backoff().delay_s(failures) <= 120.0


@given(st.integers(1, 10_000), st.integers())
def test_waits_double_with_jitter_up_to_the_longest(failures: int, seed: int) -> None:
    whole_s = min(30.0, 0.5 * 2 ** min(failures - 1, 10))
    assert whole_s / 2 <= Backoff(0.5, 30.0).delay_s(failures, Random(seed)) <= whole_s


def test_a_fleet_does_not_return_all_at_once() -> None:
    for failures in (1, 20):
        assert len({round(Backoff().delay_s(failures), 3) for _ in range(50)}) > 25


def test_a_refused_login_waits_longest() -> None:
    assert all(108.0 <= Backoff().refused_s() <= 120.0 for _ in range(50))


def test_failures_before_the_window_are_not_counted() -> None:
    clock = ManualClock()
    recent = RecentFailures(clock, 600.0)
    for clock.now_s in (0.0, 300.0, 599.0):
        recent.add()
    assert (len(recent), recent.span_s) == (3, 599.0)
    clock.now_s = 650.0
    recent.add()
    assert (len(recent), recent.span_s) == (3, 350.0)


def test_a_device_that_fails_every_minute_is_soon_retried_rarely() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, Random(1))
    tries = 0
    while clock.now_s < 86_400:
        clock.now_s += 60 + budget.failed()
        tries += 1
        if tries == 21:
            assert budget.exhausted
    assert tries < 24 * 25


def test_a_rare_failure_is_retried_soon() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, Random(1))
    pauses = [budget.failed() for _ in range(QUICK_RETRIES)]
    assert all(0.18 <= pause <= 3.0 for pause in pauses)
    assert budget.failed() > 20
    clock.now_s += 3601
    assert budget.failed() == pytest.approx(0.22, abs=0.04)
    assert not budget.exhausted
